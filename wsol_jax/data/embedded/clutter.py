"""What stands behind and beside the creatures of a scene: ground, leaves, patches, solid things."""

import functools

import cv2
import numpy as np

from wsol_jax.data.embedded import creatures


@functools.lru_cache(maxsize=32)
def _pink(side: int, beta: float) -> np.ndarray:
    """1 / f**beta over the half spectrum that rfft2 gives, zero mean."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = np.inf
    return (f**-beta).astype(np.float32)


def _noise(rng: np.random.Generator, side: int, beta: float) -> np.ndarray:
    """1/f**beta noise of unit deviation, (side, side) float32."""
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), np.float32)) * _pink(side, beta)
    field = np.fft.irfft2(spectrum, s=(side, side)).astype(np.float32)
    return field / (field.std() + 1e-6)


def palette(rng: np.random.Generator) -> list[np.ndarray]:
    """Four colours that go together: two of nature, a mixture, and one darker or lighter."""
    one, two = creatures.natural_colour(rng), creatures.natural_colour(rng)
    mixed = one + (two - one) * rng.uniform(0.3, 0.7)
    toned = np.clip(two * rng.uniform(0.45, 1.4), 0.03, 0.97)
    return [np.float32(c) for c in (one, mixed, two, toned)]


def backdrop(rng: np.random.Generator, side: int, palette: list[np.ndarray]) -> np.ndarray:
    """Ground, sky or wall with clutter, nearer things sharper, (side, side, 3) float32."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    angle = rng.normal(np.pi / 2, 0.4)
    ramp = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    canvas = _mix(palette[0], palette[1], np.clip(ramp + 0.5, 0, 1))

    grain = _noise(rng, side, (0.8, 1.0, 1.3)[rng.integers(3)])
    drift = _noise(rng, side, 1.7)
    rough = np.full((side, side), rng.uniform(0.02, 0.06), np.float32)
    if rng.random() < 0.75:  # a horizon, a table's edge, the foot of a wall
        wavy = (0.0, 0.012, 0.04)[rng.integers(3)]
        line = ramp - np.float32(rng.uniform(-0.25, 0.3)) + drift * np.float32(wavy)
        ground = np.clip(line * (side / float(rng.uniform(0.5, 5))) + 0.5, 0, 1)
        floor = _mix(palette[2] * 0.8, palette[2] * 1.15, np.clip(ramp + 0.5, 0, 1))
        canvas = _mix(canvas, floor, ground)
        rough += (np.float32(rng.uniform(0.03, 0.08)) - rough) * ground

    for blur in (0.03, 0.012, 0.004):  # out of focus first, in focus last
        for _ in range(rng.integers(2, 6)):
            _piece(rng, canvas, palette[rng.integers(4)], grain if rng.random() < 0.5 else drift)
        sigma = max(blur * side * rng.uniform(0.5, 1.2), 0.3)
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma)
    warmth = np.float32([0.05, 0.0, -0.05]) * float(rng.normal(0, 0.5))
    canvas += (rough * grain)[..., None] + drift[..., None] * (warmth + float(rng.uniform(0, 0.06)))
    return np.clip(canvas, 0, 1)


def _mix(one: np.ndarray, two: np.ndarray, share: np.ndarray) -> np.ndarray:
    """one where share (h, w) is 0, two where it is 1."""
    return one + (two - one) * share[..., None]


