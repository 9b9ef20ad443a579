"""Score maps and metadata of a few dozen images on disk, and the command that scores them."""

import json
import os
import pathlib

import cv2
import numpy as np

from wsol_jax.evaluate import __main__ as evaluate
from wsol_jax.metrics.maps import prepare_map

ROOT = pathlib.Path(__file__).parents[2]
IDS = ["val/ILSVRC2012_val_00000001.JPEG", "a b/c d.jpg", "comma,in it.png", "plain"]
IDS += [f"class {i % 5}/{i:03}.jpg" for i in range(32)]


def blob_map(rng, box, size):
    """A bump on the box plus noise, (224, 224) float32 in [0, 1]."""
    x0, y0, x1, y1 = (v / s * 14 for v, s in zip(box, (*size, *size), strict=True))
    grid = np.arange(14) + 0.5
    bump = np.exp(
        -(((grid[None] - (x0 + x1) / 2) / (1 + x1 - x0)) ** 2)
        - ((grid[:, None] - (y0 + y1) / 2) / (1 + y1 - y0)) ** 2
    )
    return prepare_map(bump + 0.7 * rng.random((14, 14)))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))  # as published: no line end at the file's


def write_tree(root):
    """root/metadata and root/maps of a few dozen images; every third has two boxes."""
    rng = np.random.default_rng(0)
    sizes, boxes, labels = [], [], []
    for i, image_id in enumerate(IDS):
        width, height = map(int, rng.integers(60, 500, 2))
        found = []
        for _ in range(2 if i % 3 == 0 else 1):
            x0, y0 = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
            x1, y1 = int(rng.integers(x0 + 5, width)), int(rng.integers(y0 + 5, height))
            found.append((x0, y0, x1, y1))
        sizes.append(f"{image_id},{width},{height}")
        boxes += [f"{image_id},{','.join(map(str, box))}" for box in found]
        labels.append(f"{image_id},{i % 7}")
        name = image_id if i % 2 else os.path.splitext(image_id)[0]
        save(root / "maps" / f"{name}.npy", blob_map(rng, found[0], (width, height)))
    for name, lines in (
        ("image_ids", IDS),
        ("image_sizes", sizes),
        ("localization", boxes),
        ("class_labels", labels),
    ):
        write_lines(root / "metadata" / f"{name}.txt", lines)
    return root


def words(tree, *more):
    return [f"--scoremaps={tree / 'maps'}", f"--metadata={tree / 'metadata'}", *more]


def scored(tree, *more):
    out = tree / "figures.json"
    assert evaluate.main(words(tree, f"--out={out}", *more)) == 0
    return json.loads(out.read_text())


def refused(capsys, arguments):
    """The one sentence of a refused command."""
    assert evaluate.main(arguments) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def map_path(tree, image_id):
    path = tree / "maps" / f"{image_id}.npy"
    return path if path.is_file() else tree / "maps" / f"{os.path.splitext(image_id)[0]}.npy"


def write_masks(tree, plain):
    """Random masks as a plain folder or in OpenImages' layout; the truth at 224 pixels."""
    rng = np.random.default_rng(1)
    rows, truth = [], {}
    for i, image_id in enumerate(IDS):
        shape = tuple(map(int, rng.integers(50, 300, 2)))
        first = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.6
        second = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.7
        ignore = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.7
        small = [
            cv2.resize(m.astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST) > 0
            for m in (first, second, ignore)
        ]
        (tree / "masks").mkdir(exist_ok=True)
        if plain:
            mask = np.where(first | second, 1 + i % 3, np.where(ignore, 255, 0))
            path = tree / "masks" / f"{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)
        else:
            for name, mask in (("a", first), ("b", second), ("ignore", ignore)):
                cv2.imwrite(str(tree / "masks" / f"{i}{name}.png"), 255 * mask.astype(np.uint8))
            rows += [f"{image_id},{i}a.png,{i}ignore.png", f"{image_id},{i}b.png,"]
        truth[image_id] = (small[0] | small[1], small[2] & ~(small[0] | small[1]))
    return rows, truth
