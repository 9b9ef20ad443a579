"""Cues: which cells a map is sure of, against loops in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.compiling import quick

from wsol_jax.ops import cues

foreground_cues = quick(cues.foreground_cues)
background_cue = quick(cues.background_cue, static_argnums=1, static_argnames="strict")
median_filter, resolve_cues = quick(cues.median_filter), quick(cues.resolve_cues)
RNG = np.random.default_rng(0)


def single(x):
    return jnp.asarray(x, jnp.float32)


# ---------------------------------------------------------------- foreground


def by_hand_foreground(maps, labels, share):
    found = np.zeros(maps.shape, bool)
    for n, c in np.ndindex(labels.shape):
        one = maps[n, :, :, c]
        if labels[n, c] and one.max() > 0:
            found[n, :, :, c] = one > share * one.max()
    return found


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.999])
def test_foreground_reaches_a_share_of_the_maximum(share):
    maps = RNG.normal(size=(4, 6, 5, 3)).astype(np.float32)
    maps[1, :, :, 0] = -np.abs(maps[1, :, :, 0]) - 0.1  # nothing above zero anywhere
    labels = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    found = foreground_cues(maps, labels, share)
    assert found.dtype == bool and found.shape == maps.shape
    expected = by_hand_foreground(maps, labels, np.float32(share))
    np.testing.assert_array_equal(found, expected)
    assert not expected[1, ..., 0].any() and not expected[2].any()
    sure = expected.any(axis=(1, 2))
    np.testing.assert_array_equal(sure[[0, 3]], labels[[0, 3]] > 0)


@pytest.mark.parametrize("top", [-1.0, 0.0])
def test_a_map_that_found_nothing_gives_no_cue(top):
    """Nor does the cell that comes nearest to zero: a share of its maximum lies above it."""
    maps = np.full((1, 3, 3, 1), top, np.float32)
    maps[0, 0, 0] = min(top, 0.0) * 0.1
    assert not foreground_cues(maps, np.ones((1, 1))).any()


def test_the_rule_is_strict():
    """A cell exactly at the share is out; a share of 0 takes all above zero."""
    maps = single([1.0, 0.25, 0.2499, 0.2501, 0.0, -0.5]).reshape(1, 2, 3, 1)
    found = np.asarray(foreground_cues(maps, jnp.ones((1, 1)), 0.25)).ravel()
    assert found.tolist() == [True, False, False, True, False, False]
    found = np.asarray(foreground_cues(maps, jnp.ones((1, 1)), 0.0)).ravel()
    assert found.tolist() == [True, True, True, True, False, False]


def test_each_class_has_its_own_maximum():
    maps = np.zeros((1, 1, 4, 2), np.float32)
    maps[0, 0, :, 0], maps[0, 0, :, 1] = (100, 50, 10, 0), (0, 0, 0.1, 1)
    found = np.asarray(foreground_cues(maps, np.ones((1, 2)), 0.2))[0, 0]
    assert found[:, 0].tolist() == [True, True, False, False]
    assert found[:, 1].tolist() == [False, False, False, True]


# ---------------------------------------------------------------- background


def test_background_is_the_published_share():
    """index int(.1 * 1681) = 168 of the sorted values: 169 cells of 41x41 without ties."""
    saliency = RNG.permutation(1681).reshape(1, 41, 41)
    found = np.asarray(background_cue(single(saliency), 0.1))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, saliency <= 168)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.37, 0.999])
def test_background_equals_a_sort(share):
    saliency = RNG.integers(0, 12, (5, 7, 6)).astype(np.float32)  # many ties
    expected = [one <= np.sort(one.ravel())[int(share * 42)] for one in saliency]
    np.testing.assert_array_equal(background_cue(single(saliency), share), expected)


def test_all_that_equal_the_last_one_are_in():
    saliency = np.array([[[0, 1, 1, 1, 1], [2, 3, 4, 5, 6]]], np.float32)
    found = np.asarray(background_cue(single(saliency), 0.2))  # the third of ten
    np.testing.assert_array_equal(found, saliency <= 1)
    # Also where most of the map is at its least.
    saliency = np.zeros((1, 4, 5), np.float32)
    saliency[0, 0, 0] = 1
    np.testing.assert_array_equal(background_cue(single(saliency), 0.1), saliency == 0)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.37, 0.999])
def test_the_strict_cut_is_the_released_codes(share):
    """Below sorted[int(share * cells)]: of 41x41 cells 168 without ties, and none of the tied."""
    saliency = RNG.permutation(1681).reshape(1, 41, 41)
    found = np.asarray(background_cue(single(saliency), share, strict=True))
    np.testing.assert_array_equal(found, saliency < int(share * 1681))
    tied = RNG.integers(0, 12, (5, 7, 6)).astype(np.float32)
    expected = [one < np.sort(one.ravel())[int(share * 42)] for one in tied]
    np.testing.assert_array_equal(background_cue(single(tied), share, strict=True), expected)


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_constant_map_has_no_background(value):
    maps = np.full((2, 3, 3), value, np.float32)
    maps[1, 1, 1] += 1
    found = np.asarray(background_cue(single(maps), 0.1))
    assert not found[0].any() and found[1].sum() == 8


def test_a_share_of_nothing_is_nothing():
    assert not background_cue(single(RNG.random((2, 4, 4))), 0.0).any()


# ---------------------------------------------------------------- median


def by_hand_median(maps):
    """3x3 windows of the mirrored map, edge repeated."""
    found = np.zeros_like(maps)
    count, height, width = maps.shape
    mirror = lambda i, n: -1 - i if i < 0 else 2 * n - 1 - i if i >= n else i
    for b, y, x in np.ndindex(count, height, width):
        window = [
            maps[b, mirror(y + dy, height), mirror(x + dx, width)]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
        found[b, y, x] = sorted(window)[4]
    return found


@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 1, 5), (1, 2, 2), (1, 1, 1)])
def test_median(shape):
    maps = RNG.normal(size=shape).astype(np.float32)
    found = median_filter(single(maps))
    assert found.shape == shape and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, by_hand_median(maps))
    if min(shape[1:]) > 2:
        inner = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))
        middle = np.median(inner, axis=(-2, -1))
        np.testing.assert_array_equal(found[:, 1:-1, 1:-1], middle)


def test_median_drops_a_lonely_cell_and_keeps_an_edge():
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, :, 3:] = 1
    maps[0, 2, 1] = 9
    expected = np.zeros((1, 6, 6), np.float32)
    expected[0, :, 3:] = 1
    np.testing.assert_array_equal(median_filter(single(maps)), expected)


# ---------------------------------------------------------------- one class a cell


def test_cues_are_read_at_the_nearest_cell():
    given = np.random.default_rng(0).integers(0, 256, (2, 41, 41), dtype=np.uint8)
    for size in ((41, 41), (20, 20), (41, 30), (82, 41)):
        found = cues.nearest_cells(jnp.asarray(given), size)
        assert found.dtype == jnp.uint8
        rows, columns = (((np.arange(n) + 0.5) * 41 / n).astype(int) for n in size)
        np.testing.assert_array_equal(found, given[:, rows][:, :, columns])


def by_hand_resolve(foreground, background):
    """A class before background; of two classes that with fewer cells; else unlabelled."""
    found = np.full(background.shape, cues.UNLABELLED, np.uint8)
    for n, y, x in np.ndindex(background.shape):
        here = np.flatnonzero(foreground[n, y, x])
        if len(here):
            areas = [foreground[n, :, :, c].sum() for c in here]
            found[n, y, x] = 1 + here[int(np.argmin(areas))]
        elif background[n, y, x]:
            found[n, y, x] = 0
    return found


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_conflicts(density):
    foreground = RNG.random((4, 6, 5, 3)) < density
    background = RNG.random((4, 6, 5)) < 0.4
    found = resolve_cues(jnp.asarray(foreground), jnp.asarray(background))
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, by_hand_resolve(foreground, background))


def test_the_smaller_region_wins_where_two_meet():
    foreground = np.zeros((1, 2, 4, 3), bool)
    foreground[0, :, :3, 1] = True  # six cells
    foreground[0, 0, 2:, 2] = True  # two, one of them shared
    background = np.ones((1, 2, 4), bool)
    found = resolve_cues(jnp.asarray(foreground), jnp.asarray(background))
    assert found[0].tolist() == [[2, 2, 3, 3], [2, 2, 2, 0]]
    # Equal areas: the first of them, in every run.
    foreground[0, 0, 1, 2], foreground[0, 1, :, 1] = True, False
    found = resolve_cues(jnp.asarray(foreground), jnp.asarray(background))
    assert found[0].tolist() == [[2, 2, 2, 3], [0, 0, 0, 0]]


def test_as_many_classes_as_a_byte_holds():
    foreground = np.zeros((1, 1, 2, 254), bool)
    foreground[0, 0, 0, 253] = True
    nothing = np.zeros((1, 1, 2), bool)
    found = resolve_cues(jnp.asarray(foreground), jnp.asarray(nothing))
    assert found[0].tolist() == [[254, 255]]
    with pytest.raises(ValueError, match="254 classes at most, not 255"):
        resolve_cues(jnp.zeros((1, 1, 2, 255), bool), jnp.asarray(nothing))


def test_cues_compile_and_do_not_depend_on_their_batch():
    """An image's cues are its own: padding and neighbours move nothing."""
    maps = single(RNG.normal(size=(4, 8, 8, 3)))
    labels, saliency = single(RNG.integers(0, 2, (4, 3))), single(RNG.random((4, 8, 8)))

    @quick
    def made(maps, labels, saliency):
        return cues.resolve_cues(
            cues.foreground_cues(maps, labels), cues.background_cue(cues.median_filter(saliency))
        )

    whole = made(maps, labels, saliency)
    for n in range(4):
        one = slice(n, n + 1)
        np.testing.assert_array_equal(made(maps[one], labels[one], saliency[one])[0], whole[n])
