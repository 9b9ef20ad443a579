"""Parts that methods have in common: dtype, pretrained weights, parameter groups, a CRF target."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from wsol_jax.base import target
from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config, Groups, Tree
from wsol_jax.losses.classification import masked_mean, sigmoid_cross_entropy, softmax_cross_entropy
from wsol_jax.methods import Batch, Localization, Variables
from wsol_jax.networks import weights
from wsol_jax.networks.heads import CamHead, LargeFovHead
from wsol_jax.networks.weights.dense import thinned_dense
from wsol_jax.ops.crf import CrfSettings, dense_crf
from wsol_jax.ops.images import normalise


class TrunkAndHead(nn.Module):
    """A trunk, and a head on one of its endpoints."""

    backbone: nn.Module
    head: nn.Module
    endpoint: str
    preprocessing: str

    def __call__(self, images: jax.Array, train: bool = False, valid: jax.Array | None = None):
        """(B, H, W, 3) in 0..255 -> what the head gives."""
        mask = None if valid is None else valid[:, None, None, None]
        x = normalise(images, self.preprocessing)
        endpoints = self.backbone(x, train=train, mask=mask)
        return self.head(endpoints[self.endpoint], train=train)


def compute_dtype(name: str) -> jnp.dtype:
    """The dtype that a config's ``dtype`` means: "auto" is bfloat16 on accelerators alone."""
    if name == "auto":
        name = "float32" if target.platform() == "cpu" else "bfloat16"
    if name not in ("float32", "bfloat16"):
        raise UserError(f"dtype: {name!r} is not one of 'auto', 'float32', 'bfloat16'.")
    return jnp.dtype(name)


def preprocessing(model: Config) -> str:
    """The way pixels are prepared; "auto", with no weight file that decides, is "tf"."""
    return "tf" if model.preprocessing == "auto" else model.preprocessing


def cam_head(model: Config, num_classes: int, dtype: DTypeLike, kernel: int = 3) -> CamHead:
    """The class-map head that a config's ``model`` section describes."""
    return CamHead(
        num_classes=num_classes,
        channels=model.head_channels,
        layers=model.head_layers,
        kernel=kernel,
        dropout=model.dropout,
        map_mean=model.map_mean,
        dtype=dtype,
    )


def fov_head(
    options: Config,
    num_classes: int,
    dtype: DTypeLike,
    last_deviation: float = 1e-2,
    window: int = 3,
) -> LargeFovHead:
    """The LargeFOV head that a segmenter's section describes; background is one class more."""
    return LargeFovHead(
        num_classes=1 + num_classes,
        channels=options.channels,
        window=window,
        dilation=options.dilation,
        average=options.average,
        dropout=options.dropout,
        last_deviation=last_deviation,
        dtype=dtype,
    )


def localization(logits: jax.Array, maps: jax.Array, model: Config) -> Localization:
    """Makes a Localization of a head's output, clipped at zero if ``model.positive_maps`` says so.

    What speaks against a class says nothing of where it is (Grad-CAM's rule). The logits average
    the raw maps either way, and so do seeds come from raw maps.
    """
    return Localization(logits, jax.nn.relu(maps) if model.positive_maps else maps)


Outputs = TypeVar("Outputs")


def forward(
    network: nn.Module,
    variables: Variables,
    batch: Batch,
    rng: jax.Array,
    method: Callable[..., Outputs] | None = None,
    **inputs: jax.Array,
) -> tuple[Outputs, dict[str, Tree]]:
    """Runs a network on a training batch: its outputs, and its updated collections.

    ``method``: of the network, its ``__call__`` if None. ``inputs``: further arguments of it.
    """
    return network.apply(
        variables,
        batch["image"],
        train=True,
        valid=batch["valid"],
        rngs={"dropout": rng},
        mutable=["batch_stats"],
        method=method,
        **inputs,
    )


