"""The backbones, a row each: module, defaults, endpoints of each method, published weights.

A new backbone is its file and a row here. Nothing of JAX or Flax is loaded: configs read the table.
"""

import dataclasses
import importlib
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from wsol_jax.base.download import Remote

if TYPE_CHECKING:
    from wsol_jax.networks.backbones.published import PublishedNames

Layout = Literal["keras", "torchvision"]
Fields = Mapping[str, bool | int | float | str]

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_TORCH = "https://download.pytorch.org/models"


@dataclasses.dataclass(frozen=True)
class Weights:
    """One publisher's ImageNet weights of a backbone, and what they assume.

    Attributes:
      remote: the file, which its publisher lets anyone fetch; None where there is none.
      dense: the file with the fully connected layers, where ``remote`` is one without.
      preprocessing: "tf", "torch" or "caffe"; see ``ops.images``.
      fields: arguments of the backbone's module that reproduce the publisher's network.
      no_gains: whether its normalisation layers have no gains: they become 1.
    """

    remote: Remote | None
    preprocessing: str
    fields: Fields = dataclasses.field(default_factory=dict)
    no_gains: bool = False
    dense: Remote | None = None


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone's row: its module, and its fields unless a recipe says otherwise.

    Attributes:
      module: of its file.
      network: the Flax module's class.
      names: what that file calls the names of its published layers.
      weights: by layout.
      imagenet: the layout that ``model.weights="imagenet"`` fetches; None: a file must be named.
      model: fields of the config's ``model`` section.
      taps: section of a method -> its fields that name endpoints.
      compares: the endpoint that compares images (CAMs2i's ``features``): the last layer before
        the classifier.
      compares_stride: its output stride there, with no pool relaxed.
    """

    module: str
    network: str
    weights: Mapping[Layout, Weights] = dataclasses.field(default_factory=dict)
    imagenet: Layout | None = "keras"
    model: Fields = dataclasses.field(default_factory=dict)
    taps: Mapping[str, Fields] = dataclasses.field(default_factory=dict)
    compares: str = ""
    compares_stride: int = 32
    names: str = "NAMES"

    def load(self) -> types.ModuleType:
        """Imports its module: a run loads the one that it needs."""
        return importlib.import_module(self.module)

    def published(self) -> "PublishedNames":
        """The names of its layers in published files."""
        return getattr(self.load(), self.names)


def _resnet(depth: int, torch: str, md5: str, conv4: str) -> Backbone:
    """A ResNet's row: the digits that torchvision states, Keras' checksum, conv4_x's last unit."""
    name, last = f"resnet{depth}", "conv5_block3"
    keras = f"{_KERAS}/resnet/{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Backbone(
        module="wsol_jax.networks.backbones.resnet",
        network=f"ResNet{depth}",
        names=f"NAMES_{depth}",
        weights={
            "torchvision": Weights(
                Remote(f"{_TORCH}/{name}-{torch}.pth", sha256=torch),
                "torch",
                {"strided_conv": "3x3", "use_bias": False, "epsilon": 1e-5},
            ),
            "keras": Weights(
                Remote(keras, md5=md5),
                "caffe",
                {"strided_conv": "1x1", "use_bias": True, "epsilon": 1.001e-5},
            ),
        },
        model=dict(output_stride=16, final_endpoint=last, head_layers=0),
        taps={
            "spg": dict(b1_endpoint="conv3_block4", b2_endpoint=conv4),
            "cams2i": dict(endpoint_2=conv4),
            "hide_and_seek": dict(conv5=last),
        },
        compares=last,
    )


