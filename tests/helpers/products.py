"""What a finished run leaves, made by hand in a second, and mutations of its files."""

import io
import json
import zipfile

import cv2
import numpy as np

from configs import cam
from helpers.discs import add_discs
from wsol_jax.data import label_formats
from wsol_jax.data.pseudo_labels import LabelFolder, summary_path
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.report import cases, page
from wsol_jax.runs import figures, workdirs
from wsol_jax.stages import product

IDS = tuple(f"part/{name}" for name in "pqrst")
CLASSES = ("cat", "dog")
STAGE = "regions"


def write_run(folder, contrast=0.5):
    """A run of one training that was scored, and beside it the folder of a label stage."""
    rng = np.random.default_rng(0)
    scores, examples, maps = BoxScores(CLASSES), [], []
    for i, name, score_map in add_discs(scores, IDS, contrast, rng):
        hits = ("top1_acc", "top5_acc", "top1_loc", "top5_loc", "top5_star_loc")
        scores.hits.update(name, dict.fromkeys(hits, bool(i % 2)))
        scores.classes.update([name], np.array([[i % 2, 0]]))
        scores.ious.update([name], np.array([contrast * i / 5]))
        scores.truth.update([name], [np.array([[3, 4, 20, 30]])])
        maps.append(cv2.resize(score_map, (7, 7)))
        photo = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        box = np.array([0.2, 0.2, 0.6, 0.8], np.float32)
        true = np.array([[0.1, 0.2, 0.5, 0.9]], np.float32)
        examples.append(
            page.Example(name, photo, score_map, true, box, 0.5, "cat", "dog", split="list")
        )
    found = {"test": {"list": scores.figures(0.5)}, "threshold": 0.5, "steps": 3, "seconds": 2.5}
    found |= {"threshold_from": "a tune list", "train_seconds": 1.5, "kind": "boxes"}
    workdirs.write(folder, cam.get_config("embedded"), CLASSES)
    scores.save(folder / "scores" / "list.npz")
    cases.save_maps(folder / "maps" / "list.npz", IDS, maps)
    figures.write(folder, found)
    (folder / "checkpoints" / "3").mkdir(parents=True)
    rows = [{"step": i, "train/loss": 1.0 / i} for i in (1, 2, 3)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.write_report(
        folder / "report.html",
        title="t",
        config_text="c",
        figures=found,
        curves={"loss": [(1, 1.0)]},
        examples=examples,
        threshold=0.5,
        scores={"list": scores},
    )
    _write_labels(folder / STAGE, rng)
    return folder


def _write_labels(folder, rng):
    place = LabelFolder(folder, {STAGE: label_formats.regions()})
    for name in IDS:
        for path, content in place.encode(
            name, {STAGE: rng.integers(0, 4, (6, 8)).astype(np.int32)}
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    product.write_inputs(folder, {"maps": "12ab", "labels": "34cd"})
    product.write_figures(folder, {"images": 5, "regions": 3.5, "seconds": 1.0})
    summary = {"images": 5, "unreadable": [], "regions": 3.5, "sha256": "12ab"}
    summary["products"] = {STAGE: {"kind": "regions", "size": 0}}
    summary_path(folder).write_text(json.dumps(summary))


def damage(draw, content: bytes) -> bytes:
    """Wrong bytes, as a bad disk makes them."""
    kind = draw.choice(("flip", "flips", "cut", "zeros", "empty", "insert"))
    data = bytearray(content)
    at = draw.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << draw.randrange(8)
    elif kind == "flips":
        for _ in range(8):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "zeros":
        end = min(at + 64, len(data))
        data[at:end] = bytes(end - at)
    elif kind == "empty":
        data.clear()
    else:
        data[at:at] = bytes(draw.randrange(256) for _ in range(5))
    return bytes(data)


VALUES = (None, True, -1, 0, 1, 0.12345, 1e300, 10**30, float("nan"), "", "x", "../../x", [], [1])
VALUES += ({}, {"a": 1}, [[1, 2], 3], {"": {"": {}}})


def edit(draw, content):
    """JSON with one value, key or type changed; a new object."""
    content = json.loads(json.dumps(content))
    places = list(_places(content))
    if not places:
        return draw.choice(VALUES)
    owner, key = draw.choice(places)
    kind = draw.choice(("value", "value", "drop", "add", "rename"))
    if kind == "value":
        owner[key] = draw.choice(VALUES)
    elif kind == "drop":
        del owner[key]
    elif isinstance(owner, list):
        owner.append(draw.choice(VALUES))
    elif kind == "add":
        owner["unknown"] = draw.choice(VALUES)
    else:
        owner[f"{key}x"] = owner.pop(key)
    return content


def _places(content):
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs:
        yield content, key
        if isinstance(value, dict | list):
            yield from _places(value)


def edit_arrays(draw, content: bytes) -> bytes:
    """An .npz with one array of another shape, dtype, name or content, or without it."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = draw.choice(sorted(arrays))
    kind = draw.choice(("drop", "rename", "shape", "dtype", "fewer", "meta", "rows"))
    value = arrays.pop(name)
    if kind == "rename":
        arrays[f"{name}x"] = value
    elif kind == "shape":
        arrays[name] = value.reshape(-1, 1, 1)
    elif kind == "dtype":
        kinds = ("U3", "S2") if value.dtype.kind == "U" else ("U3", "f4", "c8", "?")
        arrays[name] = value.astype(draw.choice(kinds))
    elif kind == "fewer":
        arrays[name] = value[:-1] if value.ndim else value
    elif kind == "rows":
        arrays[name] = np.zeros((3, 2, 5), np.float64)
    elif kind == "meta":
        arrays[name] = value
        if "meta" in arrays:
            meta = edit(draw, json.loads(bytes(arrays["meta"])))
            arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def is_zip(path) -> bool:
    return path.suffix == ".npz" and zipfile.is_zipfile(path)