def score_kind(config: Config) -> str:
    """The function from logits to scores: "softmax" (one class an image) or "sigmoid" (several).

    Raises:
      UserError: ``model.scores`` is neither of them, nor "auto": what the labels are like.
    """
    kind = config.model.scores
    if kind == "auto":
        kind = "sigmoid" if config.data.multi_label else "softmax"
    if kind not in _LOSSES:
        raise UserError(f"model.scores: {kind!r} is not one of 'auto', 'softmax', 'sigmoid'.")
    return kind


_LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def probabilities(logits: jax.Array, scores: str) -> jax.Array:
    """Turns (B, C) logits into class scores in [0, 1]; see ``score_kind``."""
    return jax.nn.softmax(logits) if scores == "softmax" else jax.nn.sigmoid(logits)


def classification(
    logits: jax.Array, batch: Batch, scores: str = "softmax"
) -> tuple[jax.Array, jax.Array]:
    """Computes loss and accuracy on the image labels, means over the valid examples.

    ``scores``: see ``score_kind``. Accuracy: is the highest class one of the image's.
    """
    labels, valid = batch["labels"], batch["valid"]
    hit = jnp.take_along_axis(labels, jnp.argmax(logits, -1)[:, None], axis=-1)[:, 0]
    return masked_mean(_LOSSES[scores](logits, labels), valid), masked_mean(hit, valid)


def check_classes(num_classes: int, what: str) -> None:
    """Raises UserError for more classes than ``what``, such as "cues", can name in 8 bits."""
    if num_classes >= UNLABELLED:
        raise UserError(f"{what} hold {UNLABELLED - 1} classes at most, not {num_classes}.")


def single_label(config: Config) -> None:
    """Raises UserError where a method that needs one class an image is given several."""
    if config.data.multi_label:
        raise UserError(
            f"data.multi_label: {config.method} needs one class an image; configs/two_phase.py and "
            "configs/cam.py take several."
        )


def crf_target(
    scores: jax.Array,
    images: jax.Array,
    settings: CrfSettings,
    floor: float,
    capacity: int | None = None,
) -> jax.Array:
    """Makes a target of a segmenter's scores by a dense CRF over the photos, for its training step.

    Cells stand for equal parts of the photo here, as in the cues and at test time; Caffe's pools
    put them on its corners, up to 0.43 cells from there.

    Args:
      scores: (B, h, w, C) before softmax; where the CRF shall see the whole photo, (B, H, W, C).
      images: (B, H, W, 3) in 0..255; shrunk to h x w.
      settings: its deviations in cells of ``scores``.
      floor: the least probability.
      capacity: of the lattice, see ``ops.crf.dense_crf``.

    Returns:
      (B, h, w, C) float32 probabilities above 0, without a gradient. Of an image that needs more
      than ``capacity``, such as noise, which has no edges to follow, the scores' own.
    """
    shape = (*scores.shape[:3], 3)
    small = jax.image.resize(images.astype(jnp.float32), shape, "bilinear", antialias=False)
    scores = jax.lax.stop_gradient(scores)
    found = dense_crf(
        -scores,
        jnp.round(small).astype(jnp.uint8),
        **dataclasses.asdict(settings),
        capacity=capacity,
    )
    if capacity is not None:  # before the maximum, which on CPU may take the floor for NaN
        found = jnp.where(jnp.isnan(found), jax.nn.softmax(scores), found)
    found = jnp.maximum(found, floor)
    return found / jnp.sum(found, axis=-1, keepdims=True)


