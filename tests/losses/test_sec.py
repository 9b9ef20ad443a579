"""SEC's three losses against loops in float64, and what may not reach a gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick
from jax.test_util import check_grads

from wsol_jax.losses import sec

# These take longer to compile than to run.
seed_loss, constrain_loss = quick(sec.seed_loss), quick(sec.constrain_loss)
expand_loss = quick(sec.expand_loss, static_argnames=("foreground", "background"))
pool = quick(sec.global_weighted_rank_pooling, static_argnums=1)
probabilities = quick(sec.segmenter_probabilities, static_argnums=1)
RNG = np.random.default_rng(0)
SHAPE = (3, 4, 5, 6)  # images, cells, background and five classes


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


SCORES = 3 * RNG.normal(size=SHAPE)
PROBS = softmax(SCORES)
CRF = softmax(SCORES + RNG.normal(size=SHAPE))
# One class a cell, most of them none; the last image has no cue at all.
CUES = np.eye(7)[RNG.choice(7, size=SHAPE[:3], p=[0.1] * 6 + [0.4])][..., :6]
CUES[2] = 0
LABELS = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])


def single(x):
    return jnp.asarray(x, jnp.float32)


def by_hand_seed(probs, cues):
    found = []
    for p, s in zip(probs, cues, strict=True):
        terms = [np.log(p[place]) for place in np.ndindex(s.shape) if s[place]]
        found.append(-sum(terms) / len(terms) if terms else 0.0)
    return np.array(found)


def by_hand_gwrp(values, decay):
    """One class's cells, any shape."""
    weights = [decay**j for j in range(values.size)]
    ordered = sorted(values.ravel(), reverse=True)
    return sum(w * x for w, x in zip(weights, ordered, strict=True)) / sum(weights)


def by_hand_expand(probs, labels, foreground=0.996, background=0.999):
    found = []
    for p, y in zip(probs, labels, strict=True):
        classes = range(1, p.shape[-1])
        shown = [np.log(by_hand_gwrp(p[..., c], foreground)) for c in classes if y[c]]
        absent = [np.log(1 - p[..., c].max()) for c in classes if not y[c]]
        total = np.mean(shown) if shown else 0.0
        total += np.mean(absent) if absent else 0.0
        total += np.log(by_hand_gwrp(p[..., 0], background)) if y[0] else 0.0
        found.append(-total)
    return np.array(found)


def by_hand_constrain(probs, crf):
    cells = (crf * np.log(crf / probs)).sum(axis=-1)
    return cells.reshape(len(cells), -1).mean(axis=1)


# ---------------------------------------------------------------- values


def test_losses_equal_the_definitions():
    for found, expected in (
        (seed_loss(single(PROBS), single(CUES)), by_hand_seed(PROBS, CUES)),
        (expand_loss(single(PROBS), single(LABELS)), by_hand_expand(PROBS, LABELS)),
        (constrain_loss(single(PROBS), single(CRF)), by_hand_constrain(PROBS, CRF)),
    ):
        assert found.shape == (3,) and found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=2e-5)
        assert len(set(np.round(expected, 3))) == 3  # images that could be mistaken for each other


@pytest.mark.parametrize("foreground, background", [(0.5, 0.9), (0.0, 1.0), (1.0, 0.0)])
def test_expand_takes_each_decay_where_it_belongs(foreground, background):
    decays = dict(foreground=foreground, background=background)
    found = expand_loss(single(PROBS), single(LABELS), **decays)
    np.testing.assert_allclose(found, by_hand_expand(PROBS, LABELS, **decays), rtol=2e-5)
    assert not np.allclose(found, expand_loss(single(PROBS), single(LABELS)), rtol=1e-3)


def test_the_published_size_and_number_of_classes():
    """By hand: a uniform segmentation of 41x41 cells, 21 classes."""
    probs = jnp.full((1, 41, 41, 21), 1 / 21)
    cues = jnp.zeros((1, 41, 41, 21)).at[0, :5, :7, 3].set(1)
    labels = jnp.zeros((1, 21)).at[0, jnp.array([0, 3, 8])].set(1)
    # -log 1/21; -log 1/21 - log 20/21 - log 1/21; nothing.
    np.testing.assert_allclose(seed_loss(probs, cues), [3.044522], rtol=1e-6)
    np.testing.assert_allclose(expand_loss(probs, labels), [6.137835], rtol=1e-6)
    np.testing.assert_allclose(constrain_loss(probs, probs), [0.0], atol=1e-6)


@pytest.mark.parametrize("decay, normaliser", [(0.996, 249.7036), (0.999, 813.9688)])
def test_pooling_at_the_published_size(decay, normaliser):
    """Without a cell but the highest, the pooled value is 1 / sum of the weights."""
    one = jnp.zeros((1, 41, 41, 1)).at[0, 20, 7, 0].set(1.0)
    pooled = pool(one, decay)
    np.testing.assert_allclose(1 / pooled, [[normaliser]], rtol=1e-5)
    values = RNG.random((2, 41, 41, 3))
    expected = [[by_hand_gwrp(x[..., c], decay) for c in range(3)] for x in values]
    pooled = pool(single(values), decay)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)
    assert pooled.dtype == jnp.float32


