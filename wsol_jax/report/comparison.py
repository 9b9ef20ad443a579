"""The page that puts runs side by side."""

import dataclasses
import html
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from wsol_jax.base.files import write_whole
from wsol_jax.base.typed import as_typed
from wsol_jax.report import (
    cards,
    cases,
    confusion,
    downloads,
    gallery,
    pairs,
    photos,
    saved,
    shell,
    strips,
    svg,
    tables,
)
from wsol_jax.report.example import Example, Run
from wsol_jax.report.page import by_class_part, columns_of, lists_of, over_thresholds


def write_comparison(
    path: str | os.PathLike,
    runs: Mapping[str, Run],
    *,
    title: str = "",
    notes: Sequence[str] = (),
    photos: cases.Photos = lambda name, ids: {},
    most: int = 16,
) -> None:
    """Write a page of several runs side by side, on the images that all of them show.

    Args:
      runs: name -> run, in the order of the columns; the baselines come from their figures.
      title: heading; the names by default.
      notes: sentences shown under the figures, after those of ``pairs.obstacles``.
      photos: finds the photos of images that no gallery shows.
      most: how many images on which two runs differ most.
    """
    title = title or " and ".join(runs)
    keyed = {n: {(e.split, e.image_id): e for e in r.examples} for n, r in runs.items()}
    first = next(iter(keyed.values()), {})
    common = [key for key in first if all(key in mine for mine in keyed.values())]
    maps = cards.MapStore()
    index = {name: i for i, name in enumerate(runs)}
    ahead = pairs.shelves(runs, most // 2, photos)
    sections = pairs.section(ahead, maps, index)
    for split in dict.fromkeys(key[0] for key in common):
        pictured = [
            {n: mine[key] for n, mine in keyed.items()} for key in common if key[0] == split
        ]
        # Widest disagreement first: that is what a reader of two runs looks for.
        pictured.sort(key=_disagreement, reverse=True)
        note = "the images that all runs show, those on which the runs differ most first"
        sections.append(cards.section(split or "Examples", note, pictured, maps, index))
    segmented = strips.comparison(runs)
    columns = columns_of(runs)
    lists = lists_of(runs)
    differences = [(n, pairs.difference_table(n, runs)) for n in lists]
    warned = shell.notes(pairs.obstacles(runs), "warning")
    told = [*tables.remarks(columns), *notes]
    alike = pairs.comparable(runs)
    body = [
        shell.part(
            "Figures",
            warned
            + tables.html_table(columns, alike)
            + downloads.buttons(runs)
            + shell.notes(told),
        ),
        shell.part("Differences", shell.named(differences, len(lists))),
        over_thresholds(runs),
        by_class_part(runs),
        confusion.part(runs),
        shell.part("Training", f'<div class="charts">{svg.charts(_joined(runs))}</div>'),
        segmented or gallery.part(sections, runs),
        shell.part(
            "Record",
            "".join(shell.folded(f"{n}: configuration", r.config_text) for n, r in runs.items()),
        ),
    ]
    facts = "".join(
        f"<div><dt>{html.escape(n)}</dt><dd>{'' if r.classes else f'τ {r.threshold:.3g}, '}"
        f"{tables.duration(r.figures.get('seconds'))}</dd></div>"
        for n, r in runs.items()
    )
    taus = [run.threshold for run in runs.values()]
    shown = {(c.split, c.image_id) for *_, cards in ahead for card in cards for c in card.values()}
    words = f"{len({*shown, *common}):,} images"
    files = downloads.payload(runs)
    write_whole(path, shell.document(title, facts, body, maps, taus, words, files))


def compare_workdirs(
    path: str | os.PathLike, workdirs: Sequence[str] | Mapping[str, str], title: str = ""
) -> dict[str, Run]:
    """``write_comparison`` of finished work directories, named by their last folder.

    Args:
      workdirs: folders that hold report_data.npz, or name -> folder.
    Returns: the runs by name.
    Raises: UserError where a folder holds no report's data.
    """
    if not isinstance(workdirs, Mapping):
        plain = [os.path.normpath(os.fspath(w)) for w in workdirs]
        short = [os.path.basename(w) for w in plain]
        names = short if len(set(short)) == len(short) else [*map(as_typed, plain)]
        workdirs = dict(zip(names, plain, strict=True))
    runs = {name: _load(os.fspath(folder)) for name, folder in workdirs.items()}

    def find(name: str, image_ids: Iterable[str]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for folder in workdirs.values():
            missing = set(image_ids) - found.keys()
            if missing:
                found |= photos.read_photos(os.fspath(folder), name, missing)
        return found

    write_comparison(path, runs, title=title, photos=find)
    return runs


def _load(workdir: str) -> Run:
    """A finished run with its per-image results and maps, as far as its folder holds them."""
    run = saved.load(workdir)
    names = run.figures.get("test", {})
    scores = cases.load_scores(workdir, names)
    maps = {name: cases.load_maps(workdir, name) for name in scores}
    return dataclasses.replace(run, scores=scores, maps=maps)


def _disagreement(card: Mapping[str, Example]) -> float:
    ious = [e.iou for e in card.values() if e.iou is not None and np.isfinite(e.iou)]
    return max(ious) - min(ious) if ious else 0.0


def _joined(runs: Mapping[str, Run]) -> dict:
    """Curves that every run has, run by run in one chart: "loss" -> "loss/cam", "loss/spg"."""
    first = next(iter(runs.values()), None)
    names = [
        n for n in (first.curves if first else ()) if all(n in r.curves for r in runs.values())
    ]
    return {f"{n.replace('/', ' · ')}/{m}": r.curves[n] for n in names for m, r in runs.items()}
