"""The written-out convolutions against sums in float64; anything else must reach XLA as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from wsol_jax.networks.backbones import convolution

_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _by_hand(x, kernel, g, pads):
    """(y, dx, dkernel) in float64; y's shape is g's."""
    x, kernel, g = (np.asarray(a, np.float64) for a in (x, kernel, g))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    height, width = (n - k + 1 for n, k in zip(padded.shape[1:3], kernel.shape, strict=False))
    y = 0
    for i, j in np.ndindex(kernel.shape[:2]):
        tap = padded[:, i : i + height, j : j + width]
        y = y + tap @ kernel[i, j]
        dpadded[:, i : i + height, j : j + width] += g @ kernel[i, j].T
        dkernel[i, j] = np.tensordot(tap, g, ((0, 1, 2), (0, 1, 2)))
    (top, _), (left, _) = pads
    return y, dpadded[:, top:, left:][:, : x.shape[1], : x.shape[2]], dkernel


def _case(shape, window, channels, pads, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    height, width = (
        n + a + b - k + 1 for n, k, (a, b) in zip(shape[1:], window, pads, strict=True)
    )
    x = normal(*shape, channels[0])
    return x, normal(*window, *channels), normal(shape[0], height, width, channels[1])


def _close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * np.abs(b).max())


def _gradients(x, kernel, g, padding):
    def conv(x, kernel):
        return convolution.conv_general_dilated(
            x, kernel, (1, 1), padding, dimension_numbers=_NUMBERS
        )

    @jax.jit
    def run(x, kernel, g):
        y, pull = jax.vjp(conv, x, kernel)
        return y, *pull(g)

    return run(x, kernel, g)


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd's form for layers of any size."""
    for name in ("_CHANNELS", "_GRADIENT_CHANNELS", "_TILES"):
        monkeypatch.setattr(convolution, name, 1)


@pytest.mark.parametrize("shape", [(2, 13, 11), (1, 8, 8), (3, 1, 2)])
@pytest.mark.parametrize("strip_bytes", [1, 30_000, 1 << 22])
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (1, 2))])
def test_winograd(everywhere, monkeypatch, shape, strip_bytes, pads):
    """Strips of one row of tiles, of several, and of the whole image; odd sizes."""
    monkeypatch.setattr(convolution, "_STRIP_BYTES", strip_bytes)
    case = _case(shape, (3, 3), (4, 5), pads)
    _close(_gradients(*case, pads), _by_hand(*case, pads))


@pytest.mark.parametrize("shape", [(2, 13, 11), (3, 3, 4)])
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (1, 2)), ((0, 0), (0, 0))])
def test_winograd_for_the_kernel_alone(everywhere, monkeypatch, shape, pads):
    """XLA's convolutions of x and g, and Winograd's gradient."""
    monkeypatch.setattr(convolution, "_CHANNELS", 100)
    case = _case(shape, (3, 3), (4, 5), pads)
    _close(_gradients(*case, pads), _by_hand(*case, pads))


@pytest.mark.parametrize(
    "least, shape, channels",
    [("_GRADIENT_CHANNELS", (2, 32, 31), (64, 72)), ("_CHANNELS", (1, 32, 17), (256, 264))],
)
def test_winograd_where_it_is_chosen(least, shape, channels):
    """A layer wide enough, against float64: as exact as the direct sum."""
    pads = ((1, 1), (1, 1))
    case = _case(shape, (3, 3), channels, pads)
    assert convolution._is_winograd(case[0].shape, case[1].shape, getattr(convolution, least))
    _close(_gradients(*case, "SAME"), _by_hand(*case, pads))


def test_a_turned_kernels_transform():
    """It is the kernel's own, reordered: what the input's gradient reads of it."""
    kernel = np.random.default_rng(0).standard_normal((3, 3))
    transform = lambda kernel: convolution._KERNEL @ kernel.reshape(9)
    turned = transform(kernel[::-1, ::-1])
    np.testing.assert_allclose(transform(kernel)[convolution._TURNED], turned, rtol=1e-12)


@pytest.mark.parametrize("window", [(1, 1), (3, 3), (1, 7), (7, 1), (5, 5), (2, 4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_other_windows(monkeypatch, window, padding):
    monkeypatch.setattr(convolution, "_STRIP_BYTES", 4000)
    same = padding == "SAME"
    pads = tuple(((k - 1) // 2, k // 2) if same else (0, 0) for k in window)
    x, kernel, g = _case((2, 13, 11), window, (4, 3), pads)
    expected = _by_hand(x, kernel, g, pads)
    _close(_gradients(x, kernel, g, padding), expected)
    found = convolution.kernel_gradient(jnp.asarray(x), jnp.asarray(g), window, pads)
    _close([found], expected[2:])


def test_check_grads(everywhere):
    x, kernel, _ = _case((2, 5, 6), (3, 3), (3, 2), ((1, 1), (1, 1)))
    conv = lambda x, kernel: convolution.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=_NUMBERS
    )
    check_grads(conv, (x, kernel), order=1, modes=["rev"], eps=1e-2)


OTHERS = {
    "bfloat16": dict(dtype=jnp.bfloat16),
    "stride": dict(window_strides=(2, 2)),
    "dilation": dict(rhs_dilation=(2, 2)),
    "groups": dict(feature_group_count=2),
    "precision": dict(precision="highest"),
    "layout": dict(dimension_numbers=("NHWC", "OIHW", "NHWC")),
    "padding wider than the kernel": dict(padding=((3, 3), (0, 0))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_left_to_xla(everywhere, name):
    options = dict(window_strides=(1, 1), padding="SAME", dimension_numbers=_NUMBERS, **{}) | dict(
        OTHERS[name]
    )
    dtype = options.pop("dtype", jnp.float32)
    x, kernel, _ = _case((2, 9, 8), (3, 3), (4, 4), ((1, 1), (1, 1)))
    if options.get("feature_group_count"):
        kernel = kernel[:, :, :2]
    if options["dimension_numbers"] != _NUMBERS:
        kernel = kernel.transpose(3, 2, 0, 1)
    x, kernel = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
    ours = lambda x, k: convolution.conv_general_dilated(x, k, **options)
    plain = lambda x, k: jax.lax.conv_general_dilated(x, k, **options)
    assert str(jax.make_jaxpr(ours)(x, kernel)) == str(jax.make_jaxpr(plain)(x, kernel))


def test_other_backends_are_left_to_xla(everywhere, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel, _ = _case((2, 9, 8), (3, 3), (4, 4), ((1, 1), (1, 1)))
    conv = lambda x, k: convolution.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=_NUMBERS
    )
    assert "custom_vjp" not in str(jax.make_jaxpr(conv)(x, kernel))
