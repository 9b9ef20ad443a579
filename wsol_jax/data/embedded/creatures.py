"""The objects of the embedded data set: a body that all classes share, and a head of one's own.

Class activation maps light what tells classes apart, here a small head, while the box and the mask
are the whole creature's. Nothing about a body (pose, size, colours, texture) depends on its class,
but in the second variant the tip of its tail.
"""

import colorsys
import dataclasses

import cv2
import numpy as np

from wsol_jax.data.embedded import creature_heads, creature_tails

# Hue, saturation and value of things outdoors and indoors; backgrounds, clutter and bodies all draw
# from this one list, so that colour does not give an object away.
_NATURAL = np.array(
    (
        (0.57, 0.30, 0.85), (0.60, 0.45, 0.65), (0.27, 0.50, 0.35), (0.24, 0.50, 0.55),
        (0.31, 0.40, 0.25), (0.11, 0.38, 0.78), (0.07, 0.50, 0.35), (0.09, 0.10, 0.55),
        (0.03, 0.55, 0.55), (0.52, 0.35, 0.45), (0.08, 0.45, 0.55), (0.12, 0.12, 0.85),
        (0.75, 0.22, 0.45), (0.62, 0.35, 0.25), (0.95, 0.30, 0.60), (0.16, 0.45, 0.65),
    )
)  # fmt: skip


def natural_colour(rng: np.random.Generator) -> np.ndarray:
    """One muted colour of a photo: (3,) float32 RGB in 0..1."""
    h, s, v = _NATURAL[rng.integers(len(_NATURAL))] + rng.normal(0, (0.02, 0.08, 0.09))
    return np.array(
        colorsys.hsv_to_rgb(h % 1, np.clip(s, 0, 0.5), np.clip(v, 0.08, 0.97)), np.float32
    )


# The telling parts in the order of the masks, and their radii in heads.
_PARTS = (creature_heads, creature_tails)
_SIZES = (1.0, 0.65)


@dataclasses.dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn creature, before it is laid into a scene.

    Attributes:
      rgb: (3, h, w) float32 in 0..1, channels first; meaningful where alpha > 0.
      alpha: (h, w) float32 in 0..1, the whole creature.
      parts: (P, h, w) float32 in 0..1, where its telling parts show: its head, its tail's tip.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    parts: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Tube:
    """Discs along a line: points (K, 2), radii (K,); a larger depth is nearer to the eye."""

    points: np.ndarray
    radii: np.ndarray
    depth: int


def _tube(knots, radii, depth: int, steps: int = 12) -> _Tube:
    """A tube along the quadratic curve through three knots, its radius interpolated likewise."""
    knots, radii = np.asarray(knots, float), np.asarray(radii, float)
    t = np.linspace(0, 1, steps)[:, None]
    basis = np.hstack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)])
    return _Tube(basis @ knots, np.maximum(basis @ radii, 0.02), depth)


def _toward(degrees: float, length: float) -> np.ndarray:
    """A step of that length; 0 degrees is ahead, 90 is up (y grows downwards)."""
    a = np.deg2rad(degrees)
    return length * np.array([np.cos(a), -np.sin(a)])


@dataclasses.dataclass(frozen=True, eq=False)
class _End:
    """Where a neck or a tail ends, (2,), and which way it points there, in degrees."""

    tip: np.ndarray
    degrees: float

    def centre(self, radius: float) -> np.ndarray:
        """Of a disc of that radius that the end carries."""
        return self.tip + _toward(self.degrees, 0.55 * radius)


