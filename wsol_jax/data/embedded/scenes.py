"""Rendered scenes on which class activation maps fail: small telling heads on common bodies.

A scene is photo-like clutter, things of no class, and one or more creatures (creatures.py) with
exact boxes and masks. One seed gives one scene, whatever was drawn before it.
"""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np

from wsol_jax.data.embedded import clutter, creature_heads, creatures

CLASS_NAMES = creature_heads.CLASS_NAMES
# Things are drawn at this many times their size and shrunk, for soft edges.
_OVERSAMPLE = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """One picture and all that is known of it.

    Attributes:
      image: (size, size, 3) uint8 RGB.
      labels: the classes present, 0-based, ascending, without repeats.
      boxes: (N, 4) float32, x0 y0 x1 y1 of each object's visible pixels, 0-based, inclusive.
      box_labels: (N,) int32, the class of each box.
      mask: (size, size) uint8, 0 background, 1 + c a visible pixel of class c.
      instances: (size, size) uint8, 0 background, 1 + k a visible pixel of box k's object.
      parts: (size, size) uint8, 0 no telling part, 1 a visible pixel of a head, 2 of a tail's tip
        that tells its class.
    """

    image: np.ndarray
    labels: tuple[int, ...]
    boxes: np.ndarray
    box_labels: np.ndarray
    mask: np.ndarray
    instances: np.ndarray
    parts: np.ndarray


def render_scene(
    seed: int | Sequence[int],
    *,
    size: int = 96,
    objects: tuple[int, int] = (1, 1),
    parts: int = 1,
) -> Scene:
    """Draws the scene of a seed.

    Args:
      seed: anything numpy.random.default_rng takes, e.g. (dataset seed, split, index).
      size: side of the square picture, in pixels, at least 48.
      objects: least and largest number of creatures; crowded scenes drop those that would hide
        another, but never the first.
      parts: of a creature that tell its class: 1, the head; 2, the tail's tip too.

    Returns:
      The scene; the same seed gives the same bytes under one version of OpenCV and numpy.
    """
    rng = np.random.default_rng(seed)
    side = size * _OVERSAMPLE
    left, up = rng.uniform((-0.6, -0.75), (0.6, -0.35))
    light = np.float32([left, up, np.sqrt(1 - left**2 - up**2)])
    palette = clutter.palette(rng)

    # Out of focus for the most part, so drawn at the final size: four times less work. Channels
    # come first from here on: numpy is slow where the innermost axis has three elements.
    canvas = clutter.backdrop(rng, size, palette).transpose(2, 0, 1)
    canvas = canvas.repeat(_OVERSAMPLE, 1).repeat(_OVERSAMPLE, 2)
    for _ in range(rng.integers(1, 4)):
        thing = clutter.thing(rng, side, light)
        n = len(thing.alpha)
        x, y = rng.integers(-n // 3, side - 2 * n // 3, 2).tolist()
        _paste(canvas, thing, (x, y), light)

    count = int(rng.integers(objects[0], objects[1] + 1))
    few = ((0.10, 0.25), (0.09, 0.24), (0.08, 0.17), (0.07, 0.14))[min(count, 4) - 1]
    alphas, tell, labels = [], [], []
    for _ in range(count):
        label = int(rng.integers(len(CLASS_NAMES)))
        sprite = creatures.draw_creature(
            rng,
            label,
            extent=(few[0] * side**2, few[1] * side**2),
            limit=0.92 * side,
            min_head=0.14 * side,
            light=light,
            nearby=palette[rng.integers(len(palette))],
            parts=parts,
        )
        spot = _find_spot(rng, sprite, side, alphas, tell)
        if spot is None:
            continue
        alpha, own = _paste(canvas, sprite, spot, light)
        alphas = [a * (1 - alpha) for a in alphas] + [alpha]
        tell = [t * (1 - alpha) for t in tell] + [own]
        labels.append(label)
    return _finish(rng, canvas, alphas, tell, labels, size)


def _find_spot(rng, sprite, side, alphas, tell) -> tuple[int, int] | None:
    """Where a sprite's corner goes (x, y) so that it hides little of others; None if nowhere."""
    h, w = sprite.alpha.shape
    for _ in range(12 if alphas else 1):
        # Drawn towards the borders, else a box in the middle would be too good a guess.
        x, y = (rng.beta(0.5, 0.5, 2) * (side - w + 6, side - h + 6) - 3).tolist()
        spot = (round(x), round(y))
        seen = [*alphas, *(part for parts in tell for part in parts)]
        if all(_covered(sprite, spot, one) < 0.3 for one in seen):
            return spot
    return None


def _overlap(sprite, spot, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a canvas that a sprite at a spot touches, and that part of the sprite."""
    (x, y), (h, w) = spot, sprite.alpha.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, side), min(y + h, side)
    return np.s_[y0:y1, x0:x1], np.s_[y0 - y : y1 - y, x0 - x : x1 - x]


def _covered(sprite, spot, other: np.ndarray) -> float:
    """The share of another's alpha that a sprite at a spot would hide."""
    there, here = _overlap(sprite, spot, len(other))
    return float((other[there] * sprite.alpha[here]).sum() / (other.sum() + 1e-6))


def _paste(canvas, sprite, spot, light) -> tuple[np.ndarray, np.ndarray]:
    """Lays a sprite and its shadow on the canvas in place; its alpha and parts, canvas-sized."""
    side = canvas.shape[-1]
    there, here = _overlap(sprite, spot, side)
    laid = np.zeros((1 + len(sprite.parts), side, side), np.float32)
    laid[:, *there] = np.concatenate([sprite.alpha[None], sprite.parts])[:, *here]
    alpha, parts = laid[0], laid[1:]
    reach = 0.06 * max(sprite.alpha.shape)
    away = np.rint(-1.4 * reach * light[:2]).astype(int)
    y0, x0 = (np.array([s.start for s in there]) + away[::-1] - 3 * int(reach + 1)).clip(0)
    y1, x1 = np.array([s.stop for s in there]) + away[::-1] + 3 * int(reach + 1)
    shadow = np.roll(alpha, away[::-1], (0, 1))[y0:y1, x0:x1]
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.6 * reach, 0.8))
    canvas[:, y0:y1, x0:x1] *= 1 - 0.5 * shadow
    canvas[:, *there] += (sprite.rgb[:, *here] - canvas[:, *there]) * alpha[there]
    return alpha, parts


