"""Hide-and-Seek on a tiny network: its config, batch, compiled losses, and the loss by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import hide_and_seek as hide_and_seek_config
from helpers import by_hand
from helpers.compiling import quick
from helpers.networks import IMAGES, KEY, resized
from wsol_jax import methods
from wsol_jax.methods import siamese
from wsol_jax.ops.crf import dense_crf

CELLS, CAM_SIZE, GRID = 8, 24, 4  # of the segmenter; pixels that a class-map network sees
FILL = (123.675, 116.28, 103.53)
EARLY, LATE = 3, 5  # steps before and after ``early_steps`` of 5
CRF = {"bilateral": (4.0, 3.0, 40.0), "spatial": (2.0, 1.0), "iterations": 3}
PIXELS = {**CRF, "bilateral": (4.0, 3.0, 8.0), "method": "lattice", "capacity": 32 * 32}
PLAIN = {"crf": "none", "switching": "none", "filter": "none"}
BATCH = {
    "image": IMAGES,
    "labels": np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0] * 5, [1] * 5], np.float32),
    "valid": np.array([True, True, True, False]),
}


def tiny(**changes):
    """Three narrow layers of VGG16 and a narrow head; the classifier reads other channels."""
    config = hide_and_seek_config.get_config(
        "cub,backbone=vgg16,weights=none,width=0.1,size=32,variant=two_cams"
    )
    with config.unlocked():
        config.model.final_endpoint, config.model.preprocessing = "conv2_1", "tf"
        config.model.trunk = {"normalise": True, "stem_stride": 2}
        config.dtype = "float32"
        own = config.hide_and_seek
        own.cam_size, own.conv5, own.early_steps = CAM_SIZE, "conv2_1", LATE
        own.channels, own.dilation, own.cam_dilation, own.dropout = 24, 2, 1, 0.0
        own.bilateral, own.spatial = PIXELS["bilateral"], CRF["spatial"]
        own.cells.bilateral, own.cells.spatial = CRF["bilateral"], CRF["spatial"]
        own.iterations = own.cells.iterations = CRF["iterations"]
        config.update_from_flattened_dict(named(changes))
        config.reads = (own.teacher,) if own.teacher else ()
    return config


def named(changes):
    """``hide_and_seek.NAME`` of a NAME without a section."""
    return {k if "." in k or k == "dtype" else f"hide_and_seek.{k}": v for k, v in changes.items()}


@functools.cache
def made(**changes):
    """A method and fresh variables: read them, do not write there."""
    method = methods.build(tiny(**changes), 5)
    return method, method.init(jax.random.key(1), jnp.asarray(IMAGES[:1]))


@functools.cache
def variables():
    """Of everything that has the weights of ``tiny()``: read them, do not write there."""
    return made()[1]


@functools.cache
def loss_of(**changes):
    """(batch, step, key) -> (loss, Aux), compiled."""
    call = quick(methods.build(tiny(**changes), 5).loss)
    return lambda batch=BATCH, step=LATE, key=KEY: call(variables(), batch, key, step)


@functools.cache
def gradient_of(**changes):
    """(batch, step) -> ((loss, Aux), gradient of the parameters), compiled."""
    method = methods.build(tiny(**changes), 5)

    def total(params, rest, batch, step):
        return method.loss({"params": params, **rest}, batch, KEY, step)

    call = quick(jax.value_and_grad(total, has_aux=True))

    def run(batch=BATCH, step=LATE):
        rest = dict(variables())
        return call(rest.pop("params"), rest, batch, step)

    return run


def scaled(given, *path):
    """Variables with one layer's kernel times 1.5."""

    def leaf(where, value):
        found = [key.key for key in where] == ["params", *path, "kernel"]
        return value * 1.5 if found else value

    changed = jax.tree_util.tree_map_with_path(leaf, given)
    pairs = zip(jax.tree.leaves(changed), jax.tree.leaves(given), strict=True)
    assert any(np.any(a != b) for a, b in pairs), path
    return changed