def _skeleton(rng: np.random.Generator) -> tuple[list[_Tube], tuple[_End, _End]]:
    """Tubes of a random pose, torso of length 1, looking right; the ends of neck and tail."""
    hip, shoulder = np.zeros(2), _toward(rng.normal(0, 10), 1.0)
    middle = (hip + shoulder) / 2 + (0, rng.uniform(-0.16, 0.14))
    girth = rng.uniform(0.28, 0.40)
    r_hip, r_mid, r_shoulder = girth * rng.uniform((0.8, 0.85, 0.75), (1.1, 1.25, 1.05))
    tubes = [_tube((hip, middle, shoulder), (r_hip, r_mid, r_shoulder), 1, steps=18)]

    lift = rng.uniform(-15, 75)
    throat = shoulder + _toward(lift, rng.uniform(0.24, 0.34))
    lift += rng.uniform(-45, 30)
    tip = throat + _toward(lift, rng.uniform(0.08, 0.22))
    tubes.append(_tube((shoulder, throat, tip), (r_shoulder * 0.85, r_shoulder * 0.62, 0.13), 1))

    droop = rng.uniform(130, 230)
    root = hip + _toward(180, r_hip * 0.7)
    bend = root + _toward(droop, rng.uniform(0.12, 0.22))
    wag = droop + rng.uniform(-70, 70)
    end = bend + _toward(wag, rng.uniform(0.1, 0.25))
    tubes.append(_tube((root, bend, end), (0.11, 0.09, 0.055), 0))

    stance = rng.uniform(0.45, 0.8)  # short legs: lying or far down in the grass
    sway = rng.uniform(-35, 35, 2)
    for joint, side in ((hip, 0), (shoulder, 1)):
        for depth in (0, 2):
            start = joint + (rng.uniform(-0.08, 0.08), girth * 0.35)
            thigh = -90 + sway[side] * (1 if depth else -1) + rng.normal(0, 12)
            knee = start + _toward(thigh, stance * rng.uniform(0.45, 0.6))
            foot = knee + _toward(-90 + rng.normal(0, 22), stance * rng.uniform(0.35, 0.5))
            thick = girth * rng.uniform(0.42, 0.55)
            tubes.append(_tube((start, knee, foot), (thick, thick * 0.75, thick * 0.6), depth))
    return tubes, (_End(tip, lift), _End(end, wag))


def _raster(tubes: list[_Tube], shape: tuple[int, int]) -> np.ndarray:
    """The tubes' silhouette, (h, w) uint8 0..255."""
    canvas = np.zeros(shape, np.uint8)
    for tube in tubes:
        # Both in sixteenths of a pixel, which is what shift=4 means.
        centres = np.rint(tube.points * 16 - 8).astype(int).tolist()
        for (x, y), r in zip(centres, np.rint(tube.radii * 16).astype(int).tolist(), strict=True):
            cv2.circle(canvas, (x, y), r, 255, -1, cv2.LINE_AA, 4)
    return canvas


def shaded(alpha: np.ndarray, light: np.ndarray, depth: float = 1.0) -> np.ndarray:
    """Brightness of a pillow over a silhouette, (h, w) float32 around 0.4..1.15.

    Args:
      alpha: (h, w) uint8 silhouette.
      light: (3,) unit vector towards the light, y down, z to the eye.
      depth: how round; 0 is flat.
    """
    inner = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 5)
    radius = max(float(inner.max()), 1.0)
    height = radius * np.sqrt(np.clip(1 - (1 - inner / radius) ** 2, 0, 1))
    height = cv2.GaussianBlur(height, (0, 0), max(0.12 * radius, 0.8))
    dx = cv2.Sobel(height, -1, 1, 0, scale=depth / 8)
    dy = cv2.Sobel(height, -1, 0, 1, scale=depth / 8)
    lit = (light[2] - light[0] * dx - light[1] * dy) / np.sqrt(1 + dx * dx + dy * dy)
    return 0.5 + 0.65 * np.clip(lit, 0, 1)


