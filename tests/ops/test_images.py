"""Pixel conventions and the bilinear resize, against published constants and PyTorch."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.ops.images import enlarge_cubic, normalise, resize_maps

RNG = np.random.default_rng(0)


def bilinear(one, size):
    """Half-pixel centres, edges repeated: the definition, in float64."""
    h, w = one.shape
    out = np.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * h / size[0] - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / size[1] - 0.5, 0), w - 1)
            y0, x0 = int(y), int(x)
            y1, x1, dy, dx = min(y0 + 1, h - 1), min(x0 + 1, w - 1), y - y0, x - x0
            top = one[y0, x0] * (1 - dx) + one[y0, x1] * dx
            bottom = one[y1, x0] * (1 - dx) + one[y1, x1] * dx
            out[i, j] = top * (1 - dy) + bottom * dy
    return out


SIZES = [
    ((7, 5), (16, 21)),
    ((4, 4), (4, 4)),
    ((1, 1), (3, 5)),
    ((14, 14), (6, 9)),
    ((2, 3), (8, 1)),
]


@pytest.mark.parametrize("size, to", SIZES)
def test_resize_equals_the_definition(size, to):
    maps = RNG.normal(size=(2, *size))
    found = resize_maps(jnp.asarray(maps, jnp.float32), to)
    np.testing.assert_allclose(found, np.stack([bilinear(m, to) for m in maps]), atol=2e-6)


@pytest.mark.parametrize("size, to", SIZES)
def test_resize_equals_pytorch(size, to):
    torch = pytest.importorskip("torch")
    maps = RNG.normal(size=(2, *size)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], to, mode="bilinear", align_corners=False
    )[:, 0].numpy()
    np.testing.assert_allclose(resize_maps(jnp.asarray(maps), to), expected, atol=2e-6)


def test_resize_stays_in_range_and_keeps_constants():
    maps = jnp.asarray(RNG.random((1, 5, 5)), jnp.float32)
    big = resize_maps(maps, (33, 17))
    assert float(big.min()) >= float(maps.min()) and float(big.max()) <= float(maps.max()) + 1e-6
    np.testing.assert_allclose(resize_maps(jnp.full((1, 3, 3), 0.7), (8, 8)), 0.7, rtol=1e-6)


def test_resize_gradient_sums_to_the_pixels():
    gradient = jax.grad(lambda x: jnp.sum(resize_maps(x, (12, 12))))(jnp.zeros((1, 3, 4)))
    np.testing.assert_allclose(jnp.sum(gradient), 144, rtol=1e-5)


@pytest.mark.parametrize("size, to", [*SIZES, ((41, 41), (224, 224)), ((30, 28), (14, 14))])
def test_cubic_equals_opencvs(size, to):
    maps = RNG.normal(size=(2, 3, *size)).astype(np.float32)
    found = jax.jit(enlarge_cubic, static_argnums=1)(maps, to)
    assert found.shape == (2, 3, *to) and found.dtype == jnp.float32
    for row in np.ndindex(2, 3):
        expected = cv2.resize(maps[row], to[::-1], interpolation=cv2.INTER_CUBIC)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_normalise_by_the_published_constants():
    images = RNG.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    x = images.astype(np.float64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = {
        "tf": x / 127.5 - 1,
        "torch": (x / 255 - mean) / std,
        "caffe": x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    }
    for name, value in expected.items():
        found = normalise(jnp.asarray(images), name)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, value, atol=2e-5)


def test_an_unknown_preprocessing_is_refused():
    with pytest.raises(ValueError, match="'tf', 'torch' or 'caffe'"):
        normalise(jnp.zeros((1, 2, 2, 3)), "keras")
