"""Names of hardware, and the sentences for those that are none."""

import re
from importlib import metadata

import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.stages.ahead import topology
from wsol_jax.stages.ahead.cards import target_config
from wsol_jax.stages.ahead.chips import CHIPS


@pytest.mark.parametrize(
    ("name", "sides", "count", "platform"),
    [
        ("v5e:2x2", (2, 2), 4, "tpu"),
        ("v5e:16x16", (16, 16), 256, "tpu"),
        ("v5e:1x1", (1, 1), 1, "tpu"),
        ("v6e:2x4", (2, 4), 8, "tpu"),
        ("v4:2x2x4", (2, 2, 4), 16, "tpu"),
        ("v5p:4x4x4", (4, 4, 4), 64, "tpu"),
        ("h100:1", (1, 1), 1, "gpu"),
        ("h100:8", (1, 8), 8, "gpu"),
        ("a100:16", (2, 8), 16, "gpu"),
    ],
)
def test_names(name, sides, count, platform):
    place = topology.parse(name)
    assert (place.sides, place.count, place.platform) == (sides, count, platform)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "v5e:2x2"),
        ("v7:2x2", "v7.*v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2, h100:8, a100:8"),
        ("V5E:2x2", "'V5E'"),
        ("v5e", "expected v5e:SHAPE, such as v5e:2x2"),
        ("v5e:", "such as v5e:2x2"),
        ("v5e:4", "2 numbers, such as v5e:2x2"),
        ("v5e:2x2x1", "2 numbers"),
        ("v4:2x2", "3 numbers, such as v4:2x2x1"),
        ("v5e:0x2", "such as v5e:2x2"),
        ("v5e:2x-2", "such as v5e:2x2"),
        ("v5e:2 x2", "such as v5e:2x2"),
        ("v5e:2x2x", "such as v5e:2x2"),
        ("v5e:999999x2", "such as v5e:2x2"),
        ("h100:2x4", "one number, such as h100:8"),
        ("h100:12", "8 in a host: expected up to 8, or a multiple of it"),
        ("h100:eight", "such as h100:8"),
    ],
)
def test_what_is_no_name_is_refused_in_a_sentence(name, words):
    with pytest.raises(UserError, match=f"--topology={re.escape(name)}: ") as caught:
        topology.parse(name)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["v5e:2x2", "h100:8"])
def test_without_a_compiler_the_command_that_brings_it_is_named(name, monkeypatch):
    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UserError, match=r"not installed: pip install 'wsol_jax\[aot\]'"):
        topology.mesh_of(topology.parse(name))


def test_every_chip_has_figures_and_their_source():
    """FLOP/s over bytes/s, the batch-independent ridge of the roofline, is of a plausible size."""
    for kind, chip in CHIPS.items():
        assert chip.source.startswith("https://"), kind
        assert 100 < chip.flops / chip.bandwidth < 1000, kind
        assert 10e9 < chip.memory < 200e9, kind
        assert (chip.platform == "cuda") == (chip.network > 0), kind
        if chip.platform == "cuda":
            assert str(int(chip.bandwidth // 1e11)) in target_config(kind), kind