def _coat(
    rng: np.random.Generator, shape: tuple[int, int], unit: float, along: float
) -> np.ndarray:
    """Stripes and spots of one wave length, (h, w) float32 in 0..1: noise through a Gabor filter.

    A narrow band in frequency is what tells a body from the 1/f background; which wave length, how
    stretched and how sharp differs from creature to creature.
    """
    wave = float(np.clip(unit * rng.uniform(0.24, 0.38), 6.5, 16.0))
    noise = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.6:  # stripes around the spine
        side = 2 * int(wave) + 1
        turn, stretch = along + rng.normal(0, 0.25), rng.uniform(0.35, 0.9)
        kernel = cv2.getGaborKernel((side, side), 0.5 * wave, turn, wave, stretch, 0, cv2.CV_32F)
        field = cv2.filter2D(noise, -1, kernel - kernel.mean())
    else:  # blotches and spots of the same wave length: a ring in frequency
        sigma = wave / 5
        field = cv2.GaussianBlur(noise, (0, 0), sigma)
        field -= cv2.GaussianBlur(noise, (0, 0), 1.6 * sigma)
    gain, bias = rng.uniform(1.2, 3.0), rng.uniform(-0.5, 0.5)
    return 0.5 + 0.5 * np.tanh(field * np.float32(gain / (field.std() + 1e-6)) + np.float32(bias))


