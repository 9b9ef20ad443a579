"""``--mode=predict``: any folder of photos -> classes, boxes, heat maps and overlays."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from absl import logging

from wsol_jax import methods
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_whole
from wsol_jax.data.decode import decode_rgb
from wsol_jax.data.label_pictures import encode_classes
from wsol_jax.data.records import Record
from wsol_jax.data.sources.folder import EXTENSIONS
from wsol_jax.evaluate.boxes import DEFAULT_THRESHOLD
from wsol_jax.evaluate.localize import LocalizedImage, localize_list
from wsol_jax.evaluate.photo_size import apply_crf, segment_probabilities
from wsol_jax.metrics.boxes import boxes_from_score_map
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map
from wsol_jax.report import encode, overlays, page
from wsol_jax.report.example import PHOTO_SIDE, Example
from wsol_jax.runs import figures, workdirs
from wsol_jax.runs.opened import Network
from wsol_jax.runs.plan import restore_variables, without_weights

_SHOWN = 48  # photos on the page
_SEGMENTED = 500  # pixels: what the CRF's defaults are meant for


class Photos:
    """A folder of photos, searched with its sub-folders, or one photo, as a source.

    Raises:
      UserError: no such place, or no photo in it.
    """

    name = "photos"

    def __init__(self, place: pathlib.Path, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        if place.is_file():
            self.root, self._names = place.parent, [place.name]
        elif place.is_dir():
            self.root = place
            found = sorted(p for p in place.rglob("*") if p.suffix.lower() in EXTENSIONS)
            hidden = lambda p: any(part.startswith(".") for part in p.relative_to(place).parts)
            self._names = [str(p.relative_to(place)) for p in found if not hidden(p)]
        else:
            raise UserError(f"--images={place}: no such folder or file.")
        if not self._names:
            raise UserError(f"--images={place}: no photo in it ({', '.join(EXTENSIONS)}).")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        name = self._names[index]
        return Record(image_id=name, image=str(self.root / name), labels=(0,))

    def mask(self, index: int) -> None:
        return None


def run_threshold(config: Any, workdir: pathlib.Path) -> float:
    """The box threshold that the run's evaluation chose; where it had none, the config's, or 0.2.

    Raises:
      UserError: metrics.json is damaged.
    """
    found = figures.read_finished(workdir)
    if found is not None:
        return float(found["threshold"])
    if config.eval.threshold >= 0:
        return float(config.eval.threshold)
    logging.warning("%s has no metrics.json: the box threshold is %.1f", workdir, DEFAULT_THRESHOLD)
    return DEFAULT_THRESHOLD


def predict(workdir: pathlib.Path, images: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
    """Localizes the likeliest class of every photo.

    Writes, below ``out``: ``predictions.json`` in COCO's layout (bbox is x, y, width, height in the
    photo's pixels, EXIF orientation applied; score is the class's probability; each image also has
    its five likeliest classes), ``heatmaps/NAME.png`` (8 bits, the photo's size), ``overlays/
    NAME.jpg`` and ``index.html``, a page with a slider over the box threshold. A segmenter also
    ``masks/NAME.png``, the class of each of the photo's pixels in the VOC colours, 0 background.

    Args:
      workdir: of a trained run.
      images: a folder, searched with its sub-folders, or one photo.
      out: made if absent; files of the same names are replaced.

    Returns:
      predictions.json's content.

    Raises:
      UserError: no run, no photos, more unreadable ones than data.max_corrupt, or ``out`` refuses.
    """
    folder = workdirs.network_folder(workdir)
    config, class_names = workdirs.load_to_run(folder)
    photos = Photos(images, class_names)
    mesh = sharding.data_mesh()
    config = without_weights(config)  # the checkpoint has them
    with config.unlocked():
        config.eval = workdirs.load(workdir)[0].eval  # as the run was scored last
        config.eval.class_scores = ""
    method = methods.build(config, len(class_names))
    variables, step = restore_variables(config, folder, method, mesh)
    threshold = run_threshold(config, workdir)
    logging.info("%s at step %d, box threshold %.3f", config.method, step, threshold)
    result: dict[str, Any] = {
        "info": {
            "description": f"wsol_jax {config.method}, {workdir}, step {step}",
            "threshold": threshold,
        },
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(class_names)],
    }
    shown: list[Example] = []
    segmented = False
    network = Network(config, method, variables, mesh)
    for image in localize_list(network, photos, parts=False, exif=True, what="predict"):
        record = photos[image.index]
        pixels = decode_rgb(record.image, record.image_id, exif=True)
        classes = _segment(image, pixels, config.eval.crf) if image.segmented else None
        example = _write_one(out, photos, image, pixels, threshold, result, classes)
        if classes is not None:
            segmented = True
            example = _write_mask(out, photos, image, classes, example)
        if len(shown) < _SHOWN:
            shown.append(example)
    if not result["images"]:
        raise UserError(f"--images={images}: none of its {len(photos)} photos can be read.")
    skipped = len(photos) - len(result["images"])
    _write(out / "predictions.json", json.dumps(result, indent=1))
    page.write_report(
        out / "index.html",
        title=f"{len(result['images'])} photos",
        config_text=json.dumps(config.to_dict(), indent=1),
        figures={"test": {}},
        curves={},
        examples=shown,
        threshold=threshold,
        worst=0,
        sample=_SHOWN,
        facts={"Run": str(workdir), "Method": config.method, "Step": str(step)},
        classes=class_names if segmented else (),
        notes=[f"{skipped} unreadable photos were skipped."] if skipped else [],
    )
    print(f"{len(result['images'])} photos -> {out / 'predictions.json'}, {out / 'index.html'}")
    if skipped:
        print(f"{skipped} could not be read; their names stand above")
    return result


def _write_one(
    out: pathlib.Path,
    photos: Photos,
    image: LocalizedImage,
    pixels: np.ndarray,
    threshold: float,
    result: dict[str, Any],
    classes: np.ndarray | None,
) -> Example:
    """One photo's files and its entries in ``result``.

    ``classes``: a segmenter's mask, whose region of the likeliest class the box is drawn around.
    """
    record = photos[image.index]
    width, height = image.size
    score_map = prepare_map(image.class_maps[0])
    best = int(image.ranked[0])
    drawn_around = score_map
    if classes is not None and (classes == 1 + best).any():
        region = (classes == 1 + best).astype(np.float32)
        drawn_around = cv2.resize(region, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_NEAREST)
    box = boxes_from_score_map(drawn_around, [threshold])[0, 0]
    # Inclusive corners of the map's cells -> edges in the photo's pixels.
    scale = np.array([width, height, width, height]) / MAP_SIZE
    x0, y0, x1, y1 = (box + (0, 0, 1, 1)) * scale
    name = photos.class_names[best]
    score = float(image.probabilities[best])
    identity = len(result["images"]) + 1
    result["images"].append(
        {
            "id": identity,
            "file_name": record.image_id,
            "width": width,
            "height": height,
            "classes": [
                {"name": photos.class_names[c], "score": float(image.probabilities[c])}
                for c in map(int, image.ranked)
            ],
        }
    )
    result["annotations"].append(
        {
            "id": identity,
            "image_id": identity,
            "category_id": best + 1,
            "bbox": [round(float(v), 2) for v in (x0, y0, x1 - x0, y1 - y0)],
            "area": round(float((x1 - x0) * (y1 - y0)), 2),
            "iscrowd": 0,
            "score": score,
        }
    )
    heat = cv2.resize(score_map, (width, height), interpolation=cv2.INTER_LINEAR)
    # The suffix stays in the name: a.jpg and a.png are two photos.
    _write_image(out / "heatmaps" / f"{record.image_id}.png", overlays.quantise(heat))
    drawn = overlays.overlay(
        pixels, heat, np.array([[x0, y0, x1, y1]]), captions=[f"{name} {100 * score:.0f} %"]
    )
    _write_image(out / "overlays" / f"{record.image_id}.jpg", drawn[..., ::-1])
    fractions = np.array([x0, y0, x1, y1]) / np.array([width, height, width, height])
    return Example(
        image_id=record.image_id,
        image=encode.shrink(pixels, PHOTO_SIDE),  # 48 photos of 12 megapixels would be 1.7 GB
        score_map=score_map,
        true_boxes=np.zeros((0, 4)),
        box=fractions,
        iou=None,
        label="",
        predicted=f"{name} {100 * score:.0f} %",
        split="Photos",
    )


def _segment(image: LocalizedImage, pixels: np.ndarray, crf: Any) -> np.ndarray:
    """(H, W) uint8 classes of a photo, found on at most _SEGMENTED pixels a side."""
    small = encode.shrink(pixels, _SEGMENTED)
    probabilities = segment_probabilities(image.maps, small.shape[1::-1])
    classes = apply_crf(probabilities, small, crf).argmax(axis=-1).astype(np.uint8)
    return cv2.resize(classes, image.size, interpolation=cv2.INTER_NEAREST)


def _write_mask(
    out: pathlib.Path, photos: Photos, image: LocalizedImage, classes: np.ndarray, example: Example
) -> Example:
    """A segmenter's mask of one photo, and the example that shows it."""
    record = photos[image.index]
    _write(out / "masks" / f"{record.image_id}.png", encode_classes(classes))
    painted = overlays.paint_classes(example.image, classes)
    found = ", ".join(photos.class_names[c - 1] for c in np.unique(classes) if c)
    return dataclasses.replace(
        example, label=found, predicted=found, pictures={"segmentation": painted}
    )


def _write_image(path: pathlib.Path, pixels: np.ndarray) -> None:
    encoded, data = cv2.imencode(path.suffix, pixels)
    assert encoded, path
    _write(path, data.tobytes())


def _write(path: pathlib.Path, data: bytes | str) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written: {error.strerror}.") from None