def initialiser(
    network: nn.Module, model: Config, dense: Sequence[str] = (), **trunks: Config
) -> Callable[[jax.Array, jax.Array], Variables]:
    """Makes ``init(rng, images) -> variables`` of a network with a ``backbone``, weights merged in.

    Args:
      model: the config's section of the backbone.
      dense: names of the network's modules of class ``LargeFovHead``, whose fc6 and fc7 come from
        the fully connected layers of the backbone's file if ``model.dense_layers`` says so.
      trunks: sections, each with ``backbone`` and ``weights``, of the network's other trunks by the
        names of their modules.

    Raises (from init):
      UserError: a weight file is missing, or does not fit its trunk or a head in ``dense``.
    """

    def init(rng: jax.Array, images: jax.Array) -> Variables:
        try:
            start = lambda rng, images: network.init({"params": rng}, images)
            if not isinstance(rng, jax.core.Tracer):  # not asked for shapes alone
                # Compiled to run once: on CPU, optimising random numbers takes half a minute.
                cpu = jax.default_backend() == "cpu"
                quick = {"xla_backend_optimization_level": 0} if cpu else {}
                start = jax.jit(start, compiler_options=quick)
            variables = start(rng, images)
        except KeyError as error:
            raise UserError(
                f"model: the backbone {model.backbone!r} has no endpoint {error} up to "
                f"final_endpoint={model.final_endpoint!r}."
            ) from error
        except ValueError as error:  # a stride that the trunk lacks
            fields = "model.final_endpoint, model.output_stride"
            if trunks:
                fields += ", or those of features"
            raise UserError(f"{fields}: {error.args[0] if error.args else error}") from error
        for module, section in {"backbone": model, **trunks}.items():
            if section.weights not in ("", "none"):
                heads = dense if module == "backbone" and dense and model.dense_layers else ()
                variables = _with_weights(variables, module, section, heads)
        return variables

    return init


def _with_weights(
    variables: Variables, module: str, section: Config, heads: Sequence[str]
) -> Variables:
    """The variables with a trunk's from its file, and the heads' fc6 and fc7 from there too."""
    file = section.weights, section.backbone
    arrays = weights.read(*file)  # once: VGG16's with the fully connected layers has 553 MB
    trunk = {name: tree[module] for name, tree in variables.items() if module in tree}
    trunk = weights.load_pretrained(*file, trunk, arrays)
    filled = {
        name: {**tree, module: trunk[name]} if name in trunk else tree
        for name, tree in variables.items()
    }
    params = filled["params"]
    thinned = {name: params[name] | thinned_dense(*file, params[name], arrays) for name in heads}
    return {**filled, "params": {**params, **thinned}}


def layers_until(backbone: nn.Module, endpoint: str, field: str = "model.freeze_until") -> set[str]:
    """Names of the backbone's layers up to an endpoint: those of a trunk that ends there.

    Args:
      endpoint: "all" for the whole trunk, "" for nothing of it.
      field: of the config, for the sentence.

    Raises:
      UserError: the backbone has no such endpoint.
    """
    if not endpoint:
        return set()
    if endpoint == "all":
        endpoint = backbone.final_endpoint
    trunk = backbone.clone(final_endpoint=endpoint, parent=None)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    try:
        shapes = jax.eval_shape(lambda x: trunk.init(jax.random.key(0), x), images)
    except ValueError as error:
        raise UserError(f"{field}: {error}.") from None
    return set(shapes["params"])


def param_grouper(
    backbone: nn.Module,
    freeze_until: str = "",
    part_of: Callable[[list[str]], str] = lambda names: "head",
) -> Callable[[Tree], Groups]:
    """Makes ``param_groups(params) -> labels``: "<part>/<kind>" for each parameter.

    part: "backbone", "frozen", or for what is not the backbone what ``part_of`` says of the
    parameter's path, "head" as a rule; its learning rate is the config's ``optimizer.<part>_lr``.
    kind: "norm" (scales and offsets of normalisation), "bias" or "kernel".
    """
    frozen = layers_until(backbone, freeze_until)

    def label(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.Array) -> str:
        names = [key.key for key in path]
        part = "backbone" if names[0] == "backbone" else part_of(names)
        if part == "backbone" and names[1] in frozen:
            part = "frozen"
        # A normalisation layer has a one-dimensional scale or shares its layer with one; biases
        # of convolutions stand beside a kernel of more dimensions.
        layer = names[-2].lower()
        is_norm = names[-1] == "scale" or "bn" in layer or "norm" in layer
        kind = "norm" if is_norm else "bias" if np.ndim(leaf) == 1 else "kernel"
        return f"{part}/{kind}"

    return lambda params: jax.tree_util.tree_map_with_path(label, params)
