"""Our calls on the page for users of pytorch-grad-cam, each run as it stands."""

import pathlib
import re

import numpy as np
import pytest

from wsol_jax import explain

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "from_pytorch_grad_cam.md"
TEXT = PAGE.read_text()
OURS = re.findall(r"^```python ours\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_call_runs_as_written():
    assert len(OURS) > 6
    names = {}
    for block in OURS:
        exec(compile(block, str(PAGE), "exec"), names)
        assert np.isfinite(np.asarray(names.get("heat", 0))).all(), block
    assert names["heat"].shape == (2, 14, 14)
    assert {"score", "area", "drop", "rises"} <= set(names)


def test_every_name_is_there():
    for name in set(re.findall(r"explain\.(\w+)", TEXT)) - {"linen", "nnx"}:
        assert hasattr(explain, name) or name == "faithfulness", name


def test_every_function_is_on_the_page():
    hidden = {"METHODS", "Network", "Tapped", "of_method"}
    assert not {name for name in explain.__all__ if f"explain.{name}" not in TEXT} - hidden
