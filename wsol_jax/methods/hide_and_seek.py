"""Hide-and-Seek segmentation (Redondo-Cabrera et al. 2018): classify and segment at once.

One network looks at a photo three times. As a class-map network it sees the photo, and then the
photo with hidden patches, where it must find other parts: the two class maps are added. What its
features respond to at all is foreground, the rest background. Together they are a mask, which a
dense CRF brings to the photo's edges inside the training step. As a segmenter, at a finer stride,
the network learns that mask; or, at first and where the mask shows nothing, the image labels alone.
At test time the class scores say which classes the segmentation may have.

The three share their weights (``methods.siamese``). ``hide_and_seek.teacher`` takes the masks from
an earlier stage's network instead, which does not learn: the paper's "not end to end".
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Config
from wsol_jax.losses import switching
from wsol_jax.losses.classification import masked_mean, sigmoid_cross_entropy, squared_label_loss
from wsol_jax.methods import (
    Aux,
    Batch,
    Classes,
    Localization,
    Method,
    Picture,
    Segmentation,
    WarmUp,
    shared,
    siamese,
)
from wsol_jax.methods.siamese import Seen, Training
from wsol_jax.methods.taps import tapper
from wsol_jax.ops import attention, hiding
from wsol_jax.ops.cam import min_max, select_map
from wsol_jax.ops.crf import CrfSettings

_CLASSIFICATION = {"squared": squared_label_loss, "logistic": sigmoid_cross_entropy}


class Masks(NamedTuple):
    """Masks for a segmenter, and what they were made of.

    Attributes:
      foreground: (B, h, w) float32 in [0, 1].
      before: (B, h, w) uint8 of 0 background, 1 + c class c: before the CRF.
      labels: (B, h, w) uint8, the mask: l_i (eq. 5).
    """

    foreground: jax.Array
    before: jax.Array
    labels: jax.Array


def hide_and_seek(config: Config, num_classes: int) -> Method:
    """The method of Redondo-Cabrera et al. 2018, from the sections ``model``, ``hide_and_seek``.

    Loss: each class-map network's classification, and ``hide_and_seek.segmentation`` times the
    segmenter's (eq. 8); with 0 there are no masks, and ``localize`` gives the class maps.
    """
    options = config.hide_and_seek
    networks = siamese.build(config, num_classes)
    classification = _CLASSIFICATION[options.classification]
    crf = _crf_settings(options)
    teacher, positive = options.teacher, config.model.positive_maps
    if teacher and teacher not in config.reads:
        raise UserError(f"hide_and_seek.teacher: {teacher!r} is not among the stage's reads.")

    def maker_of(variables):
        """The variables of the network that makes the masks."""
        return variables[teacher] if teacher else variables

    def attend(variables, images, hidden, training=None):
        """A class-map network's view, at its own size, of images with hidden patches if any."""
        size = (images.shape[0], options.cam_size, options.cam_size, 3)
        images = jax.image.resize(images.astype(jnp.float32), size, "bilinear", antialias=True)
        if hidden is not None:
            images = hiding.hide_patches(images, hidden, options.fill)
        return networks.attend(variables, images, training)

    def class_scores(maps):
        return jnp.sum(maps, (1, 2)) if options.pool == "sum" else jnp.mean(maps, (1, 2))  # eq. 1

    def class_maps(one):
        """A network's class maps as they are used, clipped at zero if the config says so."""
        return jax.nn.relu(one.maps) if positive else one.maps

    def classify(variables, batch, hidden, keys):
        """Trains the class-map networks: their views, metrics, variables with new statistics."""
        seen = []
        for patches, key in zip(hidden, keys, strict=True):
            training = Training(key, batch["valid"])
            one, variables = attend(variables, batch["image"], patches, training)
            seen.append(one)
        scores = [class_scores(one.maps) for one in seen]
        each = sum(classification(one, batch["labels"]) for one in scores)
        accuracy = shared.classification(scores[0], batch)[1]
        metrics = {"classification": masked_mean(each, batch["valid"]), "accuracy": accuracy}
        return seen, metrics, variables

    def segment(variables, batch, seen, key, step):
        """Trains the segmenter: its metrics, masks, variables with new statistics."""
        images, valid = batch["image"], batch["valid"]
        own, variables = networks.segment(variables, images, Training(key, valid))
        whole = networks.segment(variables[teacher], images)[0] if teacher else own
        # The segmenter sees what the first class-map network sees.
        responses = [whole.response, *(one.response for one in seen[1:])]
        size = own.scores.shape[1:3]
        masks = _masks(options, crf, map(class_maps, seen), responses, size, batch, step)
        weak = _is_weak(options, masks.labels, step)
        shown = jnp.pad(batch["labels"], ((0, 0), (1, 0)), constant_values=1)
        each = {
            "segmentation": switching.switched_loss(own.scores, shown, masks.labels, weak),
            "weak_share": weak,
            "mask_share": jnp.mean(masks.labels > 0, axis=(1, 2)),
        }
        return {name: masked_mean(x, valid) for name, x in each.items()}, masks, variables

    def loss(variables, batch, rng, step):
        hide, *keys = jax.random.split(rng, 2 + options.cams)
        hidden = _hidden_patches(options, hide, len(batch["image"]))
        metrics, total = {}, jnp.zeros(())
        if not teacher:
            seen, metrics, variables = classify(variables, batch, hidden, keys[:-1])
            total = metrics["classification"]
        if teacher or options.sure_masks:
            seen = [attend(maker_of(variables), batch["image"], x)[0] for x in hidden]
        pictures = _map_pictures(seen, batch, hidden, options.fill)
        if options.segmentation:
            more, masks, variables = segment(variables, batch, seen, keys[-1], step)
            total += options.segmentation * more["segmentation"]
            metrics |= more
            pictures |= _mask_pictures(masks)
        updates = {k: x for k, x in variables.items() if k not in ("params", teacher)}
        return total, Aux({"loss": total, **metrics}, updates, pictures)

    def localize(variables, images):
        # Nothing may be random here: the second network sees every other patch, a third the rest.
        board = hiding.checkerboard(images.shape[0], options.grid)
        hidden = (None, board, ~board)[: options.cams]
        seen = [attend(maker_of(variables), images, x)[0] for x in hidden]
        logits = class_scores(seen[0].maps)
        maps = sum(map(class_maps, seen))
        if not options.segmentation:
            return Localization(logits, maps)
        scores = networks.segment(variables, images)[0].scores
        probabilities = _filtered(options, scores, jax.nn.sigmoid(logits))
        parts = {"class_maps": maps}
        return Localization(logits, Segmentation(probabilities[..., 1:]), parts)

    def class_logits(variables, images):
        """Of ``localize``, by the one pass that they need."""
        return class_scores(attend(maker_of(variables), images, None)[0].maps)

    def init(rng, images):
        variables = networks.init(rng, images)
        if teacher:  # its stage's checkpoint takes this place
            variables[teacher] = jax.tree.map(jnp.copy, variables)
        return variables

    waits = options.segmentation and options.switching != "none"
    return Method(
        init=init,
        param_groups=networks.param_groups,
        warm_up=WarmUp(options.early_steps if waits else 0, "hide_and_seek.early_steps"),
        loss=loss,
        localize=localize,
        tap=tapper(class_logits),
        maps_layer="class_maps:input",
    )


