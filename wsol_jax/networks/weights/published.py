"""ImageNet weights that their publishers let anyone fetch."""

import pathlib

from wsol_jax.base.download import Remote, fetch
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"


WEIGHTS = {
    # MD5 as in keras.applications. Keras states none for MobileNetV2: this SHA-256 is the one
    # that several projects pin for the same file.
    "vgg16": Remote(
        f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "inception_v3": Remote(
        f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "mobilenet_v2": Remote(
        f"{_KERAS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
        sha256="3e195a2857356cfc092cbbb460beb2a5bce279015d7792598b8d3d9e451902e3",
    ),
    # torchvision states the first digits alone, in the file's name.
    "alexnet": Remote(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", sha256="7be5be79"
    ),
}
"""ImageNet weights in Keras' layout, vgg16 and inception_v3 without their classifier; AlexNet's, of
which Keras has none, in torchvision's (PyTorch reads it)."""


def ensure_weights(name: str) -> pathlib.Path:
    """The file of a backbone's ImageNet weights (WEIGHTS), in cache_folder()/weights.

    Raises UserError for a name without public weights, and as fetch does.
    """
    if name not in WEIGHTS:
        raise UserError(
            f"no ImageNet weights are known for {name!r}, only for {', '.join(WEIGHTS)}: give a "
            "file of your own as weights=PATH"
        )
    remote = WEIGHTS[name]
    return fetch(remote.url, cache_folder() / "weights" / remote.file, remote.sha256, remote.md5)
