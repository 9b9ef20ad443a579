"""The published recipes' steps compiled for a TPU slice of four chips, which is not here.

A program takes one to five minutes of one core, and is found again in the cache's folder.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "benchmarks" / "devices.py"
RECIPES = (
    "cam", "spg", "cams2i", "second", "sec", "hide_and_seek", "region_net", "pixel_net"
)  # fmt: skip
pytestmark = pytest.mark.slow


def compiled(recipe, place, out):
    """The figures of a recipe's step, by the script that makes the page's tables."""
    words = [f"--topology={place}", f"--recipes={recipe}", f"--out={out}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        # Without the tests' flags for XLA, which are for this machine's CPU.
        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_published_batch_on_four_chips(recipe, tmp_path):
    """The step fits 16 GB a chip, leaves the host alone, and sums its gradients over the chips."""
    pytest.importorskip("libtpu")
    step = compiled(recipe, "v5e:2x2", tmp_path / "steps.json")
    assert step.get("too_large") is None
    assert step["fits"] and step["memory_bytes"] < 16e9
    assert step["host_calls"] == []
    # What reaches the main memory is a part of what is accessed at all; loops count once there.
    assert 0.2 < step["traffic_bytes"] / step["accessed_bytes"] < 1.5
    # Gradients in bfloat16 of millions of parameters.
    assert step["collectives"]["all-reduce"]["bytes"] > 10e6
    assert step["chips"] == 4


def test_a_small_step_on_gpus(tmp_path):
    """CAM's for eight H100, whose compiler says neither FLOPs nor bytes accessed."""
    pytest.importorskip("jax_cuda12_plugin")
    step = compiled("cam", "h100:8", tmp_path / "steps.json")
    assert step["fits"] and step["host_calls"] == []
    assert step["images_per_chip"] == 4
    # VGG16-CAM: 31.4 GFLOP an image forward (15.7 G multiply-adds at 224), three times that a step.
    assert 80e9 < step["flops"] / 4 < 100e9
    assert step["traffic_bytes"] > 1e9
