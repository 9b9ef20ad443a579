"""Hide-and-Seek's loss on a tiny network: its parts, its masks, the switch, its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from helpers.hide_and_seek import (
    BATCH,
    EARLY,
    LATE,
    at_cam_size,
    covered,
    gradient_of,
    hidden_in,
    loss_by_hand,
    loss_of,
    network,
    tiny,
    variables,
)
from helpers.networks import IMAGES, KEY, assert_trees_equal

from wsol_jax.methods import siamese

# Of each image: is it learned from its labels alone?
NONE, ALL = lambda masks: np.zeros(4, bool), lambda masks: np.ones(4, bool)
NOISY = lambda masks: (masks == 0).all(axis=(1, 2))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    "crf, switching, step, weak",
    [
        ("none", "none", EARLY, NONE),
        ("none", "none", LATE, NONE),
        ("cells", "adaptive", EARLY, ALL),
        ("cells", "adaptive", LATE, NOISY),
        pytest.param("none", "fixed", EARLY, ALL, marks=pytest.mark.slow),
        pytest.param("none", "fixed", LATE, NONE, marks=pytest.mark.slow),
    ],
)
def test_the_loss_is_made_of_its_pieces(crf, switching, step, weak):
    loss, aux = loss_of(crf=crf, switching=switching)(step=step)
    expected, masks = loss_by_hand(aux, BATCH, crf, weak)
    waits = switching != "none" and step == EARLY  # nobody asks for a mask then
    if waits:
        masks, expected["mask_share"] = np.zeros_like(masks), 0
    else:
        assert len(np.unique(masks[:2])) >= 3 and (masks[2] == 0).all()
    for name, value in expected.items():
        np.testing.assert_allclose(aux.metrics[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(aux.pictures["mask"].labels, masks)
    np.testing.assert_allclose(
        loss, expected["classification"] + expected["segmentation"], rtol=1e-4
    )
    assert aux.metrics["loss"] == loss


def test_what_is_hidden_is_drawn_anew_in_each_image_and_with_each_key():
    """And never from the first network, whose view has no picture."""
    drawn = []
    for key in (KEY, jax.random.key(8)):
        _, aux = loss_of(crf="none", switching="none")(key=key)
        drawn += list(hidden_in(aux))
    assert "seen by CAM1" not in aux.pictures
    assert len({x.tobytes() for x in drawn}) == 8 and 0.3 < np.mean(drawn) < 0.7


@pytest.mark.parametrize("cams", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_every_number_of_class_map_networks(cams):
    """The third is hidden other patches than the second; here six of each image."""
    loss, aux = loss_of(cams=cams, number=6, crf="none", switching="none")()
    expected, masks = loss_by_hand(aux, BATCH, "none", NONE, cams)
    np.testing.assert_array_equal(aux.pictures["mask"].labels, masks)
    total = expected["classification"] + expected["segmentation"]
    np.testing.assert_allclose(loss, total, rtol=1e-4)
    others = range(2, 1 + cams)
    names = {f"CAM{k}" for k in (1, *others)} | {f"seen by CAM{k}" for k in others}
    assert set(aux.pictures) == names | {"foreground", "mask before the CRF", "mask"}
    drawn = [x for k in others for x in hidden_in(aux, k)]
    assert all(x.sum() == 6 for x in drawn) and len({x.tobytes() for x in drawn}) == len(drawn)


def test_weights_and_kinds_of_losses_are_the_configs():
    """``segmentation`` multiplies; "logistic" and "mean" are other losses of other scores."""
    plain = loss_of(crf="none", switching="none")()[1].metrics
    changes = {"segmentation": 0.25, "classification": "logistic", "pool": "mean"}
    loss, aux = loss_of(crf="none", switching="none", **changes)()
    hidden, attend = hidden_in(aux), network()[1]
    views = at_cam_size(BATCH["image"]), covered(BATCH["image"], hidden)
    logits = [np.asarray(attend(variables(), x).maps, np.float64).mean(axis=(1, 2)) for x in views]
    y = BATCH["labels"]
    each = sum(y * np.logaddexp(0, -s) + (1 - y) * np.logaddexp(0, s) for s in logits)
    expected = each.sum(axis=1)[BATCH["valid"]].mean()
    np.testing.assert_allclose(aux.metrics["classification"], expected, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["segmentation"], plain["segmentation"], rtol=1e-5)
    np.testing.assert_allclose(loss, expected + 0.25 * plain["segmentation"], rtol=1e-5)


@pytest.mark.slow
def test_tau_says_how_small_an_object_is_noise():
    """Cells of an object: a mask with as many is learned from labels, one with more is not."""
    _, aux = loss_of(crf="none", switching="none")()
    found = (np.asarray(aux.pictures["mask"].labels) > 0).sum(axis=(1, 2))[:3]
    assert found[2] == 0 < found.min(initial=64, where=found > 0) < found.max()
    _, aux = loss_of(crf="none", switching="adaptive", tau=int(np.sort(found)[1]))()
    np.testing.assert_allclose(aux.metrics["weak_share"], 2 / 3, rtol=1e-6)


def test_without_a_segmenter_classification_is_all():
    plain = loss_of(crf="none", switching="none")()[1].metrics
    loss, aux = loss_of(segmentation=0.0)()
    assert set(aux.metrics) == {"loss", "classification", "accuracy"}
    np.testing.assert_allclose(loss, plain["classification"], rtol=1e-6)
    assert set(aux.pictures) == {"CAM1", "seen by CAM2", "CAM2"}


def test_accuracy_is_the_first_networks():
    _, aux = loss_of(crf="none", switching="none")()
    logits = np.asarray(network()[1](variables(), at_cam_size(BATCH["image"])).maps).sum(
        axis=(1, 2)
    )
    hits = BATCH["labels"][np.arange(4), logits.argmax(axis=1)]
    np.testing.assert_allclose(aux.metrics["accuracy"], hits[:3].mean(), rtol=1e-6)


@pytest.mark.slow
def test_the_crf_on_pixels_follows_the_photos_and_leaves_noise_as_it_is():
    """Maps at the photo's size, the lattice, and back: a photo of noise has too many colours."""
    ramp = np.linspace(100, 140, 32)[None, :, None] * np.ones((32, 1, 3))
    blob = np.full((32, 32, 3), 40.0)
    blob[8:20, 6:22] = (200, 150, 60)
    images = np.stack([ramp, blob, IMAGES[2], IMAGES[3]]).astype(np.uint8)
    batch = {**BATCH, "image": images, "labels": BATCH["labels"][[0, 1, 0, 3]]}
    _, aux = loss_of(crf="image", switching="none")(batch)
    found, before = (
        np.asarray(aux.pictures[name].labels) for name in ("mask", "mask before the CRF")
    )
    expected = lambda crf: loss_by_hand(aux, batch, crf, NONE)[1]
    np.testing.assert_array_equal(before, expected("none"))
    np.testing.assert_array_equal(found, expected("image"))
    same = (found == before).mean(axis=(1, 2))
    assert (same[:2] < 1).all() and (same[2:] > 0.9).all()  # but for the way there and back


