"""What the dense CRF's tests share: small cases, float64 brute force, and the peer."""

import contextlib
import itertools
from unittest import mock

import cv2
import jax
import numpy as np
import pytest

# bilateral (weight, sxy, srgb), spatial (weight, sxy): SEC's test, SEC's training, two more.
SETS = [
    ((10, 80, 13), (3, 3)),
    ((10, 6.667, 13), (3, 0.25)),
    ((5, 50, 10), (3, 3)),
    ((10, 50, 5), (3, 3)),
]


# Who infers the lattice outside jit on a CPU: numba; JAX, as on accelerators.
LATTICES = ["host", "jax"]


def lattice_by(name):
    """A context in which `dense_crf`'s lattice is one of LATTICES."""
    if name == "host":
        return contextlib.nullcontext()
    return mock.patch("wsol_jax.ops.crf._on_host", lambda unary: False)


def options(settings):
    return dict(bilateral=settings[0], spatial=settings[1])


def case(height, width, classes, seed=0, smooth=True):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3))
    if smooth:  # like a photo, a colour is near its neighbours'
        small = rng.integers(0, 256, (3 + height // 12, 3 + width // 12, 3)).astype(np.float32)
        image = cv2.resize(small, (width, height)).reshape(height, width, 3)
    scores = rng.normal(size=(5, 6, classes)).astype(np.float32) * 2
    scores = cv2.resize(scores, (width, height), interpolation=cv2.INTER_CUBIC)
    unary = -jax.nn.log_softmax(scores.reshape(height, width, classes))
    return np.asarray(unary), image.astype(np.uint8)


def softmax64(scores):
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def features64(image, sxy, srgb=None):
    y, x = np.indices(image.shape[:2]).reshape(2, -1) / sxy
    colours = [] if srgb is None else list(image.reshape(-1, 3).T.astype(np.float64) / srgb)
    return np.stack([x, y, *colours], axis=1)


def brute_force(unary, image, bilateral, spatial, iterations, gaussian=None):
    """Eqs. 3 to 5 in float64; `gaussian(features)` gives the matrix of K."""
    gaussian = gaussian or (lambda f: np.exp(-0.5 * sum((c[:, None] - c) ** 2 for c in f.T)))
    total = 0
    for weight, *sigmas in (bilateral, spatial):
        kernel = gaussian(features64(image, *sigmas))
        scale = 1 / np.sqrt(kernel.sum(1) + 1e-20)
        total = total + weight * scale[:, None] * kernel * scale
    scores = -unary.reshape(-1, unary.shape[-1]).astype(np.float64)
    probabilities = softmax64(scores)
    for _ in range(iterations):
        probabilities = softmax64(scores + total @ probabilities)
    return probabilities.reshape(unary.shape)


def lattice_matrix(features, extra=0):
    """Slice, blur and splat as one matrix: Adams et al. 2010 with a dictionary of vertices.

    extra: points at the origin that have vertices and no value.
    """
    n, d = features.shape
    # In float32 up to the simplex, since a point on a boundary belongs to either side.
    features = np.concatenate([features, np.zeros((extra, d))]).astype(np.float32)
    blur = np.float32(np.sqrt(2 / 3) * (d + 1)).astype(np.float64)
    features *= np.float32([1 / np.sqrt((i + 1) * (i + 2)) * blur for i in range(d)])
    rows, entries = {}, []
    for point in features:
        y, total = np.zeros(d + 1, np.float32), np.float32(0)
        for j in range(d, 0, -1):
            y[j] = total - np.float32(j) * point[j - 1]
            total += point[j - 1]
        y[0] = total
        base = np.round(y * np.float32(1 / (d + 1))) * (d + 1)
        rank = np.argsort(np.argsort(-(y - base), kind="stable")) + int(base.sum() / (d + 1))
        base, rank = base + (d + 1) * (rank < 0) - (d + 1) * (rank > d), rank % (d + 1)
        rest = np.zeros(d + 2)
        rest[:-1][d - rank] = (y - base).astype(np.float64) / (d + 1)
        weights = rest[:-1] - np.roll(rest, 1)[:-1]
        weights[0] += 1 - rest[d]
        for k in range(d + 1):
            vertex = tuple((base + k - (d + 1) * (rank > d - k)).astype(int))
            assert sum(vertex) == 0 and {v % (d + 1) for v in vertex} == {k}
            entries.append(rows.setdefault(vertex, len(rows)))
            entries.append(weights[k])
    splat = np.zeros((len(rows), n))
    pairs = zip(entries[::2], entries[1::2], strict=True)
    for place, (row, weight) in enumerate(itertools.islice(pairs, n * (d + 1))):
        splat[row, place // (d + 1)] += weight
    field = splat
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        blurred = field.copy()
        for vertex, row in rows.items():
            for sign in (1, -1):
                other = rows.get(tuple(np.add(vertex, sign * step)))
                if other is not None:
                    blurred[row] += 0.5 * field[other]
        field = blurred
    return splat.T @ field / (1 + 2.0**-d)


def pydensecrf(unary, image, bilateral, spatial, iterations):
    module = pytest.importorskip(
        "pydensecrf.densecrf", reason="the peer is absent: pip install pydensecrf2 (a C compiler)"
    )
    height, width, classes = unary.shape
    field = module.DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.array(unary.reshape(-1, classes).T, np.float32, order="C"))
    field.addPairwiseGaussian(sxy=spatial[1], compat=spatial[0])
    image = np.array(image)  # contiguous, and writable as its interface wants
    field.addPairwiseBilateral(
        sxy=bilateral[1], srgb=bilateral[2], rgbim=image, compat=bilateral[0]
    )
    return np.array(field.inference(iterations)).T.reshape(unary.shape)
