"""CAMs2i: Localization with Inter-Intra Regulated CAMs (Kou et al. 2019).

Two classifiers on one trunk make two class maps, S1 of its last features and S2 of earlier ones.
Where S2 stands out from its own mean, S1 shall agree with it; where it does not, S1 shall look for
something else (intra). And a second, frozen network looks at the image seen through each map: what
the maps call object shall look alike in all images of a class, what they call background too, and
the two shall differ (inter). At test time the two maps are stretched to 0..1 and averaged.

There is no public code. What the paper leaves open is a field of ``configs/cams2i.py``.
"""

import functools
from collections.abc import Mapping
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config, Tree
from wsol_jax.losses.classification import masked_mean
from wsol_jax.losses.inter_sample import inter_sample_loss, weighted_averages, weighted_images
from wsol_jax.losses.interaction import agreement_loss, interaction_loss, linear_ramp
from wsol_jax.methods import Aux, Localization, Method, Variables, shared
from wsol_jax.methods.taps import tapper
from wsol_jax.networks import backbones
from wsol_jax.ops import cam as cam_ops
from wsol_jax.ops.images import normalise, resize_maps
from wsol_jax.ops.seeds import deviation_mask

# Raw class maps (B, h, w) -> [0, 1]: the paper's sigma, which it writes in eq. 8 alone. Raw maps in
# eqs. 3 to 5 would leave L_int, whose mask has negative weights, without a least value.
SQUASH = {
    "sigmoid": jax.nn.sigmoid,
    "min_max": cam_ops.min_max,
    "against_mean": lambda maps: cam_ops.against_mean(jax.nn.relu(maps)),
}
# The two maps of a class, each in 0..1, as one ("combine them together after normalization").
FUSE = {
    "mean": lambda one, other: (one + other) / 2,
    "max": jnp.maximum,
    "product": lambda one, other: one * other,
}


class Cams2iNetwork(nn.Module):
    """A trunk with one or two class-map heads, and the network that compares what they show."""

    backbone: nn.Module
    head_1: nn.Module
    endpoint_1: str
    preprocessing: str
    head_2: nn.Module | None = None
    endpoint_2: str = ""
    feature_trunk: nn.Module | None = None
    feature_endpoint: str = ""
    feature_preprocessing: str = ""
    projection: nn.Module | None = None

    def taps(self, images, train: bool = False, valid: jax.Array | None = None):
        """-> [(B, h, w, D), ...]: the features under each classifier."""
        mask = None if valid is None else valid[:, None, None, None]
        x = normalise(images, self.preprocessing)
        endpoints = self.backbone(x, train=train, mask=mask)
        names = (self.endpoint_1,) if self.head_2 is None else (self.endpoint_1, self.endpoint_2)
        return [endpoints[name] for name in names]

    def classify(self, images, train: bool = False, valid: jax.Array | None = None):
        """-> [(logits (B, C), maps (B, h, w, C)), ...]: S1, and S2 if it is there, of one size."""
        return self.classify_and_tap(images, train, valid)[0]

    def classify_and_tap(self, images, train: bool = False, valid: jax.Array | None = None):
        """-> what ``classify`` gives, and the features under the first classifier."""
        heads = (self.head_1, self.head_2)
        taps = self.taps(images, train, valid)
        outputs = [head(x, train=train)[:2] for head, x in zip(heads, taps, strict=False)]
        # Where the trunk strides between the endpoints, the coarser map takes the finer one's size.
        height, width = (max(maps.shape[axis] for _, maps in outputs) for axis in (1, 2))
        resize = lambda x: jax.image.resize(
            x, (x.shape[0], height, width, x.shape[3]), "bilinear", antialias=False
        )
        return [(logits, resize(maps)) for logits, maps in outputs], taps[0]

    def embed(self, images, weights: jax.Array | None = None):
        """f of eq. 9: (N, H, W, 3) in 0..255 -> (N, D) float32; by maps (N, T, h, w): (N, T, D)."""
        x = normalise(images, self.feature_preprocessing)
        x = self.feature_trunk(x)[self.feature_endpoint]
        if weights is not None:
            if x.ndim != 4:
                raise UserError(
                    f"features.final_endpoint: {self.feature_endpoint!r} gives one vector an "
                    "image; cams2i.compare='features' needs a layer that still has places."
                )
            x = weighted_averages(x, weights)
        elif x.ndim == 4:
            x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        x = x if self.projection is None else self.projection(x)
        return x.astype(jnp.float32)

    def __call__(self, images):
        """Runs every part once, to make the parameters."""
        outputs = self.classify(images)
        return outputs, self.embed(images) if self.feature_trunk is not None else None


