"""What a method asks of its training: labels in the batches by name and kind, and steps."""

import pathlib
import types

import numpy as np
import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.data.label_formats import LabelSpec, cells, mask, regions, soft_maps
from wsol_jax.data.pseudo_labels import BatchLabels, LabelFolder
from wsol_jax.methods import Method, WarmUp
from wsol_jax.stages.wanted import batch_labels, check_warm_up

FOLDERS = {
    "cues": LabelFolder(pathlib.Path("w/cues"), {"cues": cells(9)}),
    "round": LabelFolder(
        pathlib.Path("w/round"), {"ids": regions(), "soft": soft_maps(), "mask": mask()}
    ),
}


def asked(labels, **wants):
    method = Method(None, None, None, None, wants=wants)
    config = types.SimpleNamespace(labels=labels, method="mine.net")
    return batch_labels(config, method, FOLDERS, "stage.net.")


def test_each_name_has_its_folder_product_and_shape():
    specs = {
        "seeds": LabelSpec((4, 4), np.uint8, 255),
        "ids": LabelSpec((32, 32), np.int32, -1),
        "soft": LabelSpec((8, 8, 3), np.float32),
    }
    found = asked("seeds=cues,ids=round/ids,soft=round/soft", **specs)
    assert found == {
        "seeds": BatchLabels(FOLDERS["cues"], "cues", specs["seeds"]),
        "ids": BatchLabels(FOLDERS["round"], "ids", specs["ids"]),
        "soft": BatchLabels(FOLDERS["round"], "soft", specs["soft"]),
    }
    assert asked("") == {}


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ("", r"stage\.net\.labels: mine\.net trains on labels called 'seeds': name the stage"),
        ("other=cues", r"trains on labels called 'seeds'.*seeds=STAGE"),
        ("seeds=cues,other=cues", r"mine\.net asks for no labels called 'other'"),
        ("seeds=nothing", r"stage\.net\.labels: 'nothing', for 'seeds', is no label stage before"),
        ("seeds=round", r"the labels in w.round have no product '', but ids, soft, mask"),
        ("seeds=round/ids", r"'seeds' is asked for as uint8 of \(4, 4\), .*'round' leaves regions"),
        ("seeds=round/soft", r"'seeds' is asked for as uint8 of \(4, 4\), .* leaves soft_maps"),
    ],
)
def test_mistakes_are_one_sentence(labels, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        asked(labels, seeds=LabelSpec((4, 4), np.uint8, 255))
    assert "\n" not in str(error.value)


def test_a_run_no_longer_than_its_warm_up_is_refused():
    config = types.SimpleNamespace(train=types.SimpleNamespace(epochs=0.1))
    plan = types.SimpleNamespace(num_steps=40)
    of = lambda *warm_up: Method(None, None, None, None, warm_up=WarmUp(*warm_up))
    check_warm_up(config, of(), plan)
    check_warm_up(config, of(39, "mine.steps"), plan)
    for steps in (40, 5000):
        with pytest.raises(UserError) as error:
            check_warm_up(config, of(steps, "mine.steps"), plan, "stage.net.")
        assert str(error.value) == (
            f"stage.net.train.epochs=0.1: the run has 40 steps, and the first {steps} only warm up "
            "(mine.steps): train longer or warm up less."
        )