def _coat_colours(rng: np.random.Generator, nearby: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two colours (3,) of a coat: one from the scene or nature, the other lighter or darker."""
    one = nearby if rng.random() < 0.5 else natural_colour(rng)
    two = natural_colour(rng)
    gap = rng.uniform(0.3, 0.5) * (1 if one.mean() < 0.5 else -1)
    two = np.clip(two + (one.mean() + gap - two.mean()), 0.03, 0.98)
    return one, two.astype(np.float32)


def _pose(rng: np.random.Generator) -> np.ndarray:
    """(2, 2): most creatures stand; some climb or rear, so that boxes come in every aspect."""
    turn = rng.normal(0, 14) if rng.random() < 0.6 else rng.uniform(-100, 100)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return np.array([[flip, 0], [0, 1]]) @ np.array([[c, s], [-s, c]])


def _head_radius(rng: np.random.Generator, tubes: list[_Tube]) -> float:
    """It follows the body's area, measured on a coarse drawing (32 pixels a unit)."""
    coarse = [_Tube((t.points[::2] + 1.6) * 32, t.radii[::2] * 32, 0) for t in tubes]
    area = np.count_nonzero(_raster(coarse, (136, 152)) > 127) / 32**2
    share = rng.uniform(0.095, 0.12)
    return float(np.sqrt(share / (1 - share) * area / np.pi))


def draw_creature(
    rng: np.random.Generator,
    label: int,
    *,
    extent: tuple[float, float],
    limit: float,
    min_head: float,
    light: np.ndarray,
    nearby: np.ndarray,
    parts: int = 1,
) -> Sprite:
    """Draws one creature in a random pose.

    Args:
      rng: decides everything but the class.
      label: index into creature_heads.CLASS_NAMES, 0-based; decides the telling parts alone.
      extent: range of its box's area, in pixels.
      limit: its longest side, in pixels.
      min_head: least diameter of the head, in pixels; wins over its usual 9-12% of the area.
      light: (3,) unit vector towards the light.
      nearby: (3,) a colour of the scene, which half of the coats borrow.
      parts: how many of its parts tell its class: 1, the head; 2, the tail's tip too.
    """
    tubes, ends = _skeleton(rng)
    pose = _pose(rng)
    head = _head_radius(rng, tubes)
    points = np.concatenate([t.points for t in tubes]) @ pose.T
    radii = np.concatenate([t.radii for t in tubes])[:, None]
    sizes = [head * size for size in _SIZES[:parts]]
    centres = [end.centre(r) @ pose.T for end, r in zip(ends, sizes, strict=False)]
    discs = list(zip(centres, sizes, strict=True))
    low = np.min([(points - radii).min(0), *(c - r for c, r in discs)], axis=0)
    high = np.max([(points + radii).max(0), *(c + r for c, r in discs)], axis=0)
    wide, tall = high - low
    scale = np.sqrt(rng.uniform(*extent) / (wide * tall))
    scale = min(scale, limit / max(wide, tall))
    head_px = max(head * scale, min_head / 2)

    pad = 4 + int(np.ceil(max(0.0, 1.6 * head_px - head * scale)))
    shape = (int(tall * scale) + 2 * pad + 1, int(wide * scale) + 2 * pad + 1)
    tubes = [
        _Tube((t.points @ pose.T - low) * scale + pad, t.radii * scale, t.depth) for t in tubes
    ]
    spine = np.arctan2(*(pose @ (1.0, 0.0))[::-1])
    one, two = (c[:, None, None] for c in _coat_colours(rng, nearby))
    skin = one + (two - one) * _coat(rng, shape, scale, spine)
    rgb, alpha = _body(tubes, skin, scale, light)

    shown: list[np.ndarray] = []
    for drawn, end, centre, size in zip(_PARTS, ends, centres, _SIZES, strict=False):
        facing = np.arctan2(*(pose @ _toward(end.degrees, 1.0))[::-1]) + rng.normal(0, 0.2)
        at = (centre - low) * scale + pad
        part, second = _placed(rng, drawn.stamp(label), at, head_px * size, facing, shape)
        _paint(rgb, part, second, drawn.inks(rng, label), light)
        shown = [other * (1 - part) for other in shown] + [part]
    return Sprite(np.clip(rgb, 0, 1), np.maximum.reduce([alpha, *shown]), np.stack(shown))


def _body(tubes, skin, scale, light) -> tuple[np.ndarray, np.ndarray]:
    """The body without what tells its class: its colours (3, h, w) and where it is (h, w)."""
    shape = skin.shape[1:]
    rgb, alpha = np.zeros((3, *shape), np.float32), np.zeros(shape, np.float32)
    for depth, dim in ((0, 0.72), (1, 1.0), (2, 0.97)):
        layer = _raster([t for t in tubes if t.depth == depth], shape)
        cover = layer.astype(np.float32) / 255
        edge = cv2.GaussianBlur(cover, (0, 0), max(0.05 * scale, 1.0)) * (1 - cover)
        rgb *= 1 - 0.6 * edge  # each layer shades what lies behind it
        rgb += (skin * (dim * shaded(layer, light)) - rgb) * cover
        alpha = np.maximum(alpha, cover)
    return rgb, alpha


def _placed(rng, stamps, centre, radius, facing, shape) -> tuple[np.ndarray, np.ndarray]:
    """A stamp's silhouette and its second ink, (h, w) each, where neck or tail ends."""
    side = len(stamps[0])
    k = radius * 3.2 / side
    squeeze = rng.uniform(0.85, 1.15)
    c, s = np.cos(facing), np.sin(facing)
    turn = np.array([[c, -s], [s, c]])
    linear = turn @ np.diag([k * squeeze, k / squeeze * (1 if rng.random() < 0.5 else -1)])
    matrix = np.hstack([linear, (centre - linear @ np.full(2, side / 2))[:, None]])
    # Blurred first: a stamp shrinks by more than bilinear sampling covers.
    soft = [cv2.GaussianBlur(stamp, (0, 0), max(0.4 / k, 0.3)) for stamp in stamps]
    return tuple(cv2.warpAffine(stamp, matrix, shape[::-1]) for stamp in soft)


def _paint(rgb: np.ndarray, part, second, inks, light) -> None:
    """Paints a telling part in its two inks over (3, h, w) colours, in place."""
    shade = shaded((part * 255).astype(np.uint8), light, 0.6)
    first, other = inks[..., None, None]
    colour = (first + (other - first) * second) * shade
    rim = np.clip(cv2.GaussianBlur(part, (0, 0), 1.2), 0, 1)
    rgb *= 1 - 0.55 * rim * (1 - part)
    rgb += (colour - rgb) * part
