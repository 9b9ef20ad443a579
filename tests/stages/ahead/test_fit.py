"""The search for the largest batch, with a compiler that is a formula."""

import pytest

from wsol_jax.stages.ahead import fit


def compiler(memory):
    """What a size needs, and a list of the sizes that were asked for; none twice."""
    asked = []

    def of(size):
        assert size not in asked
        asked.append(size)
        return memory(size)

    return of, asked


SIZES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]


@pytest.mark.parametrize("start", [1, 7, 8, 64, 1000])
@pytest.mark.parametrize("limit", [0.5, 1.05, 1.1, 2.0, 3.3, 7.49, 7.5, 16.0, 40.0])
def test_the_largest_that_fits(limit, start):
    of, asked = compiler(lambda size: 1.0 + 0.1 * size)
    expected = max((size for size in SIZES if 1.0 + 0.1 * size <= limit), default=0)
    assert fit.largest(of, limit, start) == expected
    assert len(asked) <= 5


def test_a_recipe_that_fits_takes_four_compilations():
    of, asked = compiler(lambda size: 0.4e9 + 64e6 * size)  # CAM-VGG16's
    assert fit.largest(of, 16e9, 8) == 192
    assert len(asked) <= 4
    assert asked[0] == 8


@pytest.mark.parametrize("limit", [4.0, 9.0])
def test_more_than_there_is_is_no_size(limit):
    """A compiler that gives up above 20 images."""
    of, asked = compiler(lambda size: 1.0 + 0.2 * size if size <= 20 else None)
    assert fit.largest(of, limit, 512) == {4.0: 12, 9.0: 16}[limit]
    assert len(asked) <= 8


def test_memory_that_steps_and_falls():
    """Layouts change with the batch: memory is no line, and may fall on the way up."""
    memory = {1: 5.0, 2: 4.0, 3: 4.5, 4: 4.5, 6: 8.0, 8: 9.0}
    of, _ = compiler(lambda size: memory.get(size, 100.0))
    assert fit.largest(of, 8.5, 2) == 6


def test_nothing_fits_or_everything():
    assert fit.largest(lambda size: None, 1.0, 8) == 0
    assert fit.largest(lambda size: 0.0, 1.0, 8) == 6144