def _piece(rng, canvas: np.ndarray, colour: np.ndarray, grain: np.ndarray) -> None:
    """One patch, leaf, branch or plank of the background, drawn in place."""
    side = len(canvas)
    x, y = rng.uniform(-0.1, 1.1, 2) * side
    cover = np.zeros((side, side), np.uint8)
    kind = rng.integers(4)
    if kind == 0:  # a patch with straight edges
        turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        reach = rng.uniform(0.08, 0.35, len(turns)) * side
        corners = np.stack([x + reach * np.cos(turns), y + reach * np.sin(turns)], -1)
        cv2.fillPoly(cover, [np.int32(corners * 16)], 255, cv2.LINE_AA, 4)
    elif kind == 1:  # leaves or pebbles
        for dx, dy, a, b in rng.normal(0, 1, (rng.integers(3, 12), 4)) * side:
            axes = (int(abs(a) * 0.02 + side * 0.012), int(abs(b) * 0.02 + side * 0.012))
            at = (int(x + 0.1 * dx), int(y + 0.1 * dy))
            cv2.ellipse(cover, at, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 2:  # a branch, a wire, a crack
        steps = rng.normal(0, 0.35, 6).cumsum() + rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(0.06, 0.14) * side
        path = np.stack(
            [x + reach * np.cos(steps).cumsum(), y + reach * np.sin(steps).cumsum()], -1
        )
        wide = int(rng.integers(1, max(2, side // 40)))
        cv2.polylines(cover, [np.int32(path * 16)], False, 255, wide, cv2.LINE_AA, 4)
    else:  # a trunk, a post, a beam
        box = ((x, y), tuple(rng.uniform((0.04, 0.5), (0.18, 1.2)) * side), rng.normal(0, 25))
        corners = cv2.boxPoints(box)
        cv2.fillPoly(cover, [np.int32(corners * 16)], 255, cv2.LINE_AA, 4)
    x0, y0, w, h = cv2.boundingRect(cover)
    roi = np.s_[y0 : y0 + h, x0 : x0 + w]
    rough = float(rng.uniform(0.02, 0.06))
    shade = colour * float(rng.uniform(0.6, 1.3)) + (grain[roi] * rough)[..., None]
    canvas[roi] += (shade - canvas[roi]) * (cover[roi] * np.float32(1 / 255))[..., None]


def thing(rng: np.random.Generator, side: int, light: np.ndarray) -> creatures.Sprite:
    """A solid thing of no class (ball, crate, vase, stone), smooth where bodies are striped.

    Args:
      rng: decides everything.
      side: of the scene, in pixels.
      light: (3,) unit vector towards the light.
    """
    r = rng.uniform(0.06, 0.17) * side
    n = int(2.6 * r) + 4
    cover, tone = np.zeros((n, n), np.uint8), np.ones((n, n), np.float32)
    mid = n / 2
    colour = creatures.natural_colour(rng)
    if rng.random() < 0.2:  # a vivid one now and then: a strong colour is no proof of a head
        grey = colour.mean()
        colour = np.clip(grey + (colour - grey) * 2, 0.02, 0.98)
    kind = rng.integers(4)
    if kind == 0:
        cv2.circle(cover, (int(mid), int(mid)), int(r), 255, -1, cv2.LINE_AA)
        tone = creatures.shaded(cover, light, 1.2)
    elif kind == 1:  # a crate: three faces, three tones
        skew, deep, tall = rng.uniform(-0.5, 0.5), rng.uniform(0.3, 0.6), rng.uniform(0.6, 1.1)
        top = np.array([[-0.9, 0], [0.9, 0], [0.9 + skew, -deep], [-0.9 + skew, -deep]])
        front = np.array([[-0.9, 0], [0.9, 0], [0.9, tall], [-0.9, tall]])
        end = 0.9 * np.sign(skew)
        edge = np.array([[end, 0], [end + skew, -deep], [end + skew, tall - deep], [end, tall]])
        faces = ((front, 0.85), (top, 1.15), (edge, 0.6))
        for face, lit in faces:
            corners = np.int32((face * r * 0.85 + mid) * 16)
            cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, 4)
            cv2.fillPoly(tone, [corners], lit, cv2.LINE_8, 4)
    elif kind == 2:  # a vase, a bottle, a lamp: a profile turned about its axis
        height = np.linspace(-1, 1, 24)
        girth = np.interp(height, np.linspace(-1, 1, 5), rng.uniform(0.15, 0.75, 5))
        girth = np.convolve(np.pad(girth, 2, "edge"), np.full(5, 0.2), "valid")
        outline = np.concatenate([np.c_[girth, height], np.c_[-girth, height][::-1]])
        cv2.fillPoly(cover, [np.int32((outline * r + mid) * 16)], 255, cv2.LINE_AA, 4)
        across = (np.arange(n, dtype=np.float32) - mid) / r
        tone = np.repeat((0.95 + 0.6 * light[0] * across - 0.5 * across**2)[None], n, 0)
    else:  # a stone
        turns = np.linspace(0, 2 * np.pi, 9)[:-1] + rng.uniform(0, 0.5)
        reach = r * rng.uniform(0.65, 1.0, 8)
        corners = np.stack([mid + reach * np.cos(turns), mid + 0.75 * reach * np.sin(turns)], -1)
        cv2.fillPoly(cover, [np.int32(corners * 16)], 255, cv2.LINE_AA, 4)
        tone = creatures.shaded(cover, light, 0.7) * (1 + 0.06 * _noise(rng, n, 1.0))
    alpha = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.5, 1.6)).astype(np.float32) / 255
    rgb = np.clip(colour[:, None, None] * tone, 0, 1, dtype=np.float32)
    return creatures.Sprite(rgb, alpha, np.zeros((0, *alpha.shape), np.float32))
