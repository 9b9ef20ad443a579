"""Some of what ``faults.kills`` does a hundred times."""

import random

import pytest
import tiny
from helpers.sec_runs import words
from helpers.voc import write_voc

from faults import kills

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("kills") / "voc")


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    done = tiny.run(words(photos, workdir))
    assert done.returncode == 0, done.stderr
    return workdir


def test_killed_at_random_and_gone_on_with(photos, whole, tmp_path):
    flags = words(photos, tmp_path)
    assert kills.break_to_its_end(flags, tmp_path, random.Random(1), most=6).total()
    kills.assert_same(tmp_path, whole)


def test_a_second_run_is_refused_and_the_first_is_right(photos, whole, tmp_path):
    flags = words(photos, tmp_path)
    other = [*flags, "--config.seed=1"]
    kills.assert_second_is_refused(flags, other, tmp_path, whole, wait=1.0)