def _hidden_patches(options: Config, rng: jax.Array, count: int) -> list[jax.Array | None]:
    """(B, P, P) of each class-map network; the first sees everything."""
    number = None if options.number < 0 else options.number
    draw = lambda key: hiding.draw_patches(
        key, count, options.grid, probability=options.probability, number=number
    )
    return [None, *map(draw, jax.random.split(rng, 3)[: options.cams - 1])]


def _masks(
    options: Config,
    crf: CrfSettings | None,
    maps: Iterable[jax.Array],
    responses: Sequence[jax.Array],
    size: tuple[int, int],
    batch: Batch,
    step: jax.Array,
) -> Masks:
    """Masks of a batch (section III-A), without gradient; blank ones while nobody asks for them.

    ``maps``, ``responses``: of the networks whose class maps and foreground are added; ``size``: of
    the masks.
    """
    images, labels = batch["image"], batch["labels"]

    def make(maps, responses):
        fused = attention.fuse_class_maps(maps, labels)
        foreground = attention.fuse_foreground(responses, size)
        probabilities = attention.mask_probabilities(fused, foreground)
        before = jnp.argmax(probabilities, axis=-1).astype(jnp.uint8)
        if crf is None:
            return Masks(foreground, before, before)
        sharp = _sharpened(options, crf, probabilities, images)
        return Masks(foreground, before, jnp.argmax(sharp, axis=-1).astype(jnp.uint8))

    given = jax.lax.stop_gradient((list(maps), responses))
    if options.switching == "none" or not options.early_steps:
        return make(*given)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(make, *given))
    return jax.lax.cond(step < options.early_steps, lambda *_: blank, make, *given)


