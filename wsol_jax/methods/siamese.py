"""One set of weights in two geometries: a segmenter, and class-map networks (Hide-and-Seek)."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.base.labels import UNLABELLED
from wsol_jax.base.types import Config, Groups, Tree
from wsol_jax.methods import Variables, shared
from wsol_jax.networks import backbones
from wsol_jax.ops.images import normalise

OWN = "class_map_network"  # in the variables: layers that the segmenter does not share
_CHOICES = {
    "classification": ("squared", "logistic"),
    "pool": ("sum", "mean"),
    "cam_stride": (8, 16, 32),
    "gap": ("conv5", "conv7"),
    "crf": ("image", "cells", "none"),
    "switching": ("none", "fixed", "adaptive"),
    "filter": ("none", "weigh", "released"),
}


class Seen(NamedTuple):
    """What the network says of images.

    Attributes:
      scores: (B, h, w, 1 + C) float32, the segmenter's, before softmax.
      maps: (B, h, w, C) float32, raw class maps (Redondo-Cabrera et al. 2018, eq. 2).
      response: (B, h, w) float32, what conv5 responds with: the mean over its channels.
    """

    scores: jax.Array
    maps: jax.Array
    response: jax.Array


class SiameseNetwork(nn.Module):
    """DeepLab-LargeFOV, and a linear classifier without bias on its last features (eq. 2).

    Attributes:
      backbone, head: the trunk; fc6, fc7 and fc8.
      num_classes: C.
      endpoint: of the trunk, where the head hangs.
      conv5: of the trunk, whose responses are foreground; magnitudes, where no ReLU is behind it.
      gap: the features that the classifier reads: "conv7" (fc7) or "conv5".
      extra: channels of one more 3x3 layer before the classifier, as released; 0 for none.
      deviation: of the classifier's first weights.
      preprocessing: of the pixels.
    """

    backbone: nn.Module
    head: nn.Module
    num_classes: int
    endpoint: str
    conv5: str
    gap: str
    extra: int
    deviation: float
    preprocessing: str

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, valid: jax.Array | None = None
    ) -> Seen:
        """(B, H, W, 3) in 0..255 -> what it says of them."""
        mask = None if valid is None else valid[:, None, None, None]
        x = self.backbone(normalise(images, self.preprocessing), train=train, mask=mask)
        if self.conv5 not in x:
            known = ", ".join(x)
            raise UserError(f"hide_and_seek.conv5: {self.conv5!r} is not one of {known}.")
        scores, last = self.head(x[self.endpoint], train=train)
        features = last if self.gap == "conv7" else x[self.conv5]
        if self.extra:
            conv = nn.Conv(self.extra, (3, 3), dtype=self.head.dtype, name="extra")
            features = nn.relu(conv(features))
        classifier = nn.Conv(
            self.num_classes,
            (1, 1),
            use_bias=False,
            dtype=self.head.dtype,
            kernel_init=nn.initializers.normal(self.deviation),
            name="class_maps",
        )
        response = jnp.mean(jnp.abs(x[self.conv5].astype(jnp.float32)), axis=-1)
        return Seen(scores, classifier(features).astype(jnp.float32), response)


class Training(NamedTuple):
    """What a training pass needs: ``rng`` for dropout, ``valid`` (B,) False at padding."""

    rng: jax.Array
    valid: jax.Array


@dataclasses.dataclass(frozen=True)
class Siamese:
    """The network as a segmenter and as a class-map network, at a stride each.

    Attributes:
      segmenter, classifier: of the same parameters; stride and dilation differ.
      layers: of the trunk that the two share; None for all of it and the head.
      init: (rng, images) -> variables of both, pretrained weights merged in.
    """

    segmenter: SiameseNetwork
    classifier: SiameseNetwork
    layers: frozenset[str] | None
    model: Config

    def init(self, rng: jax.Array, images: jax.Array) -> dict[str, Tree]:
        """Makes variables; what is not shared stands under ``OWN`` in each collection."""
        start = lambda network, rng: dict(
            shared.initialiser(network, self.model, dense=("head",))(rng, images)
        )
        variables = start(self.segmenter, rng)
        if self.layers is None:
            return variables
        for kind, tree in start(self.classifier, jax.random.fold_in(rng, 1)).items():
            own = self._own(tree)
            variables[kind] = {**variables[kind], OWN: own}
        return variables

    def _own(self, tree: Tree) -> Tree:
        """What of a class-map network's collection it does not share with the segmenter."""
        trunk = {n: x for n, x in tree["backbone"].items() if n not in self.layers}
        return {**tree, "backbone": trunk}

    def param_groups(self, params: Tree) -> Groups:
        """The parts "backbone", "head" and "classifier": fc8 and the class maps' layer."""
        until = self.model.freeze_until
        frozen = shared.layers_until(self.segmenter.backbone, until)

        def part_of(names: list[str]) -> str:
            if names[0] == OWN:
                names = names[1:]
            if names[0] == "backbone":
                return "frozen" if names[1] in frozen else "backbone"
            return "classifier" if "class_maps" in names or "fc8" in names else "head"

        return shared.param_grouper(self.segmenter.backbone, until, part_of)(params)

    def segment(
        self, variables: Variables, images: jax.Array, training: Training | None = None
    ) -> tuple[Seen, dict[str, Tree]]:
        """The segmenter's view: (B, H, W, 3) in 0..255 -> Seen, variables with new statistics."""
        found, updates = _apply(self.segmenter, variables, images, training)
        return found, {**variables, **updates}

    def attend(
        self, variables: Variables, images: jax.Array, training: Training | None = None
    ) -> tuple[Seen, dict[str, Tree]]:
        """A class-map network's view, as ``segment``."""
        if self.layers is None:
            found, updates = _apply(self.classifier, variables, images, training)
            return found, {**variables, **updates}
        joined = {}
        for kind, tree in variables.items():
            tree = dict(tree)
            own = tree.pop(OWN, {})
            trunk = {**tree.get("backbone", {}), **own.get("backbone", {})}
            joined[kind] = {**tree, **own, "backbone": trunk}
        found, updates = _apply(self.classifier, joined, images, training)
        # The shared layers' statistics are those of the segmenter's passes.
        new = {kind: {**variables[kind], OWN: self._own(x)} for kind, x in updates.items()}
        return found, {**variables, **new}


