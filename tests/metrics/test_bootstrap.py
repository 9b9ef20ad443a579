"""Intervals against the normal approximation and against loops over resamples."""

import numpy as np
import pytest

from wsol_jax.metrics.bootstrap import (
    bootstrap_figures,
    bootstrap_interval,
    bootstrap_statistic,
    compare_figures,
    figures_once,
    mean_defined,
    paired_bootstrap,
    resample_counts,
)
from wsol_jax.metrics.per_image import PerImage


def test_interval_of_a_mean_is_the_normal_one_for_many_images():
    hits = np.arange(2000) < 1300
    low, high = bootstrap_interval(hits, resamples=4000)
    half = 1.96 * np.sqrt(0.65 * 0.35 / 2000)
    assert low == pytest.approx(0.65 - half, abs=0.002)
    assert high == pytest.approx(0.65 + half, abs=0.002)
    assert bootstrap_interval(hits, resamples=4000) == (low, high)
    few = np.arange(20.0) ** 2
    assert bootstrap_interval(few, seed=0) != bootstrap_interval(few, seed=1)
    narrow = bootstrap_interval(hits, resamples=4000, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(0)
    a = rng.random(300)
    b = a + 0.02 + 0.01 * rng.standard_normal(300)
    found = paired_bootstrap(a, b)
    assert found.value == pytest.approx(np.mean(b) - np.mean(a), rel=1e-9)
    half = 1.96 * np.std(b - a) / np.sqrt(300)
    assert (found.low, found.high) == pytest.approx(
        (found.value - half, found.value + half), abs=half / 8
    )
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(a, b[:-1])


def test_every_resample_draws_as_many_images():
    for n, resamples in ((3, 7), (999, 2500)):
        blocks = list(resample_counts(n, resamples, 0))
        counts = np.concatenate(blocks)
        assert counts.shape == (resamples, n)
        assert (counts.sum(axis=1) == n).all()
        np.testing.assert_allclose(counts.mean(), 1)
        assert max(b.nbytes for b in blocks) <= 8_000_000


def test_no_images():
    assert np.isnan(bootstrap_interval([])).all()


def test_per_image_rows():
    rows = PerImage((2,), np.int16)
    rows.update(["b", "a"], [[1, 2], [3, 4]])
    assert rows.ids() == ("a", "b")
    np.testing.assert_array_equal(rows.rows(), [[3, 4], [1, 2]])
    again = PerImage.from_arrays(rows.to_arrays())
    np.testing.assert_array_equal(again.rows(), rows.rows())
    assert again.rows().dtype == np.int16
    with pytest.raises(ValueError, match="shape"):
        rows.update(["c"], [[1, 2, 3]])
    with pytest.raises(ValueError, match="'b' is counted twice"):
        rows.update(["b"], [[1, 2]])
    with pytest.raises(ValueError, match="kinds"):
        rows.merge(PerImage((3,), np.int16))


def test_figures_share_draws_and_blocks_change_nothing():
    values = np.stack([np.arange(9.0), np.where(np.arange(9) == 0, 1.0, np.nan)], axis=1)
    known = ~np.isnan(values)

    def figures(draws):
        with np.errstate(invalid="ignore"):
            by_class = draws @ np.where(known, values, 0) / (draws @ known)
        return {"mean": mean_defined(by_class), "by_class": by_class}

    assert figures_once(figures, 9)["mean"] == (4 + 1) / 2
    whole = bootstrap_figures(figures, 9, 1, resamples=300)
    assert whole["by_class"][0] == pytest.approx(
        bootstrap_interval(values[:, 0], resamples=300), rel=1e-12
    )
    np.testing.assert_array_equal(whole["by_class"][1], [1, 1])  # of the resamples that have it
    small = bootstrap_figures(figures, 9, 700_000, resamples=300)  # two resamples at a time
    for name in whole:
        np.testing.assert_allclose(small[name], whole[name], rtol=1e-12)
    found = compare_figures(figures, lambda d: {k: 2 * v for k, v in figures(d).items()}, 9, 1)
    assert found["mean"].value == 2.5
    assert [d.value for d in found["by_class"]] == [4, 1]
    assert found["by_class"][0].low < 4 < found["by_class"][0].high


def test_resamples_in_which_a_figure_is_undefined_are_left_out():
    """Of five images one has foreground: a third of the resamples have none."""
    values = np.array([0.25, np.nan, np.nan, np.nan, np.nan])

    def statistic(counts):
        seen = counts[:, 0] > 0
        return np.where(seen, values[0], np.nan)

    assert bootstrap_statistic(statistic, 5) == (0.25, 0.25)
    assert np.isnan(bootstrap_statistic(lambda c: np.full(len(c), np.nan), 5)).all()
