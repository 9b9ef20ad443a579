"""The share of a map's mass on each telling part, by a loop over pixels."""

import numpy as np
import pytest

from wsol_jax.metrics.maps import NotFinite
from wsol_jax.metrics.part_mass import PARTS, PartMass, part_mass

RNG = np.random.default_rng(5)


def scene(side=9):
    """A map with zeros in it, and a mask with both parts."""
    scores = RNG.random((side, side)).astype(np.float32) * (RNG.random((side, side)) > 0.3)
    return scores, RNG.integers(0, 3, (side, side)).astype(np.uint8)


def slow(scores, parts):
    mass, total, low = [0.0, 0.0], 0.0, scores.min()
    for value, part in zip(scores.ravel().tolist(), parts.ravel().tolist(), strict=True):
        total += value - low
        if part:
            mass[part - 1] += value - low
    return [one / total for one in mass]


def enlarged(scores, size):
    """Bilinear weights between the centres of cells, edges repeated."""
    for _ in range(2):
        n = scores.shape[1]
        at = (np.arange(size) + 0.5) * n / size - 0.5
        scores = np.stack([np.interp(at, np.arange(n), row) for row in scores]).T
    return scores


def test_against_a_loop():
    for _ in range(20):
        scores, parts = scene()
        scores = 3 * scores - 1
        np.testing.assert_allclose(part_mass(scores, parts), slow(scores, parts), rtol=1e-6)


def test_a_coarse_map_is_enlarged_to_the_mask():
    for _ in range(5):
        scores, (_, parts) = scene(5)[0], scene(37)
        found = part_mass(scores, parts)
        np.testing.assert_allclose(found, slow(enlarged(scores, 37), parts), rtol=1e-4)


def test_a_map_on_one_part_and_a_part_that_is_hidden():
    scores, parts = np.zeros((4, 4)), np.zeros((4, 4), np.uint8)
    parts[0, :2], scores[0, 0], scores[3, 3] = 1, 0.6, 0.2
    np.testing.assert_allclose(part_mass(scores, parts), [0.75, 0])


def test_a_map_of_zeros_is_even():
    parts = np.array([[0, 1, 2, 2]], np.uint8)
    np.testing.assert_allclose(part_mass(np.zeros((1, 4)), parts), [0.25, 0.5])
    np.testing.assert_allclose(part_mass(np.full((1, 4), 0.3), parts), [0.25, 0.5])


def test_no_mass_of_what_is_not_finite():
    for bad in (np.inf, np.nan):
        with pytest.raises(NotFinite):
            part_mass(np.array([[1, bad], [0, 0]]), np.zeros((2, 2), np.uint8))


def test_means_over_images_merging_and_files():
    pairs = {f"i{k}": scene() for k in range(6)}
    whole, one, other = PartMass(), PartMass(), PartMass()
    for k, (image_id, pair) in enumerate(pairs.items()):
        whole.update(image_id, *pair)
        (one if k % 2 else other).update(image_id, *pair)
    figures = whole.compute()
    mass = np.mean([slow(*pair) for pair in pairs.values()], axis=0)
    area = np.mean([[(p == 1).mean(), (p == 2).mean()] for _, p in pairs.values()], axis=0)
    for k, part in enumerate(PARTS):
        assert figures[f"{part}_mass"] == pytest.approx(mass[k], rel=1e-6)
        assert figures[f"{part}_area"] == pytest.approx(area[k], rel=1e-12)
    merged = one.merge(other)
    assert merged.compute() == PartMass.from_arrays(merged.to_arrays()).compute() == figures
    low, high = whole.intervals()["easy_part_mass"]
    assert low < figures["easy_part_mass"] < high
    with pytest.raises(ValueError, match="counted twice"):
        one.merge(whole)
    with pytest.raises(ValueError, match="shape"):
        PartMass.from_arrays({"ids": np.array(["a"]), "rows": np.zeros((1, 3))})
    assert PartMass().compute() == PartMass().intervals() == {}
