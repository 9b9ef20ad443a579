"""The CRF of a training step, on cells and on the photo's own pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsol_jax.methods import shared
from wsol_jax.ops.crf import CrfSettings, dense_crf

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)


@pytest.mark.parametrize("side, method", [(8, "exact"), (16, "exact"), (16, "lattice")])
def test_target_is_the_crf_of_the_shrunk_photo(side, method):
    scores = jnp.asarray(RNG.normal(size=(2, side, side, 4)), jnp.float32)
    settings = CrfSettings((4.0, 3.0, 40.0), (2.0, 1.0), 3, method)
    found = jax.jit(lambda s, p: shared.crf_target(s, p, settings, 0.01))(scores, PHOTOS)
    small = jax.image.resize(
        PHOTOS.astype(np.float32), (2, side, side, 3), "bilinear", antialias=False
    )
    if side == 16:  # the photo itself
        np.testing.assert_array_equal(small, PHOTOS)
    expected = dense_crf(
        -scores,
        jnp.round(small).astype(jnp.uint8),
        bilateral=(4.0, 3.0, 40.0),
        spatial=(2.0, 1.0),
        iterations=3,
        method=method,
    )
    expected = np.maximum(expected, 0.01)
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == jnp.float32 and found.min() > 0


def test_target_has_no_gradient():
    scores = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
    total = lambda x: shared.crf_target(x, PHOTOS, CrfSettings(iterations=2), 1e-4)[..., 0].sum()
    np.testing.assert_array_equal(jax.grad(total)(scores), 0)


def test_noise_that_no_lattice_holds_keeps_its_scores():
    """More vertices than ``capacity``: the CRF is NaN there, which a maximum may hide."""
    photos = np.stack([PHOTOS[0], np.full((16, 16, 3), 90, np.uint8)])
    scores = jnp.asarray(RNG.normal(size=(2, 16, 16, 4)), jnp.float32)
    settings = CrfSettings((4.0, 3.0, 4.0), (2.0, 1.0), 3, "lattice")
    call = jax.jit(lambda s, p: shared.crf_target(s, p, settings, 1e-3, 16 * 16))
    found, probs = call(scores, photos), np.asarray(jax.nn.softmax(scores), np.float64)
    clipped = np.maximum(probs, 1e-3)
    clipped /= clipped.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found[0], clipped[0], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    assert np.abs(found[1] - clipped[1]).max() > 0.1