def test_pooling_runs_from_the_maximum_to_the_mean():
    probs = single(PROBS)
    np.testing.assert_array_equal(pool(probs, 0), probs.max(axis=(1, 2)))
    np.testing.assert_allclose(pool(probs, 1e-9), PROBS.max(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(pool(probs, 1), PROBS.mean(axis=(1, 2)), rtol=1e-6)
    between = [np.asarray(pool(probs, d)) for d in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert all((a > b).all() for a, b in itertools.pairwise(between))


@pytest.mark.parametrize("decay", [-0.1, 1.001, float("nan")])
def test_other_decays_are_refused(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\]"):
        pool(single(PROBS), decay)


def test_shapes_are_checked():
    with pytest.raises(AssertionError):
        seed_loss(single(PROBS), single(CUES[..., :1]))
    with pytest.raises(AssertionError):
        expand_loss(single(PROBS), single(LABELS[:, 1:]))
    with pytest.raises(AssertionError):
        constrain_loss(single(PROBS), single(CRF[:1]))


# ---------------------------------------------------------------- probabilities


def test_probabilities_keep_a_floor():
    """p = softmax, + 1e-4, renormalised."""
    scores = np.concatenate([SCORES.reshape(-1, 6), [[80, -80, 0, 0, 0, 0], [0, 300, 0, 0, 0, 0]]])
    expected = softmax(scores) + 1e-4
    expected /= expected.sum(axis=-1, keepdims=True)
    found = probabilities(single(scores))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.min(), 1e-4 / 1.0006, rtol=1e-5)
    assert float(found.max()) < 1  # so that log(1 - max) is finite
    wide = probabilities(jnp.asarray(scores, jnp.bfloat16), 0.1)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide.min(), 0.1 / 1.6, rtol=1e-4)


def test_losses_of_saturated_scores_are_finite():
    """The surest wrong segmenter: each loss at its worst, with a gradient that is a number."""
    scores = jnp.zeros((1, 3, 3, 4)).at[..., 2].set(500.0)
    cues = jnp.zeros((1, 3, 3, 4)).at[..., 1].set(1.0)
    labels = jnp.array([[1, 1, 0, 0]])

    def total(scores):
        probs = sec.segmenter_probabilities(scores)
        parts = [
            sec.seed_loss(probs, cues),
            sec.expand_loss(probs, labels),
            sec.constrain_loss(probs, cues),
        ]
        return jnp.sum(jnp.stack(parts)), jnp.stack(parts)[:, 0]

    (_, parts), gradient = quick(jax.value_and_grad(total, has_aux=True))(scores)
    least = 1e-4 / 1.0004
    absent = (np.log(1 - 1.0001 / 1.0004) + np.log(1 - least)) / 2
    expected = [-np.log(least), -2 * np.log(least) - absent, -np.log(least)]
    np.testing.assert_allclose(parts, expected, rtol=1e-3)
    assert np.isfinite(gradient).all()


# ---------------------------------------------------------------- gradients


def of_scores(name):
    cues, labels, crf = single(CUES), single(LABELS), single(CRF)
    loss = {
        "seed": lambda p: sec.seed_loss(p, cues),
        "expand": lambda p: sec.expand_loss(p, labels, foreground=0.8, background=0.9),
        "constrain": lambda p: sec.constrain_loss(p, crf),
    }[name]
    return lambda scores: jnp.sum(loss(sec.segmenter_probabilities(scores)))


@pytest.mark.parametrize("name", ["seed", "expand", "constrain"])
def test_gradients(name):
    check_grads(jax.jit(of_scores(name)), (single(SCORES),), 1, ["rev"], 2e-2, 2e-2, 3e-3)


def test_gradients_in_closed_form():
    """Of the probabilities: -cue / p / cues; -crf / p / cells; a rank's weight for each cell."""
    probs = single(PROBS)
    gradient = lambda f: quick(jax.grad(lambda p: jnp.sum(f(p))))(probs)
    count = np.maximum(CUES.sum(axis=(1, 2, 3), keepdims=True), 1)
    found = gradient(lambda p: sec.seed_loss(p, single(CUES)))
    np.testing.assert_allclose(found, -CUES / PROBS / count, rtol=1e-4)
    found = gradient(lambda p: sec.constrain_loss(p, single(CRF)))
    np.testing.assert_allclose(found, -CRF / PROBS / 20, rtol=1e-4)
    flat = PROBS.reshape(3, 20, 6)
    rank = np.argsort(np.argsort(-flat, axis=1), axis=1)
    expected = 0.7**rank / (0.7 ** np.arange(20)).sum()
    found = gradient(lambda p: sec.global_weighted_rank_pooling(p, 0.7))
    np.testing.assert_allclose(np.asarray(found).reshape(flat.shape), expected, rtol=1e-4)


def test_no_gradient_passes_through_the_crf():
    scores = single(SCORES)
    probs = probabilities(scores)
    through = quick(jax.grad(lambda t: jnp.sum(sec.constrain_loss(probs, t))))(single(CRF))
    np.testing.assert_array_equal(through, 0)
    # A target made of the same scores is a constant all the same.
    made = lambda s: jnp.sum(
        sec.constrain_loss(sec.segmenter_probabilities(s), jax.nn.softmax(2 * s))
    )
    kept = jax.nn.softmax(2 * scores)
    fixed = lambda s: jnp.sum(sec.constrain_loss(sec.segmenter_probabilities(s), kept))
    expected = np.asarray(quick(jax.grad(fixed))(scores))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_array_equal(quick(jax.grad(made))(scores), expected)


def test_expand_has_a_gradient_however_it_is_compiled():
    """A maximum that is looked for among cells computed anew may be found nowhere: 0 / 0."""
    labels = np.array([[1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [1] * 6])
    total = lambda s: jnp.sum(sec.expand_loss(sec.segmenter_probabilities(s), single(labels)))
    gradient = quick(jax.grad(total))
    for seed in range(12):
        scores = 0.1 * np.random.default_rng(seed).normal(size=(4, 8, 8, 6))
        assert np.isfinite(gradient(single(scores))).all(), seed


# ---------------------------------------------------------------- images without


def test_an_image_without_cues_gives_nothing_and_no_gradient():
    scores = single(SCORES)
    value, gradient = quick(jax.value_and_grad(of_scores("seed")))(scores)
    np.testing.assert_array_equal(gradient[2], 0)
    assert np.abs(gradient[:2]).max() > 0 and np.isfinite(value)
    empty = seed_loss(single(PROBS), jnp.zeros(SHAPE))
    np.testing.assert_array_equal(empty, 0)


def test_cues_of_one_image_leave_the_others_alone():
    """A mean within each image: a hundred cues weigh no more than one."""
    cues = np.zeros(SHAPE)
    cues[0, ..., 1], cues[1, 2, 3, 4] = 1, 1
    found = seed_loss(single(PROBS), single(cues))
    expected = [-np.log(PROBS[0, ..., 1]).mean(), -np.log(PROBS[1, 2, 3, 4]), 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cells_without_a_cue_may_hold_anything_to_the_seed_loss():
    probs = np.where(CUES > 0, PROBS, 0.0)
    value, gradient = quick(jax.value_and_grad(lambda p: jnp.sum(sec.seed_loss(p, single(CUES)))))(
        single(probs)
    )
    np.testing.assert_allclose(value, by_hand_seed(PROBS, CUES).sum(), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_a_row_of_no_labels_is_finite():
    """A padded example: what it gives is masked, which a NaN would not be."""
    labels = LABELS.copy()
    labels[1] = 0
    loss = lambda scores: sec.expand_loss(sec.segmenter_probabilities(scores), single(labels))
    found = quick(loss)(single(SCORES))
    probs = np.asarray(probabilities(single(SCORES)), np.float64)
    np.testing.assert_allclose(found, by_hand_expand(probs, labels), rtol=2e-5)
    valid = jnp.array([1.0, 0.0, 1.0])
    gradient = quick(jax.grad(lambda s: jnp.sum(loss(s) * valid)))(single(SCORES))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0)
    assert np.abs(gradient[0]).max() > 0


@pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 1], [0, 1, 1]])
def test_images_of_no_class_or_of_all(labels):
    """A term without classes is 0, its gradient too."""
    probs = softmax(RNG.normal(size=(1, 2, 3, 3)))
    labels = np.array([labels])
    found = expand_loss(single(probs), single(labels))
    np.testing.assert_allclose(found, by_hand_expand(probs, labels), rtol=1e-5)
    gradient = quick(jax.grad(lambda p: jnp.sum(sec.expand_loss(p, single(labels)))))(single(probs))
    assert np.isfinite(gradient).all()
    if not labels[0, 0]:
        np.testing.assert_array_equal(gradient[..., 0], 0)