# Keras' checksums are those of keras.applications, which states none for MobileNetV2: there it is
# the SHA-256 that several projects pin for the same file. torchvision states the first digits
# alone, in the file's name, and those are what is compared; AlexNet's and GoogLeNet's have the
# whole as other projects pin it. Strides: the papers' maps are 28x28 at 224 pixels (Inception),
# 14x14 (VGG16-CAM, GoogLeNet-GAP) and 13x13 (AlexNet-GAP). SPG's branches hang where its
# code has them on Inception-v3, on A1's output and within A2 (the paper's recipe takes A2's output,
# see configs/spg.py), and on like layers of the others; CAMs2i's second classifier a block before
# the trunk's last, at the same stride. A ResNet ends in an average and a classifier,
# so its class maps need no layers before them (Zhou et al. 2016); GAP networks of the others one
# 3x3 layer of 1024 channels.
BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone(
        module="wsol_jax.networks.backbones.vgg",
        network="VGG16",
        weights={
            "torchvision": Weights(
                Remote(f"{_TORCH}/vgg16-397923af.pth", sha256="397923af"), "torch"
            ),
            "keras": Weights(
                Remote(
                    f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                    md5="6d6bbae143d832006294945121d1f1fc",
                ),
                "caffe",
                dense=Remote(
                    f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
                    md5="64373286793e3c8b2b4e3219cbf3544b",
                ),
            ),
        },
        model=dict(output_stride=16, final_endpoint="conv5_3", head_layers=1),
        taps={
            "spg": dict(b1_endpoint="conv4_3", b2_endpoint="conv5_3"),
            "cams2i": dict(endpoint_2="conv4_3"),
            "hide_and_seek": dict(conv5="conv5_3"),
        },
        compares="pool5",
    ),
    "inception_v3": Backbone(
        module="wsol_jax.networks.backbones.inception",
        network="InceptionV3",
        weights={
            # torchvision's transform_input makes "tf" of its usual "torch" images.
            "torchvision": Weights(
                Remote(f"{_TORCH}/inception_v3_google-0cc3c7bd.pth", sha256="0cc3c7bd"),
                "tf",
                {"count_include_pad": True},
            ),
            "keras": Weights(
                Remote(
                    f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop"
                    ".h5",
                    md5="bcbd6486424b2319ff4ef7d526e38f63",
                ),
                "tf",
                {"count_include_pad": False},
                no_gains=True,
            ),
        },
        model=dict(output_stride=8, final_endpoint="Mixed_6e", head_layers=2),
        taps={
            "spg": dict(b1_endpoint="Mixed_5d", b2_endpoint="Mixed_6d"),
            "cams2i": dict(endpoint_2="Mixed_5d"),
            "hide_and_seek": dict(conv5="Mixed_6e"),
        },
        compares="Mixed_6e",
    ),
    "mobilenet_v2": Backbone(
        module="wsol_jax.networks.backbones.mobilenet",
        network="MobileNetV2",
        weights={
            "torchvision": Weights(
                Remote(f"{_TORCH}/mobilenet_v2-b0353104.pth", sha256="b0353104"),
                "torch",
                {"padding": "symmetric", "epsilon": 1e-5},
            ),
            "keras": Weights(
                Remote(
                    f"{_KERAS}/mobilenet_v2/"
                    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
                    sha256="3e195a2857356cfc092cbbb460beb2a5bce279015d7792598b8d3d9e451902e3",
                ),
                "tf",
                {"padding": "SAME", "epsilon": 1e-3},
            ),
        },
        model=dict(output_stride=16, final_endpoint="Conv_1", head_layers=1),
        taps={
            "spg": dict(b1_endpoint="block_9", b2_endpoint="block_12"),
            "cams2i": dict(endpoint_2="block_12"),
            "hide_and_seek": dict(conv5="block_16"),
        },
        compares="Conv_1",
    ),
    "resnet50": _resnet(50, "0676ba61", "4d473c1dd8becc155b73f8504c6f6626", "conv4_block6"),
    "resnet101": _resnet(101, "63fe2227", "88cf7a10940856eca736dc7b7e228a21", "conv4_block23"),
    "alexnet": Backbone(
        module="wsol_jax.networks.backbones.alexnet",
        network="AlexNet",
        weights={
            "torchvision": Weights(
                Remote(
                    f"{_TORCH}/alexnet-owt-7be5be79.pth",
                    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                ),
                "torch",
            )
        },
        imagenet="torchvision",
        model=dict(output_stride=16, final_endpoint="conv5", head_layers=1),
        taps={
            "spg": dict(b1_endpoint="conv3", b2_endpoint="conv5"),
            "cams2i": dict(endpoint_2="conv4"),
            "hide_and_seek": dict(conv5="conv5"),
        },
        compares="fc7",
    ),
    "googlenet": Backbone(
        module="wsol_jax.networks.backbones.googlenet",
        network="GoogLeNet",
        weights={
            # torchvision's transform_input makes "tf" of its usual "torch" images here too.
            "torchvision": Weights(
                Remote(
                    f"{_TORCH}/googlenet-1378be20.pth",
                    sha256="1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
                ),
                "tf",
            )
        },
        imagenet="torchvision",
        model=dict(output_stride=16, final_endpoint="inception4e", head_layers=1),
        taps={
            "spg": dict(b1_endpoint="inception3b", b2_endpoint="inception4d"),
            "cams2i": dict(endpoint_2="inception3b"),
            "hide_and_seek": dict(conv5="inception4e"),
        },
        compares="inception5b",
    ),
    "squeezenet": Backbone(
        module="wsol_jax.networks.backbones.squeezenet",
        network="SqueezeNet",
        weights={
            "torchvision": Weights(
                Remote(f"{_TORCH}/squeezenet1_0-b66bff10.pth", sha256="b66bff10"), "torch"
            ),
            # Files of the Caffe model's weights under Keras' names; nobody publishes one.
            "keras": Weights(None, "caffe"),
        },
        imagenet=None,  # nobody states the whole checksum of a file
        model=dict(output_stride=16, final_endpoint="fire9", head_layers=0),
        taps={
            "spg": dict(b1_endpoint="fire5", b2_endpoint="fire8"),
            "cams2i": dict(endpoint_2="fire8"),
            "hide_and_seek": dict(conv5="fire9"),
        },
        compares="fire9",
        compares_stride=16,
    ),
}


def taps(backbone: str, section: str) -> Fields:
    """The endpoints that a method's section names on a backbone; none where the row has none."""
    return BACKBONES[backbone].taps.get(section, {}) if backbone in BACKBONES else {}
