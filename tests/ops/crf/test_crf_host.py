"""The lattice's host path: equal to JAX's, from any number of threads, and never inside jit."""

import concurrent.futures
import subprocess
import sys
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest
from crf_cases import SETS, case, features64, lattice_by, lattice_matrix, options

from wsol_jax.ops.crf import dense_crf, host, host_lattice, host_sweep, permutohedral
from wsol_jax.ops.crf.lattice import bilateral_steps

KERNELS = ((10.0, 80.0, 13.0), (3.0, 3.0))


def both(unary, image, **settings):
    """(numba's, JAX's) probabilities."""
    found = []
    for name in ("host", "jax"):
        with lattice_by(name):
            found.append(dense_crf(unary, image, method="lattice", **settings))
    assert all(isinstance(x, jax.Array) and x.dtype == jnp.float32 for x in found)
    assert found[0].shape == found[1].shape == unary.shape
    return [np.asarray(x) for x in found]


@pytest.mark.parametrize("classes", [1, 2, 4, 8, 21])
def test_it_is_jaxs(classes):
    """Lanes of 4 and of 8, rows that fill them and rows that do not."""
    unary, image = case(30, 40, classes, seed=classes)
    for iterations in (1, 5):
        np.testing.assert_allclose(*both(unary, image, iterations=iterations), atol=1e-4)


@pytest.mark.parametrize("settings", [*SETS, ((0, 80, 13), (3, 3)), ((10, 80, 13), (0, 3))])
@pytest.mark.parametrize("smooth", [True, False])
def test_it_is_jaxs_with_other_kernels(settings, smooth):
    unary, image = case(30, 40, 3, seed=5, smooth=smooth)
    np.testing.assert_allclose(*both(unary, image, iterations=5, **options(settings)), atol=1e-4)


@pytest.mark.parametrize("change", ["one colour", "a row", "a column", "float", "int"])
def test_it_is_jaxs_on_odd_images(change):
    unary, image = case(30, 40, 3, seed=6)
    if change == "one colour":
        image = np.full_like(image, 93)
    elif change in ("a row", "a column"):
        unary, image = (x[:1] if change == "a row" else x[:, :1] for x in (unary, image))
    elif change == "float":
        image = (image * np.float32(0.77)).astype(np.float32)
    else:
        image = image.astype(np.int32)
    np.testing.assert_allclose(*both(unary, image, iterations=5), atol=1e-4)


def test_it_is_jaxs_on_a_photo(shared):
    files = sorted((shared / "data/voc_animals/JPEGImages").glob("*.jpg"))
    if not files:
        pytest.skip("no photos of voc_animals")
    image = cv2.resize(cv2.imread(str(files[0]))[..., ::-1], (125, 94))
    unary, _ = case(94, 125, 21, seed=7)
    found, expected = both(unary, image, iterations=5)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_batches_and_jax_arrays():
    cases = [case(12, 15, 3, seed=seed) for seed in range(6)]
    unary, image = (np.stack(x) for x in zip(*cases, strict=True))
    alone = np.stack([dense_crf(*one, method="lattice", iterations=5) for one in cases])
    for wrap in (np.asarray, jnp.asarray):
        shaped = [wrap(x.reshape(2, 3, *x.shape[1:])) for x in (unary, image)]
        found = dense_crf(*shaped, method="lattice", iterations=5)
        np.testing.assert_array_equal(found, alone.reshape(found.shape))


def test_nan_and_infinity_spread_as_jaxs():
    """From one pixel to those that share a vertex with it, further each iteration."""
    unary, image = case(30, 40, 3, seed=8)
    unary = unary.copy()
    unary[3, 4, 1], unary[20, 20, 0], unary[25, 30] = np.nan, np.inf, np.inf
    for iterations in (0, 1, 2):
        found, expected = both(unary, image, iterations=iterations)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        assert np.isnan(found).any() and not np.isnan(found).all()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_threads_change_nothing(monkeypatch):
    """Of ours and of the caller, to the last bit; blurs in spans too."""
    monkeypatch.setattr(host, "_ALONE", 0)
    cases = [case(30 + seed, 40, 5, seed=seed) for seed in range(4)]
    infer = lambda one, threads=1: host.host_field(
        one[0][None], one[1][None], *KERNELS, None, 5, threads=threads
    )
    serial = [infer(one) for one in cases]
    for threads in (2, 3):
        for one, expected in zip(cases, serial, strict=True):
            np.testing.assert_array_equal(infer(one, threads), expected)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(infer, cases * 5), serial * 5, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_callers_pool_gets_one_thread_each():
    """Cores that a pool of callers keeps busy have no room for a pool within each call."""
    unary, image = case(12, 15, 3)
    with mock.patch.object(host, "_Pool", side_effect=AssertionError):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            found = pool.submit(dense_crf, unary, image, method="lattice").result()
        with mock.patch.object(host, "_cores", return_value=2), pytest.raises(AssertionError):
            dense_crf(unary, image, method="lattice")
    np.testing.assert_array_equal(found, dense_crf(unary, image, method="lattice"))