# ---------------------------------------------------------------- the gradient


def test_the_gradient_is_that_of_masks_somebody_wrote_down():
    """Of classification, pixel loss and labels alone: masks are constants, however made."""
    (_, aux), gradient = gradient_of(crf="cells", switching="adaptive")()
    masks = jnp.asarray(aux.pictures["mask"].labels, jnp.int32)
    assert (masks > 0).any(axis=(1, 2)).tolist()[:3] == [True, True, False]
    networks = siamese.build(tiny(), 5)
    views = jnp.asarray(at_cam_size(BATCH["image"])), jnp.asarray(covered(IMAGES, hidden_in(aux)))
    y = jnp.asarray(BATCH["labels"])
    target = y / jnp.maximum(y.sum(axis=1, keepdims=True), 1)
    rest = {k: v for k, v in variables().items() if k != "params"}

    def total(params):
        given, each = {"params": params, **rest}, 0.0
        for view in views:
            scores = jnp.sum(networks.attend(given, view)[0].maps, axis=(1, 2))
            each += jnp.mean((jax.nn.softmax(scores) - target) ** 2, axis=1)
        log_p = jax.nn.log_softmax(networks.segment(given, jnp.asarray(IMAGES))[0].scores)
        own = jnp.take_along_axis(log_p, masks[..., None], axis=-1).mean(axis=(1, 2, 3))
        # The third image shows background alone: eq. 6.
        top = log_p[2].max(axis=(0, 1))
        own = own.at[2].set(top[0] + jnp.mean(jnp.log(1 - jnp.exp(top[1:]))))
        return (each - own)[:3].mean()

    expected = quick(jax.grad(total))(variables()["params"])
    for (path, found), other in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(other).max()
        assert scale > 0, path
        np.testing.assert_allclose(found, other, atol=2e-4 * scale, err_msg=str(path))


