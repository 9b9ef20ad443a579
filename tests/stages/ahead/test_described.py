"""What is printed and written of a step elsewhere, with a compiler that is a formula."""

import dataclasses
import json
import re

import pytest

from configs import cam, mcof
from wsol_jax.base.errors import UserError
from wsol_jax.stages import describe
from wsol_jax.stages.ahead import Step, TooLarge, described
from wsol_jax.stages.ahead.topology import parse


def step(rows, place="v5e:2x2", memory=None):
    """64 MB an image, on 0.4 GB of weights: CAM-VGG16's size."""
    return Step(
        topology=parse(place),
        rows=rows,
        flops=rows * 94e9,
        traffic=rows * 350e6,
        accessed=rows * 440e6,
        arguments=int(0.2e9),
        temporaries=int(memory or 0.2e9 + rows * 64e6),
        outputs=0,
        collectives={"all-reduce": (4, 39_000_000)},
        host_calls=[],
        text="",
    )


@pytest.fixture
def compiled(monkeypatch):
    """The batches that were compiled for; more than 300 images a chip are too many."""
    asked = []

    def compile_step(config, num_classes, place):
        rows = -(-config.train.batch_size // parse(place).count)
        asked.append(config.train.batch_size)
        if rows > 300:
            raise TooLarge(f"--topology={place}: too large")
        return step(rows, place)

    monkeypatch.setattr(described, "compile_step", compile_step)
    return asked


def test_a_step_is_printed_with_what_binds(compiled, tmp_path, capsys):
    config = cam.get_config("embedded")
    found = describe.describe(config, tmp_path, "v5e:2x2")
    assert json.loads((tmp_path / "describe.json").read_text()) == json.loads(json.dumps(found))
    device = found["device"]
    assert device["images_per_chip"] == 8
    assert device["memory_seconds"] == pytest.approx(8 * 350e6 / 819e9)
    assert device["products_seconds"] == pytest.approx(8 * 94e9 / 197e12)
    # Each of 4 chips sends 1.5 times 39 MB over two links of 50 GB/s.
    assert device["interconnect_seconds"] == pytest.approx(1.5 * 39e6 / 100e9)
    assert device["binds"] == "products"
    assert device["step_seconds"] == device["products_seconds"]
    assert device["images_per_second"] == pytest.approx(4 * 8 / device["step_seconds"])
    assert device["fits"] is True
    assert found["step_flops"] == pytest.approx(4 * 8 * 94e9)
    said = capsys.readouterr().out
    for words in ("v5e:2x2, 4 chip(s) of 8 images", "products binds", "39 MB in 4 all-reduce(s)"):
        assert words in said
    assert "calls of the host" not in said and "DOES NOT FIT" not in said


def test_the_largest_batch(compiled, tmp_path, capsys):
    found = describe.describe(cam.get_config("embedded"), tmp_path, "v5e:2x2", True)["device"]
    assert found["largest_images_per_chip"] == 192  # 0.4 + 0.064 x 192 = 12.7 of 16 GB; 256: 16.8
    assert found["largest"]["images_per_chip"] == 192
    assert len(compiled) <= 5
    assert "192 images a chip, batch=768" in capsys.readouterr().out


def test_a_batch_that_does_not_fit_is_said(compiled, tmp_path, capsys):
    config = cam.get_config("embedded,batch=4000")
    found = describe.describe(config, tmp_path, "v5e:2x2")
    assert "too large" in found["device"]["too_large"]
    assert found["parameters"] > 0 and found["step_flops"] is None
    assert "too large" in capsys.readouterr().out


def test_more_memory_than_a_chip_has_and_calls_of_the_host_stand_out():
    text = "\n".join(described.lines(step(8, memory=17e9)))
    assert "DOES NOT FIT" in text
    text = "\n".join(described.lines(dataclasses.replace(step(8), host_calls=["send.1 (send)"])))
    assert "calls of the host: send.1" in text


def test_every_training_of_a_run_in_stages(compiled, tmp_path, capsys):
    found = describe.describe(mcof.get_config("embedded"), tmp_path, "v5e:2x2")["stages"]
    assert list(found) == ["first", "region_1", "pixel_1", "region_2", "pixel_2"]
    assert found["region_1"]["map_size"] is None
    assert found["pixel_1"]["map_size"] == [12, 12]
    assert found["region_2"] == found["region_1"] != found["pixel_1"]
    said = capsys.readouterr().out
    assert "stage region_2: as region_1" in said and "stage pixel_2: as pixel_1" in said
    assert len(compiled) == 3
    one = describe.describe(mcof.get_config("embedded"), tmp_path, "v5e:2x2", False, ["pixel_2"])
    assert one == {"stages": {"pixel_2": found["pixel_1"]}}


@pytest.mark.parametrize(
    ("only", "words"), [("masks_1", "trains nothing.*first, region_1"), ("third", "'third'")]
)
def test_a_stage_that_is_no_training_is_refused(only, words, tmp_path):
    with pytest.raises(UserError, match=f"--stages: .*{words}"):
        describe.describe(mcof.get_config("embedded"), tmp_path, only=[only])


def test_a_name_that_is_none_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match=re.escape("--topology=v9:2x2: no chip")):
        describe.describe(cam.get_config("embedded"), tmp_path / "w", "v9:2x2")
    assert not (tmp_path / "w").exists()


def test_the_topology_alone_says_how_many_chips(tmp_path):
    config = cam.get_config("embedded")
    config.train.devices = 2
    with pytest.raises(UserError, match=r"train\.devices=2: --topology says"):
        describe.describe(config, tmp_path, "v5e:2x2")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown "), (0, "0 "), (999, "999 "), (1000, "1 k"), (1.5e9, "1.5 G"), (2e16, "20 P")],
)
def test_units(value, text):
    assert described.units(value) == text
