"""The table of fields: every field of every config has a range, and what is out of it is said."""

import importlib
import itertools
import math
import pathlib

import ml_collections
import pytest

from configs import common
from wsol_jax import methods
from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.data import sources

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
METHODS = [
    path.stem for path in sorted(FOLDER.glob("*.py")) if "def get_config" in path.read_text()
]
# Words that give a config more stages or other fields.
WORDS = {
    "two_phase": ("segment=true", "phases=3"),
    "mcof": ("settled=0.01", "pixel_backbone=resnet101"),
    "hide_and_seek": ("variant=not_end_to_end",),
}


def configs():
    for method in METHODS:
        file = importlib.import_module(f"configs.{method}")
        for name, word, backbone in itertools.product(
            sources.DATASETS, ("", *WORDS.get(method, ())), ("", "mobilenet_v2")
        ):
            if "pixel_backbone" in word and (backbone or name == "embedded"):
                continue
            yield file.get_config(
                ",".join(filter(None, (name, word, backbone and f"backbone={backbone}")))
            )


def leaves(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_every_number_of_every_config_has_a_range():
    assert {"cam", "spg", "mcof", "sec"} <= set(METHODS)
    seen = set()
    for config in configs():
        fields.check(config)
        for path, value in leaves(config):
            own = path.split(".", 2)[2] if path.startswith("stage.") else path
            numbers = value if isinstance(value, tuple | list) else (value,)
            if not any(map(is_number, numbers)):
                continue
            listed = own in fields.FIELDS or f"*.{own.rpartition('.')[2]}" in fields.FIELDS
            assert listed, f"{path}: give it a range, or ANY, in wsol_jax/base/fields.py"
            allowed = fields.known(own)
            if allowed is not fields.ANY:
                assert allowed.each == isinstance(value, tuple | list), path
                assert allowed.whole == isinstance(numbers[0], int), path
                seen.add(own)
    assert len(seen) > 100


def test_every_field_of_the_base_has_a_line():
    for path, _ in leaves(common.base()):
        assert path in fields.FIELDS, f"{path}: give it a line in wsol_jax/base/fields.py"


BAD = {
    "train.epochs": (math.inf, 1e300, 0.0, -1.0, math.nan),
    "model.width": (math.inf, 1e9, 0.0, -1.0, math.nan),
    "optimizer.backbone_lr": (-1.0, math.nan, math.inf),
    "data.crop": (0, 1, -3, 99999999999),
    "data.resize": (0, 99999999999),
    "seed": (-1, 10**20, 2**32),
    "train.batch_size": (0, -1, 10**20),
    "train.accumulate": (0, 10**20),
    "train.log_every": (0,),
    "eval.size": (-8, 3),
    "eval.threshold": (1.0, math.nan),
    "eval.tolerance": (-1.0, math.nan),
    "eval.batch_size": (0,),
    "eval.gallery": (-1,),
    "eval.detection.threshold": (1.5, math.nan),
    "eval.detection.nms_iou": (1.5, -0.1),
    "eval.crf.bilateral": ((10.0, math.nan, 13.0), (1e300, 80.0, 13.0)),
    "eval.crf.iterations": (-1, 10**20),
    "eval.crf.clip": (0.0, 1.0, math.nan),
    "eval.map_thresholds": ((0.2, 1.0), (math.nan, 0.2)),
    "spg.weight_b1": (-1.0, math.nan),
    "spg.seeds_b1": ((math.nan, 0.1), (2.0, 0.1)),
}


@pytest.mark.parametrize("path, value", [(p, v) for p, values in BAD.items() for v in values])
def test_what_is_out_of_its_range_is_named(path, value):
    config = importlib.import_module("configs.spg").get_config("embedded")
    config.update_from_flattened_dict({path: value})
    with pytest.raises(UserError) as error:
        fields.check(config)
    said = str(error.value)
    assert said.startswith(f"{path}={value!r}: expected ") and str(fields.known(path)) in said


def test_a_stages_field_has_the_range_of_the_runs():
    config = importlib.import_module("configs.two_phase").get_config("embedded")
    config.stage.second.train.epochs = math.inf
    with pytest.raises(UserError, match=r"^stage\.second\.train\.epochs=inf: expected a number"):
        fields.check(config)


def test_an_unlisted_field_may_be_anything_but_nan():
    config = common.base()
    config.mine = ml_collections.ConfigDict({"strength": 1e12, "words": ("a", 3)})
    common.finish(config)
    fields.check(config)
    config.mine.strength = math.nan
    with pytest.raises(UserError, match=r"mine\.strength=nan: expected finite numbers"):
        fields.check(config)


@pytest.mark.parametrize(
    "key",
    ["epochs=inf", "epochs=nan", "width=0", "width=1e9", "lr=-1", "size=1", "size=0", "size=-5"]
    + ["size=99999999999", "seed=100000000000000000000", "batch=0", "output_stride=0"],
)
def test_a_key_out_of_its_range_is_refused_when_it_is_read(key):
    with pytest.raises(UserError, match=f"^config key {key}: expected a"):
        importlib.import_module("configs.cam").get_config(f"embedded,{key}")


def test_rounds_without_end_are_refused_at_once():
    with pytest.raises(UserError, match="rounds=99999999999: expected a whole number from 1"):
        importlib.import_module("configs.mcof").get_config("voc,rounds=99999999999")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"data": {"crop": "wide"}}, r"X: data\.crop='wide': expected a whole number from 8"),
        ({"data": {"crop": None}}, r"X: data\.crop=None: expected a whole"),
        ({"data": {"crop": 32.0}}, r"X: data\.crop=32\.0: expected a whole"),
        ({"data": {"flip": True}}, r"X: data\.flip=True: expected a number from 0 to 1"),
        ({"data": {"multi_label": 1}}, r"X: data\.multi_label=1: expected true or false"),
        ({"model": {"backbone": 5}}, r"X: model\.backbone=5: expected a text"),
        ({"eval": {"stages": [1]}}, r"X: eval\.stages=\[1\]: expected a list of names"),
        ({"eval": {"crf": 3}}, r"X: the field 'eval\.crf\.bilateral' is missing"),
        ({"data": {"cropp": 3}}, r"X: there is no field 'data\.cropp'; did you mean 'data\.crop'"),
    ],
)
def test_a_file_of_other_types_is_refused(change, said):
    content = importlib.import_module("configs.cam").get_config("embedded").to_dict()
    fields.check(content, "X: ")
    for section, values in change.items():
        content[section] = {**content[section], **values}
    with pytest.raises(UserError, match=said):
        fields.check(content, "X: ")


def test_a_missing_field_is_named():
    content = importlib.import_module("configs.cam").get_config("embedded").to_dict()
    del content["train"]["epochs"]
    with pytest.raises(UserError, match=r"the field 'train\.epochs' is missing"):
        fields.check(content)


def test_a_methods_field_that_is_missing_is_named():
    config = importlib.import_module("configs.spg").get_config("embedded")
    with config.unlocked():
        del config.spg.channels
    with pytest.raises(UserError, match=r"^method 'spg': the config lacks a field: .*channels"):
        methods.build(config, 8)
