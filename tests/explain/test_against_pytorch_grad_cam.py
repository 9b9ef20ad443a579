"""Maps of one network by pytorch-grad-cam and here: stored ones, and theirs anew where it is there.

They stretch each map to 0..1; that is done to ours too.
"""

import jax
import numpy as np
import pytest
from helpers import explained, torch_cam
from helpers.compiling import quick

from wsol_jax import explain

IMAGES = np.float32(explained.images())
CLASS_OF = np.array(torch_cam.CLASS_OF)


@jax.tree_util.register_static
class Louder:
    """The class's score, a thousand times."""

    def __call__(self, logits):
        return torch_cam.GAIN * explain.class_score(CLASS_OF)(logits)


def ours(name):
    network = explain.linen(
        explained.LinenNet(stride=1),
        explained.linen_variables(),
        "two:input",
        outputs=lambda found: found[0],
    )
    target = Louder() if name == "grad_cam_pp" else explain.class_score(CLASS_OF)
    found = np.asarray(quick(getattr(explain, name))(network, IMAGES, target), np.float64)
    found -= found.min(axis=(1, 2), keepdims=True)
    return found / found.max(axis=(1, 2), keepdims=True)


def agree(name, found, theirs):
    if name == "eigen_cam":  # the sign of a component is whatever their library makes it
        alike = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found, theirs, strict=True)
        ]
        same = np.array(alike) > 0.5
        assert same.any()
        found, theirs = found[same], theirs[same]
    np.testing.assert_allclose(found, theirs, atol=2e-4 if name == "grad_cam_pp" else 2e-5)


@pytest.mark.parametrize("name", torch_cam.NAMES)
def test_theirs_as_stored(name):
    with np.load(torch_cam.FILE) as stored:
        agree(name, ours(name), stored[name])


def test_theirs_made_anew():
    pytest.importorskip("torch", exc_type=ImportError)
    pytest.importorskip("pytorch_grad_cam", exc_type=ImportError)
    for name, found in torch_cam.theirs().items():
        agree(name, ours(name), found)
