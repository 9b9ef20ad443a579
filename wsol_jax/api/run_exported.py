"""Says what is in photos, and where: python run.py PHOTO [PHOTO ...]

Prints the likeliest class and a box; writes, here, PHOTO_heat.png and of a segmenter PHOTO_mask.png
(0 background, 1 + c class c; no CRF). Needs jax, flatbuffers, numpy, pillow and safetensors.
"""

import json
import pathlib
import sys

import numpy as np
from jax import export, jit
from PIL import Image, ImageOps
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no reader that starts programs


def area_weights(given: int, wanted: int) -> np.ndarray:
    """(wanted, given): the share of each old pixel in a new one along an axis."""
    new, old, scale = np.arange(wanted)[:, None], np.arange(given), given / wanted
    ends = np.minimum((new + 1) * scale, old + 1), np.maximum(new * scale, old)
    return np.clip(ends[0] - ends[1], 0, None) / scale


def neighbours(given: int, wanted: int) -> tuple[np.ndarray, ...]:
    """The two old pixels around each new one along an axis, and their weights in 1/2048."""
    centres = ((np.arange(wanted) + 0.5) * (given / wanted) - 0.5).astype(np.float32)
    low = np.floor(centres)
    share = (centres - low)[:, None]
    places = (np.clip(x, 0, given - 1).astype(int) for x in (low, low + 1))
    weights = (np.rint(x * 2048).astype(int) for x in (1 - share, share))
    return *places, *weights


def warp(photo: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: bilinear, or means over areas if a side shrinks by more than half."""
    pixels, (width, height) = np.asarray(photo).astype(int), photo.size
    if (width, height) == (size, size):
        return pixels.astype(np.uint8)
    if max(width, height) > 2 * size:
        rows, columns = area_weights(height, size), area_weights(width, size)
        pixels = np.einsum("ih,hwc,jw->ijc", rows, pixels, columns, optimize=True)
        return np.rint(pixels.astype(np.float32)).astype(np.uint8)
    # OpenCV's whole numbers, shifts and all.
    left, right, at_left, at_right = neighbours(width, size)
    upper, lower, at_upper, at_lower = neighbours(height, size)
    rows = (pixels[:, left] * at_left + pixels[:, right] * at_right) >> 4
    sums = (rows[upper] * at_upper[..., None] >> 16) + (rows[lower] * at_lower[..., None] >> 16)
    return ((sums + 2) >> 2).astype(np.uint8)


def largest_box(heat: np.ndarray, threshold: float) -> np.ndarray:
    """x0 y0 x1 y1, edges as shares of the photo, of the largest region above the threshold."""
    levels = (heat * 255).astype(np.uint8)
    above = levels > int(threshold * levels.max())
    (height, width), labels = above.shape, above * np.arange(1, above.size + 1).reshape(above.shape)
    while True:  # each region takes the highest of its pixels' numbers
        wide = np.pad(labels, 1)
        near = [wide[i : i + height, j : j + width] for i in range(3) for j in range(3)]
        labels, before = above * np.max(near, axis=0), labels
        if (labels == before).all():
            break
    y, x = np.nonzero(above & (labels == np.bincount(labels[above], minlength=1).argmax()))
    if not len(x):  # a flat map
        return np.zeros(4)
    ends = min(x.max() + 2, width), min(y.max() + 2, height)
    return np.array([x.min(), y.min(), *ends]) / [width, height, width, height]


def enlarge(values: np.ndarray, photo: Image.Image) -> np.ndarray:
    """(h, w) float32 bilinearly at the photo's size."""
    return np.asarray(Image.fromarray(values).resize(photo.size, Image.Resampling.BILINEAR))


def opened(path: str) -> Image.Image:
    """A photo, turned as its EXIF says."""
    try:
        return ImageOps.exif_transpose(Image.open(path, formats=FORMATS)).convert("RGB")
    except OSError as error:
        sys.exit(f"error: {path} cannot be read: {error}")


def main(paths: list[str]) -> None:
    """Runs the exported network on all photos at once."""
    model = json.loads((HERE / "model.json").read_text())
    network = jit(export.deserialize((HERE / "localize.stablehlo").read_bytes()).call)
    weights = load_file(HERE / "weights.safetensors")
    photos = [opened(path) for path in paths]
    images = np.stack([warp(photo, model["input"]["size"]) for photo in photos])
    found = {name: np.asarray(x) for name, x in network(weights, images).items()}
    for row, (path, photo) in enumerate(zip(paths, photos, strict=True)):
        best, heat = int(found["ranked"][row, 0]), found["heat"][row, 0]
        stem, region = pathlib.Path(path).stem, heat
        pixels = (enlarge(heat, photo) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"{stem}_heat.png")
        if model["segmenter"]:
            maps = found["maps"][row].transpose(2, 0, 1).copy()
            maps = np.stack([enlarge(x, photo) for x in maps])
            mask = np.argmax([1 - maps.sum(axis=0), *maps], axis=0).astype(np.uint8)
            Image.fromarray(mask).save(f"{stem}_mask.png")
            region = Image.fromarray((mask == 1 + best).astype(np.uint8))
            region = np.asarray(region.resize(heat.shape, Image.Resampling.NEAREST))
        box = largest_box(region, model["threshold"]) * [*photo.size, *photo.size]
        score = found["probabilities"][row, best]
        where = f"box {np.round(box, 1).tolist()}" if box.any() else "no box"
        print(f"{path}: {model['classes'][best]} {score:.4f}, {where}")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