def _apply(network, variables, images, training):
    if training is None:
        return network.apply(variables, images), {}
    batch = {"image": images, "valid": training.valid}
    return shared.forward(network, variables, batch, training.rng)


def build(config: Config, num_classes: int) -> Siamese:
    """The networks of a config, from its sections ``model`` and ``hide_and_seek``.

    Raises:
      UserError: no such backbone or endpoint, or options that do not go together.
    """
    model, options = config.model, config.hide_and_seek
    _check(options, num_classes)
    if options.share_until and not options.segmentation and model.batch_norm == "batch":
        raise UserError(
            "hide_and_seek.share_until: with segmentation=0 and model.batch_norm='batch' nobody "
            "would take the shared layers' statistics."
        )
    dtype = shared.compute_dtype(config.dtype)
    backbone = backbones.build(model, dtype)
    head = shared.fov_head(options, num_classes, dtype, options.deviation)
    segmenter = SiameseNetwork(
        backbone=backbone,
        head=head,
        num_classes=num_classes,
        endpoint=model.endpoint or model.final_endpoint,
        conv5=options.conv5,
        gap=options.gap,
        extra=0 if options.share_until else options.extra,  # where all is shared, it is too
        deviation=options.deviation,
        preprocessing=shared.preprocessing(model),
    )
    classifier = segmenter.clone(
        backbone=backbone.clone(output_stride=options.cam_stride),
        head=head.clone(dilation=options.cam_dilation),
        extra=options.extra,
    )
    layers = None
    if options.share_until:
        field = "hide_and_seek.share_until"
        layers = frozenset(shared.layers_until(backbone, options.share_until, field))
    return Siamese(segmenter, classifier, layers, model)


def _check(options: Config, num_classes: int) -> None:
    """Raises UserError for options that no network can be built by."""
    if num_classes < 2:
        raise UserError(f"hide_and_seek: expected two classes or more, the data has {num_classes}.")
    if options.segmentation and num_classes >= UNLABELLED:
        raise UserError(
            f"hide_and_seek: masks hold {UNLABELLED - 1} classes at most, the data has "
            f"{num_classes}."
        )
    for name, known in _CHOICES.items():
        if options[name] not in known:
            words = ", ".join(map(repr, known))
            raise UserError(f"hide_and_seek.{name}: {options[name]!r} is not one of {words}.")
    grid, size = options.grid, options.cam_size
    if options.number > grid**2:
        raise UserError(
            f"hide_and_seek.number: expected {grid**2} at most, the patches of a photo, got "
            f"{options.number}."
        )
    if size % grid:
        raise UserError(
            f"hide_and_seek.grid: {grid} patches a side do not divide the {size} pixels of "
            "hide_and_seek.cam_size."
        )
    if options.teacher and not options.segmentation:
        raise UserError("hide_and_seek.segmentation: 0, and a teacher, leave nothing to learn.")
