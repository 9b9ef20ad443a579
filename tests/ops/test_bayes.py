"""Bayes' rule against eq. 2 (Wang et al. 2018) as a loop over pixels, and by hand."""

import math

import numpy as np
import pytest
from skimage import color

from wsol_jax.ops.bayes import BINS, colour_texture_bins, posterior


def scaled(values):
    values = np.asarray(values, np.float64)
    return (values - values.min()) / (values.max() - values.min())


def looped_posterior(prior, features, found, bins, floor):
    """eq. 2 as it is written: products of probabilities, pixel by pixel."""
    prior = np.clip(scaled(prior), floor, 1 - floor)
    kinds = features.shape[2]
    counts = {True: np.ones((kinds, bins)), False: np.ones((kinds, bins))}  # Laplace
    for place in np.ndindex(found.shape):
        for k in range(kinds):
            counts[bool(found[place])][k, features[place][k]] += 1
    out = np.empty(found.shape)
    for place in np.ndindex(found.shape):
        likely = {}
        for side in (True, False):
            likely[side] = 1.0
            for k in range(kinds):
                row = counts[side][k]
                likely[side] *= row[features[place][k]] / row.sum()
        obj, bg = prior[place] * likely[True], (1 - prior[place]) * likely[False]
        out[place] = obj / (obj + bg)
    return scaled(out)


def drawn(seed, shape=(11, 13), kinds=4, bins=7):
    """A map, features that lean to one side within the mask, and the mask."""
    rng = np.random.default_rng(seed)
    found = rng.random(shape) < 0.3
    features = rng.integers(0, bins, (*shape, kinds))
    features[found] = np.maximum(features[found] - 2, 0)
    return 3 * rng.random(shape) - 1, features, found


def test_picture_by_hand():
    """Bin 1 is the object's: 2 of 2 pixels inside, 2 of 14 outside."""
    features = np.zeros((4, 4, 1), int)
    features[1, :] = 1
    found = np.zeros((4, 4), bool)
    found[1, :2] = True
    prior = np.zeros((4, 4))
    prior[1:3, :] = 1
    inside, outside = {0: 1 / 4, 1: 3 / 4}, {0: 13 / 16, 1: 3 / 16}
    raw = {}
    for p, v in ((0.1, 0), (0.9, 0), (0.9, 1)):
        raw[p, v] = p * inside[v] / (p * inside[v] + (1 - p) * outside[v])
    row = lambda p, v: (raw[p, v] - raw[0.1, 0]) / (raw[0.9, 1] - raw[0.1, 0])
    expected = [row(0.1, 0), row(0.9, 1), row(0.9, 0), row(0.1, 0)]
    refined = posterior(prior, features, found, bins=2, floor=0.1)
    np.testing.assert_allclose(refined, np.repeat(expected, 4).reshape(4, 4), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds, floor", [(1, 1e-3), (4, 1e-3), (4, 0.2), (9, 1e-6)])
def test_equals_equation_2(seed, kinds, floor):
    prior, features, found = drawn(seed, kinds=kinds)
    refined = posterior(prior, features, found, bins=7, floor=floor)
    assert refined.dtype == np.float32
    expected = looped_posterior(prior, features, found, 7, floor)
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_defaults():
    prior, features, found = drawn(5, bins=BINS)
    assert BINS == 60
    expected = looped_posterior(prior, features, found, 60, 1e-3)
    np.testing.assert_allclose(posterior(prior, features, found), expected, atol=1e-6)


def test_features_and_masks_of_any_integer_dtype():
    prior, features, found = drawn(0)
    expected = posterior(prior, features, found, bins=7)
    for dtype in (np.uint8, np.int32):
        refined = posterior(prior, features.astype(dtype), found, bins=7)
        np.testing.assert_array_equal(refined, expected)
    refined = posterior(prior, features, found.astype(np.uint8), bins=7)
    np.testing.assert_array_equal(refined, expected)


def test_no_features_leave_the_prior_clipped():
    prior, features, found = drawn(0)
    refined = posterior(prior, features[..., :0], found, floor=0.25)
    np.testing.assert_allclose(refined, scaled(np.clip(scaled(prior), 0.25, 0.75)), atol=1e-6)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_mask_of_nothing_or_all_returns_the_prior(everywhere):
    prior, features, found = drawn(0)
    refined = posterior(prior, features, np.full_like(found, everywhere), bins=7)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, scaled(prior), atol=1e-7)