def _finish(rng, canvas, alphas, tell, labels, size) -> Scene:
    """Grades the colours, shrinks to size, and reads boxes and masks off the alphas."""
    canvas = np.ascontiguousarray(canvas.transpose(1, 2, 0))
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    image = np.clip(image, 0, 1) ** rng.uniform(0.8, 1.25)
    image *= np.float32(rng.uniform(0.88, 1.1) * rng.uniform(0.95, 1.05, 3))
    image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0.004, 0.018)
    image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)

    shrink = functools.partial(cv2.resize, dsize=(size, size), interpolation=cv2.INTER_AREA)
    covers = np.stack([shrink(a) for a in alphas])
    # More creature than background, and of the creatures the one that shows most.
    instances = np.where(covers.sum(0) > 0.5, covers.argmax(0) + 1, 0).astype(np.uint8)
    parts = np.stack([[shrink(part) for part in own] for own in tell]).sum(0)
    boxes, kept = [], [0]
    for k in range(len(labels)):
        ys, xs = np.nonzero(instances == k + 1)
        if len(xs):
            boxes.append((xs.min(), ys.min(), xs.max(), ys.max()))
            kept.append(k + 1)
    renumber = np.zeros(len(labels) + 1, np.uint8)
    renumber[kept] = np.arange(len(kept))
    classes = np.array([labels[k - 1] for k in kept[1:]], np.int32)
    instances = renumber[instances]
    return Scene(
        image=image,
        labels=tuple(sorted(set(classes.tolist()))),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        box_labels=classes,
        mask=np.concatenate([[0], 1 + classes]).astype(np.uint8)[instances],
        instances=instances,
        parts=np.where(parts.sum(0) > 0.5, parts.argmax(0) + 1, 0).astype(np.uint8)
        * (instances > 0),
    )
