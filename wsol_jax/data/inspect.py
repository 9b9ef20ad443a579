"""Every photo of a run's lists looked at: counts by class, what is odd, what stands twice.

No HTML here. Memory does not grow with the lists but for 24 bytes a photo.
"""

import array
import concurrent.futures
import dataclasses
from collections.abc import Sequence

import numpy as np

from wsol_jax.base.progress import Progress
from wsol_jax.base.threads import in_order, usable_cores
from wsol_jax.data.lists import Lists
from wsol_jax.data.look import ODD, WRONG, Look, look
from wsol_jax.data.records import LeftOut, Source
from wsol_jax.data.summary import FEW, left_out

EXAMPLES = 20  # names of a finding
SHOWN = 6  # photos of a finding, or of a class in a list, that a page shows
_MOST = 360  # photos of all classes and lists that a page shows

Place = tuple[int, int]  # number of the list, index of the record


@dataclasses.dataclass
class Finding:
    """Something about some images.

    Attributes:
      text: follows the number: "photos of 0 bytes".
      wrong: it needs mending; others are good to know.
      examples: (name, what in particular); ``places``: of those that a page can show.
    """

    text: str
    wrong: bool
    count: int = 0
    examples: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    places: list[Place] = dataclasses.field(default_factory=list)

    def add(self, name: str, detail: str, place: Place | None = None) -> None:
        """Counts one."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((name, detail))
        if place is not None and len(self.places) < SHOWN:
            self.places.append(place)


@dataclasses.dataclass
class Counts:
    """What a list holds.

    Attributes:
      images, boxes, masks: (C,) of each class: images labelled so, boxes, masks that show it.
      boxed, masked: images with a box, with a mask. bare: images without a label.
      shown: records of each class that a page shows.
    """

    name: str
    class_names: tuple[str, ...]
    photos: int
    images: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    boxed: int = 0
    masked: int = 0
    bare: int = 0
    shown: dict[int, list[int]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Inspection:
    """What was found of all lists; ``sources`` are those of ``lists``, in order."""

    sources: list[Source]
    lists: list[Counts]
    findings: list[Finding]
    left_out: tuple[LeftOut, ...]
    about: str

    @property
    def wrong(self) -> int:
        """How many findings need mending."""
        return sum(finding.wrong for finding in self.findings)


def inspect(lists: Lists) -> Inspection:
    """Reads every photo, box and mask of the lists, in threads, with a bar."""
    named = {s.name: s for s in (lists.train, lists.tune, *lists.tests.values()) if s is not None}
    sources = list(named.values())
    tally = _Tally(sources)
    with concurrent.futures.ThreadPoolExecutor(max(usable_cores(), 2)) as pool:
        for number, source in enumerate(sources):
            with Progress(f"check {source.name}", len(source)) as bar:
                looks = in_order(pool, lambda i, s=source: look(s, i), range(len(source)))
                for index, seen in enumerate(looks):
                    tally.add(number, index, seen)
                    bar.update()
    findings = [*tally.findings.values(), *tally.same(), *_thin(tally.lists)]
    findings = sorted((f for f in findings if f.count), key=lambda f: not f.wrong)
    about = getattr(lists.train, "about", "")
    return Inspection(sources, tally.lists, findings, left_out(lists), about)


class _Tally:
    """Counts of what was seen, and a hash of each photo."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self.findings = {key: Finding(text, True) for key, text in WRONG.items()}
        self.findings |= {key: Finding(text, False) for key, text in ODD.items()}
        zeros = lambda source: np.zeros(len(source.class_names), np.int64)
        self.lists = [
            Counts(s.name, tuple(s.class_names), len(s), zeros(s), zeros(s), zeros(s))
            for s in sources
        ]
        groups = sum(len(source.class_names) for source in sources)
        self._quota = max(1, min(SHOWN, _MOST // max(groups, 1)))
        self._left = _MOST
        # Of each readable photo: its pixels' hash, its labels' hash, list and record in one number.
        self._pixels, self._labels, self._places = (array.array("Q") for _ in range(3))

    def add(self, number: int, index: int, seen: Look) -> None:
        """Enters one image."""
        counts = self.lists[number]
        counts.images[list(seen.labels)] += 1
        np.add.at(counts.boxes, np.array(seen.boxes, np.int64), 1)
        counts.masks[list(seen.mask or ())] += 1
        counts.boxed += bool(seen.boxes)
        counts.masked += seen.mask is not None
        counts.bare += not seen.labels and "truth" not in seen.found
        for key, detail in seen.found.items():
            if key in ("mask_label", "box_label"):
                detail = ", ".join(counts.class_names[int(c)] for c in detail.split())
            self.findings[key].add(seen.image_id, detail, (number, index) if seen.pixels else None)
        if not seen.pixels:
            return
        for c in seen.labels:
            shown = counts.shown.setdefault(c, [])
            if len(shown) < self._quota and self._left > 0:
                shown.append(index)
                self._left -= 1
        self._pixels.append(seen.pixels)
        self._labels.append(hash(seen.labels) & (2**64 - 1))
        self._places.append(number << 40 | index)

    def same(self) -> list[Finding]:
        """Photos of the same pixels: in several lists, under different labels, or just twice."""
        across = Finding("pictures that stand in several lists, so that figures are too good", True)
        labels = Finding("pictures that stand in a list twice, under different labels", True)
        twice = Finding("pictures that stand in a list twice", False)
        pixels = np.frombuffer(self._pixels, np.uint64) if self._pixels else np.zeros(0, np.uint64)
        order = np.argsort(pixels, kind="stable")
        # No hash is 0, so the first stands apart from what is put before it.
        starts = np.flatnonzero(np.diff(pixels[order], prepend=np.uint64(0)) != 0)
        ends = np.append(starts[1:], len(order))
        several = ends - starts > 1
        for start, end in zip(starts[several], ends[several], strict=True):
            group = [int(i) for i in order[start:end]]
            numbers = {self._places[i] >> 40 for i in group}
            if len(numbers) > 1:
                finding = across
            else:
                finding = labels if len({self._labels[i] for i in group}) > 1 else twice
            self._add_group(finding, group, across=len(numbers) > 1)
        return [across, labels, twice]

    def _add_group(self, finding: Finding, group: list[int], across: bool) -> None:
        """Enters a picture of several places, named by one of each list, or the first two."""
        places = [(self._places[i] >> 40, self._places[i] & (2**40 - 1)) for i in group]
        if across:
            places = list({number: (number, index) for number, index in reversed(places)}.values())
            places.reverse()
        names = []
        for number, index in places[:3]:
            source = self._sources[number]
            names.append(f"{source.name}: {source[index].image_id}")
        finding.add(" = ".join(names), "", places[0])


def _thin(lists: Sequence[Counts]) -> list[Finding]:
    """Classes of few photos to train on, and those that another list lacks."""
    few = Finding(f"classes with fewer than {FEW} photos to train on", True)
    absent = Finding("classes that a list has no photo of", False)
    train, *others = lists
    for c, images in enumerate(train.images):
        if images < FEW:
            few.add(train.class_names[c], f"{int(images)}")
    for counts in others:
        for c in np.flatnonzero(counts.images == 0):
            absent.add(counts.class_names[c], counts.name)
    return [few, absent]