@functools.cache
def localize_of(**changes):
    """(variables, images) -> Localization, compiled."""
    return quick(methods.build(tiny(**changes), 5).localize)


# ---------------------------------------------------------------- by hand


def hidden_in(aux, number=2):
    """(B, P, P) bool: the patches of a report's picture that have the fill's colour."""
    picture = np.asarray(aux.pictures[f"seen by CAM{number}"])
    side = picture.shape[1] // GRID
    patches = picture.reshape(len(picture), GRID, side, GRID, side, 3)
    return (patches == np.round(FILL)).all(axis=(2, 4, 5))


def at_cam_size(images):
    size = (len(images), CAM_SIZE, CAM_SIZE, 3)
    return np.array(jax.image.resize(images.astype(np.float32), size, "bilinear"))


def covered(images, hidden):
    """Images of the class-map networks' size with the hidden patches filled."""
    out, side = at_cam_size(images), CAM_SIZE // GRID
    for n, i, j in np.argwhere(hidden):
        out[n, i * side : (i + 1) * side, j * side : (j + 1) * side] = FILL
    return out


@functools.cache
def network(**changes):
    """What the network says, as a segmenter and as a class-map network: (variables, images)."""
    networks = siamese.build(tiny(**changes), 5)
    return tuple(
        quick(lambda v, x, view=view: view(v, x)[0]) for view in (networks.segment, networks.attend)
    )


def sharpened(probabilities, photos, **settings):
    """A dense CRF over photos of the probabilities' size; noise is no photo to a lattice."""
    unary = jnp.asarray(-np.log(np.maximum(probabilities, 1e-5)), jnp.float32)
    call = quick(lambda *given: dense_crf(*given, **settings))
    found = np.asarray(call(unary, jnp.asarray(photos, jnp.uint8)), np.float64)
    return np.where(np.isnan(found), probabilities, found)


def masks_of(seen, response, batch, crf):
    """(B, h, w) classes: the masks of class-map networks' views and a segmenter's response."""
    maps = by_hand.fused_maps([one.maps for one in seen], batch["labels"])
    responses = [response, *(one.response for one in seen[1:])]
    found = by_hand.probabilities(maps, by_hand.fused_foreground(responses, CELLS))
    if crf == "cells":
        small = resized(batch["image"].astype(np.float64), CELLS)
        return sharpened(found, np.round(small), **CRF).argmax(axis=-1)
    if crf == "image":
        large = resized(found, batch["image"].shape[1])
        return resized(sharpened(large, batch["image"], **PIXELS), CELLS).argmax(axis=-1)
    return found.argmax(axis=-1)


def loss_by_hand(aux, batch, crf, weak, cams=2):
    """The loss's parts from the network's views, by the equations; and the masks.

    ``aux``: what was hidden; ``weak``: (masks) -> (B,) bool.
    """
    segment, attend = network()
    views = [at_cam_size(batch["image"])]
    views += [covered(batch["image"], hidden_in(aux, k)) for k in range(2, 1 + cams)]
    seen = [attend(variables(), x) for x in views]
    own = segment(variables(), batch["image"])
    masks = masks_of(seen, own.response, batch, crf)
    shown = np.concatenate([np.ones((len(masks), 1)), batch["labels"]], axis=1)
    scores = [np.asarray(one.maps, np.float64).sum(axis=(1, 2)) for one in seen]
    mean = lambda each: each[batch["valid"]].mean()
    parts = {
        "classification": mean(sum(by_hand.squared_label_loss(s, batch["labels"]) for s in scores)),
        "segmentation": mean(
            np.where(
                weak(masks),
                by_hand.weak_label_loss(own.scores, shown),
                by_hand.pixel_cross_entropy(own.scores, masks),
            )
        ),
        "weak_share": mean(weak(masks)),
        "mask_share": mean((masks > 0).mean(axis=(1, 2))),
    }
    return parts, masks