def _compare_images(network, variables, images, weights, taps):
    """Eq. 8 as it stands: f sees each image once through every map."""
    # All views of an image stay on the device that has it.
    views = jax.vmap(weighted_images, (None, 1), 1)(images, weights)
    flat = views.reshape(-1, *views.shape[2:])
    return network.apply(variables, flat, method="embed").reshape(*views.shape[:2], -1)


def _compare_features(network, variables, images, weights, taps):
    """f sees each image once, whole; the maps weigh what it found."""
    return network.apply(variables, images, weights, method="embed")


def _compare_trunk(network, variables, images, weights, taps):
    """The maps weigh the features that they were made of: no pass more."""
    # Constants, as f is: the loss would fall with their scale.
    return weighted_averages(jax.lax.stop_gradient(taps), weights)


# What the maps (B, T, h, w) weigh, and who looks at it -> (B, T, D), the vectors of eq. 9.
COMPARE = {"images": _compare_images, "features": _compare_features, "trunk": _compare_trunk}


def cams2i(config: Config, num_classes: int) -> Method:
    """The method of Kou et al. 2019, from the sections ``model``, ``cams2i`` and ``features``.

    Loss: CE(y1), with ``intra`` + CE(y2) + w0 (L_int + L_adn) (eq. 7), with ``inter`` + L_inter of
    each classifier's maps (eq. 10). Neither is the paper's base: one classifier, plain CAM.
    """
    shared.single_label(config)
    model, options = config.model, config.cams2i
    squash = _chosen(SQUASH, "squash", options)
    fuse = _chosen(FUSE, "fuse", options)
    mean_scores = _chosen({"first": False, "mean": True}, "scores", options)
    compare, size = _chosen(COMPARE, "compare", options), config.features.size
    network = _network(config, num_classes)
    others = {"feature_trunk": config.features} if network.feature_trunk is not None else {}

    def loss(variables, batch, rng, step):
        if options.inter and config.features.freeze:
            variables = _stop_features(variables)
        (outputs, taps), updates = shared.forward(
            network, variables, batch, rng, Cams2iNetwork.classify_and_tap
        )
        labels, valid = jnp.argmax(batch["labels"], axis=-1), batch["valid"]
        # (B, h, w) in [0, 1]: the labelled class's map of each classifier.
        objects = [squash(cam_ops.select_map(maps, labels)) for _, maps in outputs]
        total, accuracy = shared.classification(outputs[0][0], batch)
        metrics = {"classification": total, "accuracy": accuracy}
        w0 = linear_ramp(step - options.start_step, options.ramp_steps)
        if options.intra:
            (y1, _), (y2, _) = outputs
            ce_2, metrics["accuracy_2"] = shared.classification(y2, batch)
            stop = options.stop_gradient
            interact = functools.partial(
                interaction_loss, stop_gradient=stop, explore=options.explore
            )
            l_int = interact(*objects)
            if options.mutual:
                l_int += interact(*objects[::-1])
            l_int = masked_mean(l_int, valid)
            l_adn = masked_mean(agreement_loss(y1, y2, stop_gradient=stop), valid)
            total += ce_2 + w0 * (options.weight_int * l_int + options.weight_adn * l_adn)
            metrics |= {"classification_2": ce_2, "interaction": l_int, "agreement": l_adn}
        if options.inter:
            l_inter, metrics["pairs"] = inter_sample(variables, batch, outputs, objects, taps)
            total += (w0 if options.ramp_inter else 1.0) * options.weight_inter * l_inter
            metrics["inter_sample"] = l_inter
        metrics["loss"] = total
        pictures = _pictures(outputs, objects, labels, fuse, batch["image"].shape[1:3])
        return total, Aux(metrics, dict(updates), pictures)

    def inter_sample(variables, batch, outputs, objects, taps):
        """Eqs. 8 to 10, summed over the classifiers; and how many pairs there were."""
        shown = {name: batch[name] for name in ("image", "labels", "valid")}
        first = lambda x: x[: options.compared or None]
        shown, outputs, objects, taps = jax.tree.map(first, (shown, outputs, objects, taps))
        labels, images = jnp.argmax(shown["labels"], axis=-1), _shrunk(shown["image"], size)
        weights = []  # of each classifier: where it sees the object, and where no class at all
        for (_, maps), foreground in zip(outputs, objects, strict=True):
            weights += [foreground, 1 - squash(jnp.max(maps, axis=-1))]
        found = compare(network, variables, images, jnp.stack(weights, axis=1), taps)
        total = 0.0
        for t in range(len(outputs)):
            object_, background = found[:, 2 * t], found[:, 2 * t + 1]
            value, pairs = inter_sample_loss(object_, background, labels, shown["valid"])
            total += value
        return total, pairs

    def localize(variables, images):
        outputs = network.apply(variables, images, method=Cams2iNetwork.classify)
        found = [shared.localization(*output, model) for output in outputs]
        if len(found) == 1:
            return found[0]
        logits = found[0].logits
        if mean_scores:
            scores = [jax.nn.softmax(one.logits) for one in found]
            logits = jnp.log(jnp.maximum(sum(scores) / len(scores), 1e-30))
        parts = {f"map {t}": one.maps for t, one in enumerate(found, start=1)}
        return Localization(logits, fuse(*map(cam_ops.min_max, parts.values())), parts)

    return Method(
        init=shared.initialiser(network, model, **others),
        param_groups=shared.param_grouper(
            network.backbone,
            model.freeze_until,
            lambda names: _part(names, config),
        ),
        loss=loss,
        localize=localize,
        tap=tapper(lambda variables, images: localize(variables, images).logits),
        maps_layer="head_1/class_maps:input",
    )


