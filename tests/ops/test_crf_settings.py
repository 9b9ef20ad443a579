"""The settings of a dense CRF are checked in one place, whoever brings them."""

import ml_collections
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.ops.crf_settings import CrfSettings

WRONG = [
    ({"bilateral": (10.0, 80.0)}, r"bilateral is \(weight, sxy, srgb\), finite numbers, not"),
    ({"bilateral": (10.0, float("nan"), 13.0)}, "finite numbers"),
    ({"bilateral": 3.0}, r"bilateral is \(weight, sxy, srgb\)"),
    ({"spatial": (3.0,)}, r"spatial is \(weight, sxy\)"),
    ({"spatial": (-1.0, 3.0)}, "a weight >= 0 and deviations > 0"),
    ({"spatial": (3.0, 0.0)}, "a weight >= 0 and deviations > 0"),
    ({"iterations": -1}, "iterations=-1: expected 0 or more"),
    ({"iterations": 10**20}, "expected 0 or more, 1000 at most"),
    ({"spatial": (1e30, 3.0)}, "each 100000 at most"),
    ({"bilateral": (10.0, 1e-30, 13.0)}, "deviations > 0, that is from 0.001"),
]


def test_numbers_become_floats_and_weights_of_0_are_fine():
    found = CrfSettings([10, 80, 13], (0, 3), 0, "lattice")
    assert found == CrfSettings((10.0, 80.0, 13.0), (0.0, 3.0), 0, "lattice")
    assert all(isinstance(x, float) for x in (*found.bilateral, *found.spatial))
    assert hash(found) == hash(CrfSettings((10.0, 80.0, 13.0), (0.0, 3.0), 0, "lattice"))


@pytest.mark.parametrize("fields, text", [*WRONG, ({"method": "brute"}, '"exact" or "lattice"')])
def test_what_cannot_be_meant(fields, text):
    with pytest.raises(ValueError, match=text):
        CrfSettings(**fields)


@pytest.mark.parametrize("fields, text", WRONG)
def test_a_configs_section_is_named(fields, text):
    section = {"bilateral": (10.0, 80.0, 13.0), "spatial": (3.0, 3.0), "iterations": 10}
    good = ml_collections.ConfigDict(section)
    assert CrfSettings.of(good, "eval.crf", "lattice") == CrfSettings(method="lattice")
    with pytest.raises(UserError, match=rf"^eval\.crf: .*{text}.*\.$"):
        CrfSettings.of(ml_collections.ConfigDict(section | fields), "eval.crf", "lattice")