def _sharpened(
    options: Config, crf: CrfSettings, probabilities: jax.Array, images: jax.Array
) -> jax.Array:
    """Probabilities (B, h, w, K) after a CRF on the images' pixels, or on the cells themselves."""
    shape, capacity = probabilities.shape, None
    if options.crf == "image":
        large = (*images.shape[:3], shape[-1])
        probabilities = jax.image.resize(probabilities, large, "bilinear", antialias=False)
        # As many vertices as pixels: photos need a third of that, pure noise four times as many.
        capacity = images.shape[1] * images.shape[2]
    scores = jnp.log(jnp.maximum(probabilities, options.floor))
    found = shared.crf_target(scores, images, crf, options.floor, capacity)
    return jax.image.resize(found, shape, "bilinear", antialias=False)


def _is_weak(options: Config, masks: jax.Array, step: jax.Array) -> jax.Array:
    """(B,) bool: which images are learned from their labels alone."""
    if options.switching == "none":
        return jnp.zeros(len(masks), bool)
    early = jnp.broadcast_to(step < options.early_steps, (len(masks),))
    if options.switching == "fixed":
        return early
    return early | switching.is_noisy(masks, options.tau)


def _filtered(options: Config, scores: jax.Array, confidence: jax.Array) -> jax.Array:
    """The segmenter's probabilities (B, h, w, 1 + C), filtered by class scores (section III-C)."""
    match options.filter:
        case "weigh":
            return attention.weigh_classes(jax.nn.softmax(scores), confidence)
        case "released":
            scores = attention.zero_unlikely(scores, confidence)
    return jax.nn.softmax(scores)


def _map_pictures(
    seen: Sequence[Seen], batch: Batch, hidden: Sequence[jax.Array | None], fill: Sequence[float]
) -> dict[str, jax.Array]:
    """The class map of each network for the image's first class, and what was hidden from it."""
    pictures, label = {}, jnp.argmax(batch["labels"], axis=-1)
    for number, (one, patches) in enumerate(zip(seen, hidden, strict=True), start=1):
        if patches is not None:
            covered = _divisible(batch["image"], patches.shape[1])
            shown = hiding.hide_patches(covered, patches, fill)
            pictures[f"seen by CAM{number}"] = jnp.round(shown).astype(jnp.uint8)
        pictures[f"CAM{number}"] = min_max(select_map(one.maps, label))
    return pictures


def _divisible(images: jax.Array, grid: int) -> jax.Array:
    """Images, as float32, at the next size down that a grid divides."""
    size = images.shape[1] // grid * grid
    shape = (len(images), size, size, 3)
    return jax.image.resize(images.astype(jnp.float32), shape, "bilinear")


def _mask_pictures(masks: Masks) -> dict[str, Picture]:
    return {
        "foreground": masks.foreground,
        "mask before the CRF": Classes(masks.before),
        "mask": Classes(masks.labels),
    }


def _crf_settings(options: Config) -> CrfSettings | None:
    """The CRF of the step: on the image's pixels by the lattice, on cells by all pairs of them."""
    if options.crf == "none":
        return None
    where = "hide_and_seek"
    if options.crf == "image":
        return CrfSettings.of(options, where, "lattice")
    return CrfSettings.of(options.cells, f"{where}.cells", "exact")