# ---------------------------------------------------------------- hard batches


def assert_finite(loss, aux, gradient):
    for x in jax.tree.leaves((loss, aux, gradient)):
        assert np.isfinite(np.asarray(x, np.float32)).all()


@pytest.mark.parametrize("step", [EARLY, LATE])
@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.zeros((4, 5), np.float32)},
        {"labels": np.ones((4, 5), np.float32)},
        {"image": np.full_like(IMAGES, 128)},
        {"image": np.zeros_like(IMAGES)},
        {"valid": np.zeros(4, bool)},
    ],
    ids=["no class", "all classes", "grey", "black", "all padded"],
)
def test_everything_is_finite(change, step):
    (loss, aux), gradient = gradient_of(crf="cells", switching="adaptive")(
        {**BATCH, **change}, step
    )
    assert_finite(loss, aux, gradient)
    if "valid" in change:
        assert loss == 0 and not any(np.any(x) for x in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_everything_is_finite_where_everything_is_hidden():
    """The second network sees one colour: flat maps but for the border."""
    (loss, aux), gradient = gradient_of(crf="none", switching="none", probability=1.0)()
    assert hidden_in(aux).all()
    assert_finite(loss, aux, gradient)


@pytest.mark.slow
def test_everything_is_finite_in_bfloat16():
    """And kept in float32: parameters, their gradient, the loss."""
    (loss, aux), gradient = gradient_of(crf="cells", switching="adaptive", dtype="bfloat16")()
    assert_finite(loss, aux, gradient)
    assert {x.dtype for x in jax.tree.leaves((loss, gradient))} == {np.dtype("float32")}
    plain, _ = loss_of(crf="cells", switching="adaptive")()
    np.testing.assert_allclose(loss, plain, rtol=0.05)


@pytest.mark.parametrize("moving", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_padded_rows_change_nothing(moving):
    """Whatever photo and labels stand in a row that is not valid; statistics that move, too."""
    changes = {"crf": "cells", "switching": "adaptive"}
    changes |= {"model.batch_norm": "batch"} if moving else {}
    (loss, aux), gradient = gradient_of(**changes)()
    other = {name: value.copy() for name, value in BATCH.items()}
    other["image"][3] = np.random.default_rng(0).integers(0, 2, (32, 32, 3)) * 255
    other["labels"][3] = [0, 1, 0, 0, 0]
    (loss2, aux2), gradient2 = gradient_of(**changes)(other)
    assert loss == loss2 and np.isfinite(loss)
    assert_trees_equal((gradient, aux.metrics), (gradient2, aux2.metrics))
    assert_trees_equal(aux.collections, aux2.collections)
    moved = [np.any(a != b) for a, b in _statistics(aux)]
    assert moved == [moving] * len(moved)


def _statistics(aux):
    before, after = variables()["batch_stats"], aux.collections["batch_stats"]
    return zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
