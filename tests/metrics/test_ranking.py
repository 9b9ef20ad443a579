"""Average precision of a ranked list, by hand."""

import numpy as np
import pytest

from wsol_jax.metrics.ranking import ranked_average_precision


def test_interpolations_by_hand():
    # + - - + + of 4 to be found: precision 1, 2/4, 3/5 where recall steps.
    hits, misses = np.array([[1, 1, 1, 2, 3]]), np.array([[0, 1, 2, 2, 2]])
    want = {"none": (1 + 2 / 4 + 3 / 5) / 4, "all": (1 + 3 / 5 + 3 / 5) / 4}
    want["11"] = (3 * 1 + 5 * 3 / 5) / 11  # recall .25 covers 0, .1, .2; .75 covers up to .7
    for how, value in want.items():
        got = ranked_average_precision(hits, misses, [4], how)
        assert got == pytest.approx([value], rel=1e-15)
        none = np.zeros((1, 0))
        np.testing.assert_array_equal(ranked_average_precision(none, none, [4], how), [0])
        assert np.isnan(ranked_average_precision(hits, misses, [0], how)).all()
    # 3 of 10 found is recall .3, which .1 * 3 is not.
    assert ranked_average_precision([[3]], [[0]], [10], "11") == pytest.approx(4 / 11, rel=1e-15)
