"""The dense CRF's two methods against float64 brute force; the lattice's own are a file further."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from crf_cases import LATTICES, SETS, brute_force, case, lattice_by, lattice_matrix, options
from jax.test_util import check_grads

from wsol_jax.ops.crf import dense_crf, exact_kernel, lattice_kernel, mean_field
from wsol_jax.ops.crf.exact import exact_crf

METHODS = ["exact", "lattice"]
EAGER = ["exact", "host", "jax"]  # the lattice outside jit by either
CAPACITY = 6 * 12 * 15  # one size in most tests, so that they share the lattice's programs


def expected_of(method, unary, image, bilateral, spatial, iterations):
    gaussian = None if method == "exact" else lattice_matrix
    return brute_force(unary, image, bilateral, spatial, iterations, gaussian=gaussian)


def infer(unary, image, method, settings=SETS[0], iterations=5):
    """`dense_crf` by one of METHODS or of EAGER."""
    with lattice_by(method) if method in LATTICES else contextlib.nullcontext():
        return dense_crf(
            unary,
            image,
            method="lattice" if method in LATTICES else method,
            iterations=iterations,
            capacity=CAPACITY,
            **options(settings),
        )


def test_two_pixels_by_hand():
    """exp(-1/2 (1/1 + 9/9)) = 1/e between the two pixels, K's rows sum to 1 + 1/e."""
    unary = jnp.array([[[0.0, 1.0], [2.0, 0.0]]])
    image = jnp.array([[[10, 20, 30], [10, 23, 30]]], jnp.uint8)
    found = dense_crf(unary, image, bilateral=(2, 1, 3), spatial=(0, 1), iterations=1)
    near, far = 1 / (1 + np.exp(-1)), np.exp(-1) / (1 + np.exp(-1))
    p, q = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))  # of class 0 at first
    first = 1 / (1 + np.exp(-(1 + 2 * (near * (2 * p - 1) + far * (2 * q - 1)))))
    second = 1 / (1 + np.exp(-(-2 + 2 * (far * (2 * p - 1) + near * (2 * q - 1)))))
    np.testing.assert_allclose(found[0, :, 0], [first, second], atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("settings", SETS)
@pytest.mark.parametrize(
    "iterations", [*(pytest.param(i, marks=pytest.mark.slow) for i in (1, 5)), 10]
)
def test_exact_is_the_formula_in_float64(settings, iterations):
    for smooth in (True, False):
        unary, image = case(13, 17, 4, seed=iterations, smooth=smooth)
        found = dense_crf(unary, image, iterations=iterations, **options(settings))
        assert found.dtype == jnp.float32
        expected = brute_force(unary, image, *settings, iterations)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_exact_with_fractions_of_grey_levels():
    """Near colours far from 0 under a narrow kernel, where float32 cancels most."""
    unary, _ = case(9, 11, 3)
    image = (250 + np.random.default_rng(0).random((9, 11, 3)) * 5).astype(np.float32)
    settings = (10, 30, 0.7), (3, 3)
    found = dense_crf(unary, image, iterations=5, **options(settings))
    np.testing.assert_allclose(found, brute_force(unary, image, *settings, 5), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_lowers_for_other_platforms(method):
    unary, image = case(12, 15, 3)
    lowered = jax.jit(functools.partial(dense_crf, method=method))
    for platform in ("cuda", "tpu"):
        lowered.trace(unary[None], image[None]).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize("method", EAGER)
def test_no_weights_leave_the_unary(method):
    unary, image = case(12, 15, 3)
    found = infer(unary, image, method, settings=((0, 1, 1), (0, 1)))
    np.testing.assert_allclose(found, jax.nn.softmax(-unary), atol=1e-6)
    none = infer(unary, image, method, iterations=0)
    np.testing.assert_allclose(none, jax.nn.softmax(-unary), atol=1e-6)


@pytest.mark.parametrize("method", EAGER)
@pytest.mark.parametrize("settings", [((0, 80, 13), (3, 3)), ((10, 80, 13), (0, 3))])
def test_either_term_alone(method, settings):
    unary, image = case(12, 15, 3)
    found = infer(unary, image, method, settings)
    expected = expected_of(method, unary, image, *settings, 5)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradients(method):
    """Against finite differences; ties so weak that the curve is not far from straight."""
    unary, image = case(12, 15, 3)
    weak = (1, 80, 13), (0.3, 3)
    curve = functools.partial(infer, image=image, method=method, settings=weak)
    if method == "lattice":  # the same, from the other tests' kernel
        kernel = lattice_kernel(image, capacity=CAPACITY)
        lattices = [x._replace(weights=x.weights * 0.1**0.5) for x in kernel.lattices]
        kernel = kernel._replace(lattices=tuple(lattices))
        curve = functools.partial(mean_field, kernel=kernel, iterations=5)
    check_grads(curve, (jnp.asarray(unary),), order=1, modes=["rev"], eps=1e-2, rtol=2e-2)


@pytest.mark.parametrize("method", EAGER)
def test_batched_equals_looped_inside_and_outside_jit(method):
    """Inside with the lattice's own capacity, and colours of which each has its own vertices."""
    cases = [case(12, 15, 3, seed=seed, smooth=False) for seed in range(4)]
    unary, image = (np.stack(x).reshape(2, 2, *x[0].shape) for x in zip(*cases, strict=True))
    looped = np.stack([infer(*one, method) for one in cases]).reshape(unary.shape)
    np.testing.assert_allclose(infer(unary, image, method), looped, atol=1e-4)
    inside = "exact" if method == "exact" else "lattice"
    whole = jax.jit(jax.vmap(functools.partial(dense_crf, method=inside, iterations=5)))
    # Of the host's path and JAX's the last digits differ, and more on some CPUs than on others.
    np.testing.assert_allclose(whole(unary, image), looped, atol=3e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (1, 7, 2), (6, 1, 2), (5, 4, 1)])
@pytest.mark.parametrize("method", ["exact", "host", pytest.param("jax", marks=pytest.mark.slow)])
def test_small_maps_and_one_class(method, shape):
    unary, image = case(*shape)
    found = infer(unary, image, method, iterations=10)
    expected = expected_of(method, unary, image, *SETS[0], 10)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("method", EAGER)
@pytest.mark.parametrize("level", [0, 255])
def test_constant_images(method, level):
    unary, _ = case(12, 15, 3)
    image = np.full((12, 15, 3), level, np.uint8)
    expected = expected_of(method, unary, image, *SETS[0], 5)
    np.testing.assert_allclose(infer(unary, image, method), expected, atol=1e-4)


@pytest.mark.parametrize("method", EAGER)
def test_float_images_and_half_precision_unaries(method):
    unary, image = case(12, 15, 3)
    found = infer(unary, image.astype(np.float32), method)
    np.testing.assert_allclose(found, infer(unary, image, method), atol=1e-4)
    half = jnp.asarray(unary, jnp.bfloat16)
    found = infer(half, image, method)
    assert found.dtype == jnp.float32
    expected = infer(np.asarray(half, np.float32), image, method)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_kernel_serves_many_unaries(method):
    _, image = case(12, 15, 3)
    kernel = exact_kernel(image)
    if method == "lattice":
        kernel = lattice_kernel(image, capacity=CAPACITY)
    else:
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
    for seed in (1, 2):
        unary, _ = case(12, 15, 3, seed=seed)
        found = mean_field(unary, kernel, iterations=5)
        np.testing.assert_allclose(found, infer(unary, image, method), atol=1e-5)


def test_the_way_of_other_platforms(monkeypatch):
    """All images at once, the kernel as the products' left factor; run here, past jit's cache."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, cpu, default: default(*x))
    unary, image = (np.stack(x) for x in zip(*[case(9, 8, 3, seed=s) for s in (0, 1)], strict=True))
    found = exact_crf.__wrapped__(unary, image, *SETS[0], 5)
    expected = [brute_force(*one, *SETS[0], 5) for one in zip(unary, image, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "change, text",
    [
        (dict(unary=np.zeros((4, 5))), "unary is"),
        (dict(image=np.zeros((4, 6, 3))), "does not fit"),
        (dict(image=np.zeros((4, 5, 4))), "does not fit"),
        (dict(unary=np.zeros((2, 4, 5, 3))), "does not fit"),
        (dict(unary=np.zeros((0, 5, 3)), image=np.zeros((0, 5, 3))), "empty"),
        (dict(unary=np.zeros((4, 5, 0))), "empty"),
        (dict(bilateral=(10, -80, 13)), "deviations > 0"),
        (dict(bilateral=(10, 80, 0)), "deviations > 0"),
        (dict(bilateral=(-1, 80, 13)), "weight >= 0"),
        (dict(bilateral=(10, 80)), "weight, sxy, srgb"),
        (dict(bilateral=(10, 80, np.nan)), "finite"),
        (dict(spatial=(3, -1)), "deviations > 0"),
        (dict(spatial=3), "weight, sxy"),
        (dict(iterations=-1), "iterations"),
        (dict(method="brute"), "method"),
    ],
)
def test_bad_input_is_refused(method, change, text):
    arguments = dict(unary=np.zeros((4, 5, 3)), image=np.zeros((4, 5, 3)), method=method)
    with pytest.raises(ValueError, match=text):
        dense_crf(**{**arguments, **change})
