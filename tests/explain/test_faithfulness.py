"""Faithfulness against loops in NumPy at float64; imputation against the sparse system itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from helpers.compiling import quick
from helpers.networks import resized

from wsol_jax import explain
from wsol_jax.base.errors import UserError
from wsol_jax.explain import faithfulness, imputation

SIDE, CLASSES = 12, 3
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (2, SIDE, SIDE, 3))
MAPS = RNG.normal(size=(2, 4, 4))
WEIGHTS = RNG.normal(0, 0.02, (SIDE, SIDE, 3, CLASSES))
CLASS_OF = np.array([2, 0])


def call(images):
    """A network that weighs every pixel: class scores, and features that nobody asks for."""
    logits = jnp.einsum("bhwc,hwck->bk", images.astype(jnp.float32), jnp.float32(WEIGHTS))
    return logits / 100, images


NETWORK = explain.function(call)
TARGET = explain.probability(CLASS_OF)


def score(images):
    logits = np.einsum("bhwc,hwck->bk", images, WEIGHTS) / 100
    logits = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (logits / logits.sum(axis=1, keepdims=True))[np.arange(2), CLASS_OF]


def blurred(image):
    deviation = 5 * SIDE / 224
    radius = max(round(2 * deviation), 1)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-((offsets / deviation) ** 2) / 2)
    weights /= weights.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * 3
        pad[axis] = (radius, radius)
        padded = np.pad(image, pad, mode="reflect")
        image = sum(
            w * np.take(padded, np.arange(SIDE) + k, axis=axis) for k, w in enumerate(weights)
        )
    return image


def order_of(maps):
    """Pixels of each image, the most important first."""
    large = resized(maps, SIDE).reshape(len(maps), -1)
    return np.argsort(-large, axis=1, kind="stable")


def curve(start, end, steps):
    """Scores as pixel after pixel takes its value in ``end``."""
    found = []
    for number in np.round(np.linspace(0, SIDE**2, steps + 1)).astype(int):
        now = start.copy().reshape(2, -1, 3)
        for b, order in enumerate(order_of(MAPS)):
            now[b, order[:number]] = end.reshape(2, -1, 3)[b, order[:number]]
        found.append(score(now.reshape(IMAGES.shape)))
    found = np.stack(found, axis=1)
    return np.trapezoid(found, dx=1 / steps, axis=1), found


@pytest.mark.parametrize("steps", [1, 9])
def test_deletion_and_insertion_are_areas_under_their_curves(steps):
    given = (NETWORK, np.float32(IMAGES), jnp.float32(MAPS), TARGET)
    mean = IMAGES.mean(axis=(1, 2), keepdims=True) + 0 * IMAGES
    soft = np.stack([blurred(image) for image in IMAGES])
    for measure, expected in (
        (faithfulness.deletion, curve(IMAGES, mean, steps)),
        (faithfulness.insertion, curve(soft, IMAGES, steps)),
    ):
        found = quick(lambda *given, m=measure: m(*given, steps=steps))(*given)
        np.testing.assert_allclose(found.scores, expected[1], atol=2e-5)
        np.testing.assert_allclose(found.area, expected[0], atol=2e-5)
    assert curve(IMAGES, mean, steps)[1].std(axis=1).min() > 1e-3


def test_the_blur_is_a_gaussian():
    images = np.random.default_rng(3).uniform(0, 255, (2, 64, 70, 3))
    sigma = (0, 5 * 64 / 224, 5 * 64 / 224, 0)
    expected = scipy.ndimage.gaussian_filter(images, sigma, mode="mirror", truncate=2.0)
    found = quick(faithfulness._blurred)(np.float32(images))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_baseline_of_ones_own():
    given = (NETWORK, np.float32(IMAGES), jnp.float32(MAPS), TARGET)
    grey = np.full_like(IMAGES, 127.5)
    for measure, expected in (
        (faithfulness.deletion, curve(IMAGES, grey, 6)),
        (faithfulness.insertion, curve(grey, IMAGES, 6)),
    ):
        found = measure(*given, steps=6, baseline=127.5)
        np.testing.assert_allclose(found.area, expected[0], atol=2e-5)


def test_a_map_that_knows_the_classifier_beats_one_that_does_not():
    """What each pixel adds is known here: by that order deletion is lowest, insertion highest."""
    own = np.moveaxis(WEIGHTS, -1, 0)[CLASS_OF] - WEIGHTS.mean(axis=-1)
    best = (own * (IMAGES - IMAGES.mean(axis=(1, 2), keepdims=True))).sum(axis=-1)
    areas = [
        np.asarray(faithfulness.deletion(NETWORK, np.float32(IMAGES), jnp.float32(m), TARGET).area)
        for m in (best, np.random.default_rng(2).normal(size=best.shape), -best)
    ]
    assert (areas[0] < areas[1]).all() and (areas[1] < areas[2]).all()


@pytest.mark.parametrize("kind", ["photos", "prepared"])
def test_average_drop_and_increase(kind):
    images = IMAGES.round() if kind == "photos" else IMAGES
    given = images.astype(np.uint8 if kind == "photos" else np.float32)
    found = faithfulness.average_drop(NETWORK, given, jnp.float32(MAPS), TARGET)
    window = resized(MAPS, SIDE)
    low, high = (f(window, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    nothing = 127.5 if kind == "photos" else 0.0
    window = ((window - low) / (high - low))[..., None]
    whole, seen = score(images), score(nothing + (images - nothing) * window)
    np.testing.assert_allclose(found[0], np.maximum(whole - seen, 0) / whole, atol=2e-5)
    np.testing.assert_array_equal(found[1], seen > whole)


# ---------------------------------------------------------------- imputation, ROAD

WEIGHT = {(dy, dx): 1 / 6 if 0 in (dy, dx) else 1 / 12 for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
WEIGHT.pop((0, 0))


def solved(image, hidden):
    """The system written out pixel by pixel, solved by SciPy."""
    height, width = hidden.shape
    places = {tuple(place): k for k, place in enumerate(np.argwhere(hidden))}
    matrix = scipy.sparse.lil_matrix((len(places), len(places)))
    right = np.zeros((len(places), image.shape[-1]))
    for (y, x), k in places.items():
        for (dy, dx), weight in WEIGHT.items():
            other = (y + dy, x + dx)
            if not (0 <= other[0] < height and 0 <= other[1] < width):
                continue
            matrix[k, k] += weight
            if other in places:
                matrix[k, places[other]] -= weight
            else:
                right[k] += weight * image[other]
    found = image.copy()
    found[hidden] = scipy.sparse.linalg.spsolve(matrix.tocsc(), right)
    return found


def hidden_of(share, shape, block, seed):
    size = [-(-side // block) for side in shape]
    noise = np.kron(np.random.default_rng(seed).normal(size=size), np.ones((block, block)))[
        : shape[0], : shape[1]
    ]
    flat = np.argsort(noise, axis=None, kind="stable")
    mask = np.zeros(noise.size, bool)
    mask[flat[: round(share * noise.size)]] = True
    return mask.reshape(shape)


@pytest.mark.parametrize("share, block", [(0.1, 1), (0.5, 3), (0.9, 1), (0.9, 5)])
def test_imputation_solves_the_papers_system(share, block):
    images = np.random.default_rng(1).uniform(0, 255, (2, 20, 17, 3))
    hidden = np.stack([hidden_of(share, (20, 17), block, seed) for seed in range(2)])
    found = quick(lambda *given: imputation.impute(*given, iterations=200))(images, hidden)
    expected = np.stack([solved(*pair) for pair in zip(images, hidden, strict=True)])
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_array_equal(np.asarray(found)[~hidden], np.float32(images)[~hidden])


def test_imputation_of_nothing_and_of_everything():
    images = np.float32(IMAGES)
    none, everything = (np.full(IMAGES.shape[:3], value) for value in (False, True))
    np.testing.assert_array_equal(imputation.impute(images, none), images)
    mean = images.mean(axis=(1, 2), keepdims=True) + 0 * images
    np.testing.assert_allclose(imputation.impute(images, everything), mean, rtol=1e-5)


def test_road_is_the_change_of_score_where_pixels_are_imputed():
    found = quick(lambda *given: faithfulness.road(*given, noise=0.0, iterations=200))(
        NETWORK, np.float32(IMAGES), jnp.float32(MAPS), TARGET
    )
    whole, order = score(IMAGES), order_of(MAPS)
    changes = {"most": [], "least": []}
    for share in faithfulness.SHARES:
        number = round(share * SIDE**2)
        for name, chosen in (("most", order[:, :number]), ("least", order[:, SIDE**2 - number :])):
            hidden = np.zeros((2, SIDE**2), bool)
            np.put_along_axis(hidden, chosen, True, axis=1)
            hidden = hidden.reshape(2, SIDE, SIDE)
            filled = np.stack([solved(*pair) for pair in zip(IMAGES, hidden, strict=True)])
            changes[name].append(score(filled) - whole)
    most, least = (np.mean(changes[name], axis=0) for name in ("most", "least"))
    np.testing.assert_allclose(found.most, most, atol=1e-4)
    np.testing.assert_allclose(found.least, least, atol=1e-4)
    np.testing.assert_allclose(found.combined, (least - most) / 2, atol=1e-4)


def test_noise_is_on_the_imputed_pixels_alone():
    images = np.float32(np.tile(IMAGES, (1, 4, 4, 1)))
    hidden = np.zeros(images.shape[:3], bool)
    hidden[:, 10:40] = True
    filled = jnp.asarray(images)
    found = np.asarray(imputation.noisy(filled, hidden, 0.05, jax.random.key(0)) - images)
    assert (found[~hidden] == 0).all()
    expected = 0.05 * images.std(axis=(1, 2, 3))
    np.testing.assert_allclose(found[:, 10:40].std(axis=(1, 2, 3)), expected, rtol=0.05)


@pytest.mark.parametrize(
    "ask, sentence",
    [
        (lambda given: faithfulness.deletion(*given, steps=0), "steps: expected"),
        (lambda given: faithfulness.road(*given, shares=(0.0,)), "shares: expected"),
        (lambda given: faithfulness.road(*given, shares=()), "shares: expected"),
        (lambda given: faithfulness.road(*given, iterations=0), "iterations: expected"),
        (
            lambda given: faithfulness.insertion(*given[:2], given[2][:1], given[3]),
            r"a map \(h, w\) for each of 2 images, got \(1, 4, 4\)",
        ),
    ],
)
def test_numbers_that_make_no_sense_are_refused(ask, sentence):
    with pytest.raises(UserError, match=sentence):
        ask((NETWORK, np.float32(IMAGES), jnp.float32(MAPS), TARGET))