def test_traced_callers_get_jax():
    unary, image = case(12, 15, 3)
    crf = lambda unary, image: dense_crf(
        unary, image, method="lattice", iterations=2, capacity=6 * 12 * 15
    )
    expected = crf(unary, image)
    with mock.patch.object(host, "host_field", side_effect=AssertionError):
        with pytest.raises(AssertionError):  # else this test would show nothing
            crf(unary, image)
        jax.jit(crf).lower(unary, image)
        jax.jit(lambda: crf(unary, image)).lower()
        jax.make_jaxpr(jax.vmap(crf))(unary[None], image[None])
        gradient = jax.grad(lambda unary: crf(unary, image)[..., 0].sum())(jnp.asarray(unary))
        assert np.abs(gradient).max() > 0
        with mock.patch.object(jax, "default_backend", lambda: "gpu"):
            np.testing.assert_allclose(crf(unary, image), expected, atol=1e-5)


def test_numba_is_imported_by_the_first_use_alone():
    code = "import sys, wsol_jax.ops.crf; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def matrix_of(lattice):
    """Slice, blur and splat of a `HostLattice` as one matrix in float64."""
    vertices, weights, sides = lattice
    count, size = len(vertices), sides.shape[1]
    splat = np.zeros((size + 1, count))
    np.add.at(splat, (vertices, np.arange(count)[:, None]), weights)
    field = splat.copy()
    for axis in sides:
        field[:-1] += 0.5 * (field[axis[:, 0]] + field[axis[:, 1]])
    return splat.T @ field / (1 + 2.0 ** (1 - len(sides)))


@pytest.mark.parametrize("slots", [4, 2**14])
@pytest.mark.parametrize("sxy, srgb", [(80.0, 13.0), (6.667, 13.0), (2.0, 0.25)])
def test_lattice_is_one_of_dictionaries(monkeypatch, sxy, srgb, slots):
    """With a table that grows, and with keys of more than 32 bits."""
    monkeypatch.setattr(host_lattice, "_SLOTS", slots)
    image = np.full((10, 12, 3), 200, np.uint8)
    image[2:7, 3:9] = 7, 8, 255
    image[7:] = case(3, 12, 3, smooth=False)[1]
    places, limits, levels = bilateral_steps(image.shape, (1.0, sxy, srgb))
    assert len(permutohedral.digits_for(limits).words) == (2 if srgb < 1 else 1)
    steps = [*places, *(levels[i][image[..., i].ravel()] for i in range(3))]
    lattice = host_lattice.build_host_lattice(steps, limits)
    assert len(np.unique(lattice.vertices)) == lattice.sides.shape[1]
    expected = lattice_matrix(features64(image, sxy, srgb))
    np.testing.assert_allclose(matrix_of(lattice), expected, atol=1e-4)


def test_exponentials_are_numpys():
    x = np.concatenate([np.linspace(-86.9, 0, 100_003), [-87.5, -100, -np.inf, np.nan, 0]])
    x = np.resize(x.astype(np.float32), 100_008)
    found = _exponentials((0,) * 8, x)
    expected = np.where(x < -87, 0, np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(found, expected, rtol=3e-7)


@numba.njit
def _exponentials(like, x):
    found = np.empty_like(x)
    least = host_sweep._spread(like, np.float32(-87))
    for i in range(0, len(x), len(like)):
        value = host_sweep._exponential(host_sweep._load(like, x, i), least)
        host_sweep._store(found, i, value)
    return found
