"""What a network says of one photo, in the photo's own pixels."""

import base64
import dataclasses
import functools
import html
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from wsol_jax.api import coco, photos
from wsol_jax.base import remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Json
from wsol_jax.data.label_pictures import encode_classes
from wsol_jax.data.records import Record
from wsol_jax.metrics.boxes import least_score
from wsol_jax.report import encode, overlays

if TYPE_CHECKING:
    import supervision

_SHOWN = 480  # pixels a side of the picture in a notebook


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a network says of one photo.

    A photo is turned as its camera says (EXIF), and all pixels count in the turned photo.

    Attributes:
      name: of the photo: its file's, with the folders below the one that was given.
      size: (width, height) in pixels.
      class_names: of the run.
      probabilities: (C,) float32 of each class.
      classes: the indices of ``labels``.
      boxes: (N, 4) float64, x0 y0 x1 y1 edges in pixels: 0 to width, 0 to height; of each class in
        ``labels`` in turn, the largest first.
      box_classes: (N,) the class index of each box.
      threshold: what the boxes are cut at, as a share of a map's highest value.
      score_maps: class index -> (h, w) float32 in [0, 1], stretched over the whole photo; of
        ``labels`` and of ``label``.
      segmentation: (h, w) uint8 of 0 background, 1 + c class c, over the whole photo; None where
        the run is no segmenter.
      photo: where its pixels come from.
    """

    name: str
    size: tuple[int, int]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    classes: tuple[int, ...]
    boxes: np.ndarray
    box_classes: np.ndarray
    threshold: float
    score_maps: Mapping[int, np.ndarray]
    segmentation: np.ndarray | None
    photo: Record

    @property
    def best(self) -> int:
        """The index of ``label``."""
        return next(iter(self.score_maps))

    @property
    def label(self) -> str:
        """The likeliest class (of those that were asked for)."""
        return self.class_names[self.best]

    @property
    def score(self) -> float:
        """The probability of ``label``."""
        return float(self.probabilities[self.best])

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are in the photo, the likeliest first.

        Of a run whose images have one class, that one; of others, those above ``min_score``, of a
        segmenter those in its mask.
        """
        return tuple(self.class_names[c] for c in self.classes)

    @property
    def scores(self) -> dict[str, float]:
        """The probability of every class, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return {self.class_names[c]: float(self.probabilities[c]) for c in order}

    @property
    def box_labels(self) -> tuple[str, ...]:
        """The class of each box."""
        return tuple(self.class_names[c] for c in self.box_classes)

    @property
    def box_scores(self) -> np.ndarray:
        """(N,) float32: the probability of each box's class in the photo."""
        return self.probabilities[self.box_classes]

    @property
    def heatmap(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]: where ``label`` is."""
        return self.heat(self.best)

    def heat(self, index: int) -> np.ndarray:
        """The heat map of a class in ``labels``, by its index; see ``heatmap``."""
        return cv2.resize(self.score_maps[index], self.size, interpolation=cv2.INTER_LINEAR)

    @functools.cached_property
    def mask(self) -> np.ndarray:
        """(H, W) uint8, of a run of more than 254 classes uint16: 0 background, 1 + c class c.

        Of a segmenter, what it says; else where the heat of a class in ``labels`` is above the
        threshold, of several the hottest.
        """
        if self.segmentation is not None:
            found = cv2.resize(self.segmentation, self.size, interpolation=cv2.INTER_NEAREST)
            found.setflags(write=False)
            return found
        few = len(self.class_names) < UNLABELLED
        mask = np.zeros(self.size[::-1], np.uint8 if few else np.uint16)
        hottest = np.zeros(self.size[::-1], np.float32)
        for c in self.classes:
            heat = self.heat(c)
            own = (heat >= least_score(self.score_maps[c], self.threshold)) & (heat > hottest)
            mask[own], hottest[own] = 1 + c, heat[own]
        mask.setflags(write=False)
        return mask

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the photo; read again from its file.

        Raises:
          UserError: it is gone or damaged by now.
        """
        return photos.pixels(self.photo)

    def plot(self) -> Image.Image:
        """The photo with heat and boxes, or a segmenter's mask over it."""
        return Image.fromarray(self.drawn(self.image))

    def drawn(self, pixels: np.ndarray) -> np.ndarray:
        """The same over the photo's ``pixels``, (H, W, 3) uint8 RGB."""
        if self.segmentation is not None:
            pixels = overlays.paint_classes(pixels, self.mask)
        heat = None if self.segmentation is not None else self.heatmap
        captions = [f"{self.class_names[c]} {_percent(self.probabilities[c])}"
                    for c in self.box_classes]  # fmt: skip
        return overlays.overlay(pixels, heat, self.boxes, captions=captions)

    def save(self, folder: str | os.PathLike) -> list[pathlib.Path]:
        """Writes the pictures below a folder, and gives their paths.

        ``heatmaps/NAME.png`` (8 bits, the photo's size), ``overlays/NAME.jpg`` and ``masks/
        NAME.png``, the class of each pixel in the VOC colours (of more than 254 classes 16 bits
        without colours), 0 background. The suffix stays in the name: a.jpg and a.png are two.

        Raises:
          UserError: they cannot be written.
        """
        remote.refuse_url(folder, "folder")
        folder, pixels = pathlib.Path(folder), self.image
        files = {
            folder / "heatmaps" / f"{self.name}.png": encode.encode(
                overlays.quantise(self.heatmap), ".png"
            ),
            folder / "overlays" / f"{self.name}.jpg": encode.encode(
                self.drawn(pixels), ".jpg", quality=95
            ),
            folder / "masks" / f"{self.name}.png": _encode_mask(self.mask),
        }
        for path, data in files.items():
            write(path, data)
        return list(files)

    def to_coco(self) -> coco.Content:
        """The photo in COCO's layout, as pycocotools reads it: images, annotations, categories."""
        content = {"images": [], "annotations": [], "categories": coco.categories(self.class_names)}
        coco.append(content, *self.coco_entries())
        return content

    def coco_entries(self) -> tuple[dict[str, Json], list[dict[str, Json]]]:
        """The photo's entry and those of its boxes, without their numbers."""
        scored = zip(self.box_classes, self.boxes, self.box_scores, strict=True)
        objects = [
            coco.annotation(c, box, self.box_mask(i), score)
            for i, (c, box, score) in enumerate(scored)
        ]
        return coco.image(self.name, self.size, self.scores), objects

    def to_supervision(self) -> "supervision.Detections":
        """The boxes with their masks for the package supervision, which must be installed."""
        try:
            import supervision
        except ImportError:
            raise UserError("to_supervision() needs the package supervision: install it.") from None
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32).reshape(-1, 4),
            mask=np.array([self.box_mask(i) for i in range(len(self.boxes))], bool).reshape(
                -1, *self.size[::-1]
            ),
            confidence=self.box_scores.astype(np.float32),
            class_id=self.box_classes.astype(int),
            data={"class_name": np.array(self.box_labels, dtype=str)},
        )

    def box_mask(self, index: int) -> np.ndarray:
        """(H, W) bool: what of a box's class in ``mask`` lies in the box."""
        x0, y0, x1, y1 = self.boxes[index]
        inside = np.zeros(self.size[::-1], bool)
        rows, columns = (slice(int(a), int(np.ceil(b))) for a, b in ((y0, y1), (x0, x1)))
        inside[rows, columns] = self.mask[rows, columns] == 1 + self.box_classes[index]
        return inside

    def __repr__(self) -> str:
        boxes = f"{len(self.boxes)} box" + "es" * (len(self.boxes) != 1)
        width, height = self.size
        return f"<{self.name}: {self.label} {_percent(self.score)}, {boxes}, {width}x{height}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the photo with what was found in it."""
        pixels = self.drawn(self.image)
        data = base64.b64encode(encode.encode(encode.shrink(pixels, _SHOWN), ".jpg")).decode()
        first = list(self.scores.items())[:5]
        said = " &middot; ".join(f"{html.escape(name)} {_percent(p)}" for name, p in first)
        title = html.escape(f"{self.name}: {self.label} {_percent(self.score)}")
        return (
            f'<figure style="margin:0"><img alt="{title}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption><b>{title}</b><br><small>{said}</small></figcaption></figure>"
        )


def write(path: pathlib.Path, data: bytes | str, flag: str = "") -> None:
    """Writes a file whole. Raises UserError, which begins with ``flag``."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"{flag}{path} cannot be written: {error.strerror}.") from None


def _encode_mask(mask: np.ndarray) -> bytes:
    return encode_classes(mask) if mask.dtype == np.uint8 else encode.encode(mask, ".png")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
