"""The roofline by hand."""

import pytest

from wsol_jax.stages.ahead import roofline
from wsol_jax.stages.ahead.topology import parse


@pytest.mark.parametrize(
    ("flops", "traffic", "exchanged", "binds", "seconds"),
    [
        (197e12, 100e9, 1e6, "products", 1.0),
        (1e12, 819e9, 1e6, "memory", 1.0),
        # 4 chips in an open square: each sends 2 * 3/4 of 20 GB, over its two links of 50 GB/s.
        (1e12, 81.9e9, 20e9, "interconnect", 0.3),
    ],
)
def test_the_longest_side_binds(flops, traffic, exchanged, binds, seconds):
    bound = roofline.floor(flops, traffic, exchanged, parse("v5e:2x2"))
    assert bound.binds == binds
    assert bound.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("v5e:1x1", 0),
        ("v5e:1x2", 1),
        ("v5e:4x4", 2),  # a corner
        ("v5e:8x16", 3),  # one axis is a ring
        ("v5e:16x16", 4),
        ("v4:2x2x1", 2),
        ("v4:2x2x4", 3),
        ("v4:4x4x4", 6),  # a cube is closed on all sides
        ("v5p:4x4x8", 6),
    ],
)
def test_links_of_the_chip_that_has_the_fewest(name, links):
    assert roofline.links_of(parse(name)) == links


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("v5e:1x1", 0.0),
        ("v5e:2x2", 2 * 3 / 4 * 1e9 / 100e9),
        ("v5e:16x16", 2 * 255 / 256 * 1e9 / 200e9),  # the pod's 51.2 TB/s over 256 chips
        ("h100:1", 0.0),
        ("h100:8", 2 * 7 / 8 * 1e9 / 450e9),
        # Within the host as before, then an eighth of it over each GPU's own card.
        ("h100:16", 2 * 7 / 8 * 1e9 / 450e9 + 2 * 1 / 2 * 1e9 / 8 / 50e9),
    ],
)
def test_an_all_reduce_of_a_gigabyte(name, seconds):
    assert roofline.all_reduce_seconds(1e9, parse(name)) == pytest.approx(seconds)


def test_an_all_reduce_as_a_ring_that_is_played_through():
    """Chips in a ring pass parts on, step by step: the bytes that one sends are the formula's."""
    chips, size = 8, 8 * 1000
    parts = [[{chip} for _ in range(chips)] for chip in range(chips)]  # who is summed, by part
    sent = 0
    for gather in (False, True):
        for step in range(chips - 1):
            moves = []
            for chip in range(chips):
                part = (chip - step + gather) % chips
                moves.append(((chip + 1) % chips, part, set(parts[chip][part])))
            for to, part, summed in moves:
                parts[to][part] |= summed
            sent += size // chips
    assert all(part == set(range(chips)) for chip in parts for part in chip)
    one_link = roofline.all_reduce_seconds(size, parse("h100:8")) * 450e9
    assert sent == pytest.approx(one_link)
