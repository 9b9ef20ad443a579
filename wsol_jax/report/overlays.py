"""Pictures of what a network saw: heat maps, masks and boxes painted over photos."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.transforms import WHOLE, cut_labels
from wsol_jax.report.colours import class_colours
from wsol_jax.report.example import PHOTO_SIDE

# Okabe and Ito's colour-blind safe set, lightened to stand out on dark heat; RGB.
TRUTH = (0, 224, 150)
OURS = (255, 176, 0)
CASING = (16, 16, 16)
# Guidance masks: background, object, ignored.
MASK_COLOURS = {0: (36, 52, 94), 1: (255, 176, 0), UNLABELLED: (176, 176, 184)}


def quantise(score_map: np.ndarray) -> np.ndarray:
    """Score map as 8 bits, floor(255 s): (h, w) floats in [0, 1] -> (h, w) uint8; NaN becomes 0."""
    clean = np.nan_to_num(np.asarray(score_map, np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return (np.clip(clean, 0, 1) * 255).astype(np.uint8)


def colour_heat(score_map: np.ndarray) -> np.ndarray:
    """Score map in the perceptually uniform inferno colours.

    Args:
      score_map: (h, w), floats in [0, 1] or uint8 in 0..255.
    Returns: (h, w, 3) uint8 RGB.
    """
    grey = score_map if score_map.dtype == np.uint8 else quantise(score_map)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def colour_mask(mask: np.ndarray) -> np.ndarray:
    """Guidance mask in colours: dark blue background, orange object, grey ignored.

    Args:
      mask: (h, w) bool or uint8: 0 background, 255 ignored, any other value object.
    Returns: (h, w, 3) uint8 RGB.
    """
    mask = np.asarray(mask)
    out = np.empty((*mask.shape, 3), np.uint8)
    out[...] = MASK_COLOURS[1]
    out[mask == 0] = MASK_COLOURS[0]
    if mask.dtype != np.bool_:
        out[mask == UNLABELLED] = MASK_COLOURS[UNLABELLED]
    return out


def paint_classes(image: np.ndarray, classes: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """Photo under the classes of its pixels, in the page's colours; what has no class stays grey.

    Args:
      image: (H, W, 3) uint8 RGB.
      classes: (h, w) uint8: 0 background, where the photo is dimmed; 1 + c class c; 255 ignored or
        unlabelled, where it loses its colour.
      alpha: 0 the photo, 1 the colours alone.
    Returns: (H, W, 3) uint8 RGB.
    """
    size = image.shape[1::-1]
    classes = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST)
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    painted = (1 - alpha) * grey + alpha * class_colours()[classes]
    unknown = (classes == UNLABELLED)[..., None]
    return np.where(unknown, 160 + grey * 0.37, painted).round().astype(np.uint8)


def outline_regions(image: np.ndarray, ids: np.ndarray, side: int = PHOTO_SIDE) -> np.ndarray:
    """Photo with the borders of its regions in fine lines.

    Args:
      image: (H, W, 3) uint8 RGB.
      ids: (h, w) whole numbers, a region each, over the whole photo.
      side: pixels of the longer side, so that lines are as fine on every photo.
    Returns: (H', W', 3) uint8 RGB.
    """
    scale = side / max(image.shape[:2])
    size = [max(1, round(n * scale)) for n in image.shape[1::-1]]
    out = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    ids = cut_labels(ids, WHOLE, out.shape[:2])
    border = np.zeros(ids.shape, bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    out[border] = OURS
    return out


def overlay(
    image: np.ndarray,
    score_map: np.ndarray | None,
    boxes: np.ndarray,
    true_boxes: np.ndarray | None = None,
    captions: Sequence[str] = (),
    alpha: float = 0.4,
) -> np.ndarray:
    """Photo with the heat over it, our boxes dashed in orange and true boxes solid in green.

    Args:
      image: (H, W, 3) uint8 RGB.
      score_map: (h, w) floats in [0, 1], stretched over the whole image; None leaves the photo.
      boxes: (N, 4) ours, x0 y0 x1 y1 in pixels of ``image``.
      true_boxes: (M, 4) in the same frame, or None.
      captions: a text for each of the first boxes, written inside its upper left corner.
      alpha: 0 the photo, 1 the heat alone. Between them the heat is added as light ("screen") to
        the dimmed photo, so that cold places keep their own colours, as in the report.
    Returns: (H, W, 3) uint8 RGB, the size of ``image``.
    """
    height, width = image.shape[:2]
    out = image
    if score_map is not None:
        clean = np.nan_to_num(np.asarray(score_map, np.float32))
        smooth = cv2.resize(clean, (width, height), interpolation=cv2.INTER_LINEAR)
        out = _screen(image, colour_heat(smooth), alpha)
    canvas = Image.fromarray(np.ascontiguousarray(out))
    draw = ImageDraw.Draw(canvas)
    stroke = max(1, round(max(height, width) / 160))
    for box in np.reshape(() if true_boxes is None else true_boxes, (-1, 4)):
        _rectangle(draw, box, (width, height), TRUTH, stroke, dash=None)
    drawn: list[tuple[float, float, float, float]] = []
    for index, box in enumerate(np.reshape(boxes, (-1, 4))):
        _rectangle(draw, box, (width, height), OURS, stroke, dash=5 * stroke)
        if index < len(captions):
            drawn.append(_caption(draw, box, captions[index], (width, height), drawn))
    return np.asarray(canvas)


def _screen(photo: np.ndarray, heat: np.ndarray, alpha: float) -> np.ndarray:
    """255 (1 - (1 - (1 - alpha) p) (1 - min(1, 2 alpha) h)) of two (H, W, 3) uint8 pictures."""
    dark = 1 - photo.astype(np.float32) * ((1 - alpha) / 255)
    dark *= 1 - heat.astype(np.float32) * (min(1.0, 2 * alpha) / 255)
    return np.rint(255 * (1 - dark)).astype(np.uint8)


def _rectangle(draw, box, size, colour, stroke, dash) -> None:
    """Outlined rectangle with a dark casing, so that it shows on any ground."""
    x0, y0, x1, y1 = (float(v) for v in box)
    # Half a stroke inside the image, or a box at the border would lose its outer half.
    half = (stroke + 1) / 2
    x0, x1 = (min(max(v, half), max(size[0] - 1 - half, half)) for v in (x0, x1))
    y0, y1 = (min(max(v, half), max(size[1] - 1 - half, half)) for v in (y0, y1))
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    draw.line(corners, fill=CASING, width=stroke + 2, joint="curve")
    if dash is None:
        draw.line(corners, fill=colour, width=stroke, joint="curve")
        return
    for (ax, ay), (bx, by) in itertools.pairwise(corners):
        length = max(abs(bx - ax), abs(by - ay))
        # Whole periods plus a last dash: every side begins and ends with one, corners stay closed.
        periods = max(1, round((length - dash) / (2 * dash)))
        step = length / (periods + 0.5)
        for k in range(periods + 1):
            s, t = k * step, min(k * step + step / 2, length)
            if length > 0:
                u, v = s / length, t / length
                start = (ax + (bx - ax) * u, ay + (by - ay) * u)
                end = (ax + (bx - ax) * v, ay + (by - ay) * v)
                draw.line([start, end], fill=colour, width=stroke)


def _caption(draw, box, text, size, others=()) -> tuple[float, float, float, float]:
    """Dark text on the box's colour, at its upper left corner, kept inside the image.

    ``others``: rectangles of captions, below which it goes. Returns its own.
    """
    font = ImageFont.load_default(size=max(10, round(max(size) / 26)))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, tall = right - left + 8, bottom - top + 6
    x = min(max(float(box[0]), 0), max(size[0] - wide, 0))
    y = max(float(box[1]), 0)
    for x0, y0, x1, y1 in sorted(others, key=lambda other: other[1]):
        if x < x1 and x0 < x + wide and y < y1 and y0 < y + tall:
            y = y1
    y = min(y, max(size[1] - tall, 0))
    draw.rectangle([x, y, x + wide - 1, y + tall - 1], fill=OURS)
    draw.text((x + 4 - left, y + 3 - top), text, fill=CASING, font=font)
    return x, y, x + wide, y + tall
