"""The kernel's gradient against float64 sums, and against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.backbones import convolution


def _by_hand(x, g, window, pads):
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    height, width = g.shape[1:3]
    taps = [
        [
            np.einsum("bhwc,bhwd->cd", x[:, i : i + height, j : j + width], g.astype(np.float64))
            for j in range(window[1])
        ]
        for i in range(window[0])
    ]
    return np.array(taps)


@pytest.mark.parametrize("window", [(1, 1), (3, 3), (1, 7), (7, 1), (5, 5)])
@pytest.mark.parametrize("strip_bytes", [1, 4000, 1 << 22])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_gradients_equal_the_sums(window, strip_bytes, padding, monkeypatch):
    """Strips of one row, of several that do not divide the height, and of the whole image."""
    monkeypatch.setattr(convolution, "_STRIP_BYTES", strip_bytes)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 13, 11, 4)).astype(np.float32)
    kernel = rng.standard_normal((*window, 4, 3)).astype(np.float32)
    numbers = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def run(conv):
        y, pull = jax.vjp(lambda x, k: conv(x, k, (1, 1), padding, **numbers), x, kernel)
        g = rng.standard_normal(y.shape).astype(np.float32) if g_of[0] is None else g_of[0]
        g_of[0] = g
        return (y, *pull(jnp.asarray(g)))

    g_of = [None]
    ours = run(convolution.conv_general_dilated)
    for a, b in zip(ours, run(jax.lax.conv_general_dilated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    same = padding == "SAME"
    pads = [(k // 2, k // 2) if same else (0, 0) for k in window]
    np.testing.assert_allclose(ours[2], _by_hand(x, g_of[0], window, pads), rtol=1e-4, atol=1e-4)
