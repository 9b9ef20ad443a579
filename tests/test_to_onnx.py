"""``launch/to_onnx.sh``: exports converted in the environment that it made; skipped without one."""

import os
import pathlib
import subprocess

import pytest
import tiny
from helpers import exported

VENV = pathlib.Path(os.environ.get("WSOL_ONNX_VENV") or tiny.ROOT / ".venv-onnx")
pytestmark = pytest.mark.slow


def convert(*words):
    command = [tiny.ROOT / "launch" / "to_onnx.sh", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(autouse=True, scope="module")
def environment():
    if not list(VENV.glob(".wsol_jax_*")):
        pytest.skip(f"{VENV} is not there: ./launch/to_onnx.sh DIR makes it")


@pytest.mark.parametrize("name", ["cam", "mobilenet_v2", "spg", "cams2i", "two_phase", "sec"])
def test_onnxruntime_says_what_the_export_says(name, tmp_path):
    """Its exit status is that of the comparison with the StableHLO, to 1e-4 of the peak."""
    exported.model(name).export(tmp_path)
    done = convert(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 photos: heat" in done.stdout and "7 photos: heat" in done.stdout
    assert (tmp_path / "model.onnx").stat().st_size > 1000


def test_a_folder_that_is_no_export_is_a_sentence(tmp_path):
    done = convert(tmp_path)
    assert done.returncode == 2 and "no model.json" in done.stderr