def test_one_cell():
    """Rank pooling of a single cell is that cell, at any decay."""
    probs = softmax(RNG.normal(size=(2, 1, 1, 4)))
    for decay in (0.0, 0.5, 1.0):
        pooled = pool(single(probs), decay)
        np.testing.assert_allclose(pooled, probs[:, 0, 0], rtol=1e-6)


def test_a_target_of_zeros_counts_for_nothing():
    """0 log 0 is 0: a CRF that rules a class out."""
    target = np.zeros((1, 2, 2, 3))
    target[..., 1] = 1
    probs = softmax(RNG.normal(size=target.shape))
    value, gradient = quick(
        jax.value_and_grad(lambda p: jnp.sum(sec.constrain_loss(p, single(target))))
    )(single(probs))
    np.testing.assert_allclose(value, -np.log(probs[..., 1]).mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[..., 0], 0)


def test_bfloat16_scores_are_lost_in_float32():
    scores = jnp.asarray(SCORES, jnp.bfloat16)
    probs = probabilities(scores)
    exact = softmax(np.asarray(scores, np.float64)) + 1e-4
    exact /= exact.sum(axis=-1, keepdims=True)
    found = seed_loss(probs, jnp.asarray(CUES, jnp.bfloat16))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_hand_seed(exact, CUES), rtol=1e-4)