def test_a_flat_prior_leaves_the_features_to_speak():
    """It is 0 everywhere once scaled: the same doubt everywhere."""
    _, features, found = drawn(0)
    refined = posterior(np.full(found.shape, 0.4), features, found, bins=7)
    assert refined.min() == 0 and refined.max() == 1
    assert refined[found].mean() > refined[~found].mean()


def test_nothing_to_tell_gives_zeros():
    flat = np.zeros((5, 6))
    found = np.zeros((5, 6), bool)
    found[1, 1] = True
    refined = posterior(flat, np.zeros((5, 6, 2), int), found)
    np.testing.assert_array_equal(refined, 0)


def test_many_features_do_not_underflow():
    """A product of 3,000 probabilities is 0 in float64; its logarithm is not."""
    prior, features, found = drawn(0, kinds=1)
    refined = posterior(prior, np.repeat(features, 3000, axis=2), found, bins=7)
    assert np.isfinite(refined).all()
    assert refined.min() == 0 and refined.max() == 1
    inside, outside = (np.bincount(features[m, 0], minlength=7) + 1.0 for m in (found, ~found))
    likelier = inside / inside.sum() > outside / outside.sum()
    np.testing.assert_array_equal(refined > 0.5, likelier[features[..., 0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_small_pictures(shape):
    rng = np.random.default_rng(0)
    features = colour_texture_bins(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    assert features.shape == (*shape, 4)
    refined = posterior(rng.random(shape), features, rng.random(shape) < 0.5)
    assert refined.shape == shape and np.isfinite(refined).all()


def test_inputs_are_left_as_they_were():
    given = drawn(0)
    kept = [x.copy() for x in given]
    posterior(*given, bins=7)
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_refused():
    prior, features, found = drawn(0)
    with pytest.raises(ValueError, match="prior, features"):
        posterior(prior[1:], features, found, bins=7)
    with pytest.raises(ValueError, match="prior, features"):
        posterior(prior, features[..., 0], found, bins=7)
    for bad in (-1, 7):
        wrong = features.copy()
        wrong[0, 0, 0] = bad
        with pytest.raises(ValueError, match="0 to 6"):
            posterior(prior, wrong, found, bins=7)
    for floor in (0.0, 0.5):
        with pytest.raises(ValueError, match="floor"):
            posterior(prior, features, found, bins=7, floor=floor)


def test_colour_bins_are_lab_in_60():
    """scikit-image's Lab, pixel by pixel; at a bin's edge OpenCV's falls to the other side."""
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(64, 64, 3)
    bins = colour_texture_bins(cube)
    assert bins.dtype == np.uint8 and bins.shape == (64, 64, 4)
    expected = np.empty((64, 64, 3), int)
    for place in np.ndindex(64, 64):
        colour = color.rgb2lab(cube[place][None, None])[0, 0]
        for k, (low, high) in enumerate(((0, 100), (-87, 99), (-108, 95))):
            expected[place][k] = min(max(math.floor((colour[k] - low) / (high - low) * 60), 0), 59)
    apart = np.abs(bins[..., :3].astype(int) - expected)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.1
    assert bins[..., :3].min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert bins[..., :3].max(axis=(0, 1)).tolist() == [59, 59, 59]


def test_texture_bins_are_uniform_patterns():
    """59 bins of noise, 1 of a plane; an edge and the same edge turned are two textures."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert np.unique(colour_texture_bins(noise)[..., 3]).tolist() == list(range(59))
    plane = np.full((9, 9, 3), 128, np.uint8)
    assert len(np.unique(colour_texture_bins(plane)[2:-2, 2:-2, 3])) == 1
    edge = plane.copy()
    edge[:, 4:] = 200
    upright, lying = (colour_texture_bins(e)[4, 4, 3] for e in (edge, edge.transpose(1, 0, 2)))
    assert upright != lying


def test_found_part_draws_in_the_like_and_keeps_out_the_rest():
    """Two discs are salient, one like the part that was found: the other goes."""
    photo = np.full((40, 60, 3), (60, 120, 60), np.uint8)
    photo[10:30, 5:25] = (200, 60, 40)
    photo[10:30, 35:55] = (60, 60, 200)
    saliency = np.zeros((40, 60))
    saliency[10:30, 5:25] = saliency[10:30, 35:55] = 0.8
    found = np.zeros((40, 60), bool)
    found[15:25, 8:16] = True
    refined = posterior(saliency, colour_texture_bins(photo), found)
    assert refined[12:28, 7:23].min() > 0.9
    assert refined[12:28, 37:53].max() < 0.2
    assert refined[:8].max() < 0.1
