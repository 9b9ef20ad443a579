"""MCOF's first seeds on a picture by hand, and against a loop over regions and classes."""

import numpy as np
import pytest

from wsol_jax.ops import graphs
from wsol_jax.ops.region_seeds import region_seeds

#   0 0 1 1      0 touches 1, 2, 3; 1 touches 0, 3, 4; 2 touches 0, 3; 3 touches 0, 1, 2, 4.
#   0 3 1 4
#   2 3 3 4
#   2 2 3 4
PICTURE = np.array([[0, 0, 1, 1], [0, 3, 1, 4], [2, 3, 3, 4], [2, 2, 3, 4]])
PAIRS = graphs.neighbours(PICTURE, 5)
assert PAIRS.tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [1, 4], [2, 3], [3, 4]]


def seeds(*columns, share=0.5, peak=0.0, pairs=PAIRS):
    return region_seeds(np.array(columns, float).T, pairs, share, peak).tolist()


def test_what_is_above_the_share_of_the_highest_is_a_seed():
    means = [10, 6, 2, 5, 1]
    assert seeds(means) == [1, 1, 0, 0, 0]  # 5 is half and not above; 2 and 1 have more beside
    assert seeds(means, share=0.49) == [1, 1, 0, 1, 0]
    assert seeds(means, share=0.9) == [1, 0, 0, 0, 0]
    assert seeds(means, share=0.0) == [1, 1, 1, 1, 1]


def test_a_local_maximum_is_a_seed_above_the_peak():
    means = [10, 2, 3, 1, 4]  # 4 touches 1 and 3 alone
    assert seeds(means) == [1, 0, 0, 0, 1]
    assert seeds(means, peak=0.4) == [1, 0, 0, 0, 0]
    assert seeds(means, peak=0.39) == [1, 0, 0, 0, 1]
    # As much as a neighbour is no less: a plateau of two.
    assert seeds([10, 1, 0, 2, 2]) == [1, 0, 0, 0, 1]  # 3 touches 0
    assert seeds([1, 4, 10, 3, 4]) == [0, 1, 1, 0, 1]


def test_a_peak_below_zero_is_none():
    """A region that all its neighbours are below, and that speaks against the class."""
    assert seeds([10, -5, 3, 1, -4]) == [1, 0, 0, 0, 0]
    assert seeds([10, 0, 3, -1, 0], share=0.0) == [1, 0, 1, 0, 0]


@pytest.mark.parametrize("means", [[-1, -2, -3, -1, -9], [0, 0, 0, 0, 0], [0, -1, -1, -1, -1]])
def test_a_class_that_was_not_found_has_no_seed(means):
    assert seeds(means, share=0.0) == [0] * 5
    assert seeds(means, [5, 1, 0, 1, 0]) == [2, 0, 0, 0, 0]


def test_several_claims_go_to_the_nearest_to_its_own_highest():
    # Of its highest the first class has 1, .7, .1, .6, .2; the second .6, .9, .2, .6, 1.
    one, other = [100, 70, 10, 60, 20], [0.6, 0.9, 0.2, 0.6, 1.0]
    assert seeds(one, other) == [1, 2, 0, 1, 2]  # of equals the first
    assert seeds(other, one) == [2, 1, 0, 1, 1]


def test_no_classes_and_no_neighbours():
    assert region_seeds(np.zeros((5, 0)), PAIRS, 0.5).tolist() == [0] * 5
    none = np.zeros((0, 2), np.int32)
    assert region_seeds(np.zeros((1, 0)), none, 0.5).tolist() == [0]
    assert seeds([3.0], pairs=none) == [1]
    assert seeds([-3.0], pairs=none) == [0]
    assert seeds([1.0], [2.0], pairs=none) == [1]
    # Two regions that nobody says touch: each is a maximum.
    assert seeds([3.0, 1.0], pairs=none) == [1, 1]


def looped(scores, pairs, share, peak):
    found = []
    for r in range(len(scores)):
        near = {int(b if a == r else a) for a, b in pairs if r in (a, b)}
        best, claims = 0, 0.0
        for k in range(scores.shape[1]):
            highest = max(scores[:, k])
            if highest <= 0:
                continue
            part = scores[r, k] / highest
            top = all(scores[n, k] <= scores[r, k] for n in near) and part > peak
            if (part > share or top) and (not best or part > claims):
                best, claims = 1 + k, part
        found.append(best)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, 9, (6, 7))
    pairs = graphs.neighbours(regions, 9)
    scores = rng.normal(0, 5, (9, 3))
    scores[:, 2] -= 30 * (seed % 2)
    for share, peak in ((0.5, 0.0), (0.3, 0.2), (1.0, 1.0), (0.0, 0.0)):
        found = region_seeds(scores, pairs, share, peak)
        assert found.dtype == np.int64 and found.tolist() == looped(scores, pairs, share, peak)
