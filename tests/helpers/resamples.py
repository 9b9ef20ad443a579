"""Figures of several, and of resampled, lists of images."""

import numpy as np


def same_figures(one, other):
    """Asserts that two accumulators' figures are the same to the bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def loop(metric_of, images, draws):
    """Figures of each resample, its images copied under new names."""
    values = []
    for drawn in draws:
        copies = [(f"{i}-{k}", *images[i][1:]) for k, i in enumerate(drawn)]
        values.append(metric_of(copies).compute())
    return {name: np.array([v[name] for v in values]) for name in values[0]}
