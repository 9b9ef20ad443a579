"""The written-out 2x2 max pooling against XLA's windows, adaptive pooling against PyTorch's."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from wsol_jax.networks.backbones.pooling import adaptive_average_pool, max_pool


@pytest.mark.parametrize("shape", [(2, 8, 6), (1, 9, 7), (1, 1, 2), (3, 2, 5)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_disjoint_windows(shape, ceil_mode):
    """Values and gradients are equal to the bit; of equal values the first has the gradient."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 2, (*shape, 5)).astype(np.float32)
    far = [(0, size % 2 if ceil_mode else 0) for size in shape[1:]]
    y, pull = jax.vjp(lambda x: max_pool(x, 2, 2, ceil_mode=ceil_mode), x)
    y2, pull2 = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2), padding=far), x)
    np.testing.assert_array_equal(y, y2)
    g = rng.standard_normal(y.shape).astype(np.float32)
    np.testing.assert_array_equal(pull(g)[0], pull2(g)[0])


@pytest.mark.parametrize("size", [(6, 6), (7, 13), (2, 5), (1, 12), (20, 6)])
def test_adaptive_average_pooling_equals_torchs(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x).permute(0, 3, 1, 2), 6)
    found = adaptive_average_pool(x, 6)
    np.testing.assert_allclose(found, theirs.permute(0, 2, 3, 1), atol=1e-6)
