"""The benchmarks start and end with a ratio; figures come from running them by hand."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


def _ratio(script, *flags, peer="torch"):
    pytest.importorskip(peer)
    environment = {**os.environ, "XLA_FLAGS": "", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, str(FOLDER / script), *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    return float(re.search(r"^ratio .*: ([0-9.]+)x", run.stdout, re.MULTILINE)[1])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cam-vgg16", "spg-inception"])
def test_train_step_compares_and_times(network):
    small = ("--batch=1", "--size=64", "--width=0.5", "--head-channels=32", "--threads=1")
    short = ("--rounds=1", "--steps=1", "--peak-size=128")
    assert _ratio("train_step.py", f"--network={network}", *small, *short) > 0


def test_input_pipeline_times():
    assert _ratio("input_pipeline.py", "--count=16", "--batch=4", "--rounds=1") > 0


@pytest.mark.slow
def test_segments_compares_and_times():
    small = ("--photos=3", "--rounds=1", "--width=0.35", "--size=96")
    assert _ratio("segments.py", *small, peer="pydensecrf") > 0


@pytest.mark.slow
def test_crf_compares_and_times():
    small = ("--batch=2", "--map=12", "--size=40x32", "--classes=4", "--rounds=1")
    assert _ratio("crf.py", *small, peer="pydensecrf") > 0
