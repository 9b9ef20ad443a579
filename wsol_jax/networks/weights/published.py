"""Fetches the ImageNet weights of ``backbones.table`` that ``model.weights="imagenet"`` names."""

import pathlib

from wsol_jax.base.download import fetch
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder
from wsol_jax.networks.backbones.table import BACKBONES


def ensure_weights(name: str, dense: bool = False) -> pathlib.Path:
    """Fetches a backbone's ImageNet weights into cache_folder()/weights, unless they are there.

    Keras' files of vgg16, inception_v3 and the ResNets have no classifier; AlexNet, of which Keras
    has none, is torchvision's (PyTorch reads it). ``dense`` asks for vgg16's file with the fully
    connected layers, 553 MB instead of 59.

    Raises UserError for a name without public weights, and as fetch does.
    """
    known = {name: row.weights[row.imagenet] for name, row in BACKBONES.items() if row.imagenet}
    if name not in known:
        raise UserError(
            f"no ImageNet weights are known for {name!r}, only for {', '.join(known)}: give a "
            "file of your own as weights=PATH"
        )
    remote = (known[name].dense if dense else None) or known[name].remote
    return fetch(remote.url, cache_folder() / "weights" / remote.file, remote.sha256, remote.md5)
