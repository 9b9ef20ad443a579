"""report_data.npz: what a page shows, beside the page, so that pages can be put side by side."""

import json
import os
from collections.abc import Mapping

import cv2
import numpy as np

from wsol_jax.base.errors import UserError
from wsol_jax.base.files import write_arrays
from wsol_jax.base.stored import read_arrays, reading
from wsol_jax.report import encode, overlays
from wsol_jax.report.example import PHOTO_SIDE, Example, Run
from wsol_jax.runs import figures as run_figures
from wsol_jax.runs.figures import AGAIN

FILE = "report_data.npz"
_VERSION = 1


def save(path: str, run: Run) -> None:
    """Write a run as arrays and one JSON text, without pickles; colours as JPEG, maps in 8 bits."""
    arrays: dict[str, np.ndarray] = {}
    entries = []
    for i, example in enumerate(run.examples):
        arrays[f"{i}/image"] = _packed(example.image)
        arrays[f"{i}/score_map"] = overlays.quantise(example.score_map)
        arrays[f"{i}/true_boxes"] = np.reshape(example.true_boxes, (-1, 4)).astype(np.float32)
        for k, picture in enumerate(example.pictures.values()):
            arrays[f"{i}/picture{k}"] = _packed(picture)
        entries.append(
            {
                "image_id": example.image_id,
                "split": example.split,
                "label": example.label,
                "labels": list(example.labels),
                "predicted": example.predicted,
                "box": None if example.box is None else [float(v) for v in example.box],
                "iou": _number(example.iou),
                "score": _number(example.score),
                "pictures": [
                    [name, bool(np.issubdtype(p.dtype, np.floating))]
                    for name, p in example.pictures.items()
                ],
            }
        )
    meta = {
        "version": _VERSION,
        "title": run.title,
        "config_text": run.config_text,
        "facts": dict(run.facts),
        "threshold": float(run.threshold),
        "classes": list(run.classes),
        "totals": {name: int(count) for name, count in run.totals.items()},
        "voc_colours": run.voc_colours,
        "figures": plain(run.figures),
        "curves": {k: [[int(s), _number(v)] for s, v in c] for k, c in run.curves.items()},
        "examples": entries,
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write_arrays(path, arrays)


def load(workdir: str) -> Run:
    """Read what ``save`` wrote into a finished work directory.

    Raises: UserError where the file is absent or not of this kind.
    """
    path = os.path.join(workdir, FILE)
    if not os.path.isfile(path):
        raise UserError(f"{workdir}: no {FILE} here; a finished run or --mode=evaluate writes it")
    with reading(path, AGAIN):
        arrays = read_arrays(path, AGAIN)
        meta = json.loads(bytes(arrays["meta"]))
        if meta["version"] != _VERSION:
            raise UserError(f"{path}: version {meta['version']}, expected {_VERSION}")
        run_figures.check(meta["figures"], f"{path}: ")
        if not 0 <= meta["threshold"] < 1:
            raise ValueError(f"threshold: expected 0 to below 1, got {meta['threshold']!r}")
        return Run(
            figures=meta["figures"],
            examples=[_example(i, e, arrays) for i, e in enumerate(meta["examples"])],
            threshold=float(meta["threshold"]),
            curves={k: [_point(*p) for p in c] for k, c in meta["curves"].items()},
            title=_text(meta["title"]),
            config_text=_text(meta["config_text"]),
            classes=tuple(map(_text, meta.get("classes", ()))),
            facts={_text(k): _text(v) for k, v in meta["facts"].items()},
            totals={_text(k): int(v) for k, v in meta.get("totals", {}).items()},
            voc_colours=bool(meta.get("voc_colours", True)),  # older runs lack the field
        )


def plain(value):
    """Figures as JSON can hold them: numpy scalars and arrays become numbers and lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value.item() if hasattr(value, "item") else value


def _example(i: int, entry: Mapping, arrays) -> Example:
    pictures = {
        name: _unpacked(arrays[f"{i}/picture{k}"], is_map)
        for k, (name, is_map) in enumerate(entry["pictures"])
    }
    return Example(
        image_id=_text(entry["image_id"]),
        image=_unpacked(arrays[f"{i}/image"]),
        score_map=_unpacked(arrays[f"{i}/score_map"], is_map=True),
        true_boxes=np.reshape(arrays[f"{i}/true_boxes"], (-1, 4)),
        box=None if entry["box"] is None else np.reshape(entry["box"], 4).astype(np.float32),
        iou=_number(entry["iou"]),
        score=_number(entry.get("score")),
        label=_text(entry["label"]),
        labels=tuple(map(_text, entry.get("labels", ()))),  # older runs lack them
        predicted=_text(entry["predicted"]),
        pictures=pictures,
        split=_text(entry["split"]),
    )


def _text(value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {str(value)[:80]!r}")
    return value


def _point(step, value) -> tuple[int, float | None]:
    return int(step), _number(value)


def _number(value) -> float | None:
    return None if value is None else float(value)


def _packed(picture: np.ndarray) -> np.ndarray:
    """What is stored of a photo, a float map or a mask: a JPEG file's bytes, 8 bits, the mask."""
    if picture.ndim == 3:
        photo = encode.shrink(picture, PHOTO_SIDE)
        return np.frombuffer(encode.encode(photo, ".jpg", 90), np.uint8)
    return overlays.quantise(picture) if np.issubdtype(picture.dtype, np.floating) else picture


def _unpacked(stored: np.ndarray, is_map: bool = False) -> np.ndarray:
    if is_map:  # floats that quantise back to the same bits: a quarter step above the floor
        return np.minimum((stored.astype(np.float32) + 0.25) / 255, 1).astype(np.float32)
    if stored.ndim == 1:
        return cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return stored  # a mask, or a painted photo of an older file