def _shrunk(images: jax.Array, size: int) -> jax.Array:
    """(B, H, W, 3) as f sees them: (B, size, size, 3) float32; as they are where size is 0."""
    shape = (len(images), size, size, 3) if size else images.shape
    images = images.astype(jnp.float32)
    return jax.image.resize(images, shape, "bilinear") if shape != images.shape else images


_FEATURE_MODULES = ("feature_trunk", "projection")


def _part(names: list[str], config: Config) -> str:
    if names[0] not in _FEATURE_MODULES:
        return "head"
    return "frozen" if config.features.freeze else "features"


def _stop_features(variables: Variables) -> dict[str, Tree]:
    """The variables, those of the network f as constants."""
    stop = lambda name, tree: jax.lax.stop_gradient(tree) if name in _FEATURE_MODULES else tree
    params = {name: stop(name, tree) for name, tree in variables["params"].items()}
    return {**variables, "params": params}


def _network(config: Config, num_classes: int) -> Cams2iNetwork:
    model, options = config.model, config.cams2i
    dtype = shared.compute_dtype(config.dtype)
    head = lambda: shared.cam_head(model, num_classes, dtype, options.head_kernel)
    parts = {}
    if options.intra:
        parts |= {"head_2": head(), "endpoint_2": options.endpoint_2}
    if options.inter and options.compare != "trunk":
        features = config.features
        parts |= {
            "feature_trunk": backbones.build(features, dtype),
            "feature_endpoint": features.final_endpoint,
            "feature_preprocessing": shared.preprocessing(features),
        }
        if features.projection:
            # Random and frozen, it keeps the features' distances (Johnson and Lindenstrauss).
            init = nn.initializers.variance_scaling(1.0, "fan_out", "normal")
            parts["projection"] = nn.Dense(
                features.projection, use_bias=False, dtype=dtype, kernel_init=init
            )
    return Cams2iNetwork(
        backbone=backbones.build(model, dtype),
        head_1=head(),
        endpoint_1=model.endpoint or model.final_endpoint,
        preprocessing=shared.preprocessing(model),
        **parts,
    )


def _pictures(outputs, objects, labels, fuse, size) -> dict[str, jax.Array]:
    """What the report shows of an image: each map, what S2 teaches, and what comes of both."""
    maps = [cam_ops.select_map(maps, labels) for _, maps in outputs]
    maps = [cam_ops.min_max(resize_maps(x, size)) for x in jax.lax.stop_gradient(maps)]
    pictures = {"map 1": maps[0]}
    if len(maps) == 2:
        mask = deviation_mask(objects[1])
        pictures["interaction mask"] = jax.image.resize(mask, (len(mask), *size), "nearest")
        pictures |= {"map 2": maps[1], "fusion": fuse(*maps)}
    return pictures


Choice = TypeVar("Choice")


def _chosen(table: Mapping[str, Choice], name: str, options: Config) -> Choice:
    if options[name] not in table:
        known = ", ".join(map(repr, table))
        raise UserError(f"cams2i.{name}: {options[name]!r} is not one of {known}.")
    return table[options[name]]
