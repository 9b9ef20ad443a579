"""Weakly supervised object localization and segmentation in JAX.

>>> import wsol_jax
>>> model = wsol_jax.load("runs/spg")
>>> model("dog.jpg").boxes
"""

import importlib

__version__ = "0.1.0"
_HOMES = {
    "load": "wsol_jax.api.model",
    "Model": "wsol_jax.api.model",
    "Result": "wsol_jax.api.result",
    "train": "wsol_jax.api.train",
    "pretrained": "wsol_jax.api.pretrained",
    "UserError": "wsol_jax.base.errors",
}
__all__ = sorted([*_HOMES, "explain"])


def __getattr__(name: str) -> object:
    # When first used: whoever imports the package alone does not wait for JAX.
    if name == "explain":  # a room of functions, and not one of them
        return importlib.import_module("wsol_jax.explain")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'wsol_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
