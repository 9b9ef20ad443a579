"""SPG's two recipes, field by field; what they are refused on, and what they leave alone."""

import pytest

from configs import cam, cams2i, hide_and_seek, mcof, sec, spg, two_phase
from wsol_jax.base import fields
from wsol_jax.base.errors import UserError
from wsol_jax.data.pipeline import eval_size
from wsol_jax.data.views import eval_center
from wsol_jax.methods.spg import PRESETS, thresholds_of

# The authors' train_imagenet_full_v5.sh, train_frame.py, my_optim.py, LoadData.py and
# inception3_spg.py; of SPG alone what is under "spg".
RELEASED = {
    "data.resize": 356,
    "data.resize_mode": "shorter",
    "data.crop": 321,
    "data.flip": 0.5,
    "train.batch_size": 20,
    "train.epochs": 5.0,
    "optimizer.rule": "sgd",
    "optimizer.backbone_lr": 1e-3,
    "optimizer.head_lr": 1e-3,
    "optimizer.bias_lr": 2.0,
    "optimizer.schedule": "constant",
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "optimizer.decay_all": True,
    "model.backbone": "inception_v3",
    "model.dropout": 0.0,
    "model.batch_norm": "batch",
    "model.preprocessing": "torch",
    "eval.view": "center",
    "eval.ten_crop": False,
}
RELEASED_SPG = {
    "optimizer.branch_lr": 1e-3,
    "spg.channels": 512,
    "spg.c_layers": 1,
    "spg.seed_size": 224,
    "spg.min_foreground": 30,
    "spg.b1_endpoint": "Mixed_5d",
    "spg.b2_endpoint": "Mixed_6d",
    "spg.cascade": True,
    "spg.share_b": True,
}
# Section 3.3.
PAPER = {
    "data.resize": 256,
    "data.resize_mode": "warp",
    "data.crop": 224,
    "train.batch_size": 30,
    "optimizer.backbone_lr": 1e-3,
    "optimizer.head_lr": 1e-2,
    "optimizer.bias_lr": 1.0,
    "optimizer.schedule": "step",
    "optimizer.decay_epochs": 1.0,
    "optimizer.decay_factor": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 5e-4,
    "model.dropout": 0.0,
    "eval.view": "whole",
    "optimizer.branch_lr": 1e-2,
    "optimizer.guide_lr": 1e-2,
    "spg.channels": 512,
    "spg.c_layers": 2,
    "spg.seed_size": 0,
    "spg.min_foreground": 0,  # eq. 1 has no such rule
    "spg.b1_endpoint": "Mixed_5d",  # A1's output
    "spg.b2_endpoint": "Mixed_6e",  # A2's
}


def chosen(config, wanted):
    flat = dict(fields._flat(config))
    return {path: flat[path] for path in wanted}


def test_the_papers_recipe():
    config = spg.get_config("ilsvrc")
    assert chosen(config, PAPER) == PAPER
    assert thresholds_of(config.spg) == PRESETS["paper"]


def test_the_released_recipe():
    config = spg.get_config("ilsvrc,recipe=released")
    assert chosen(config, RELEASED | RELEASED_SPG) == RELEASED | RELEASED_SPG
    assert thresholds_of(config.spg) == PRESETS["released"]
    plain = cam.get_config("ilsvrc,backbone=inception_v3,recipe=released")
    assert chosen(plain, RELEASED) == RELEASED
    assert spg.get_config("cub,recipe=released").train.epochs == 21  # EPOCH of train_frame.py


def test_the_middle_of_a_test_photo_has_the_trainings_proportion():
    config = spg.get_config("ilsvrc,recipe=released")
    assert (eval_size(config), eval_center(config)) == (321, 356)
    config.eval.size = 642
    assert eval_center(config) == 712
    assert eval_center(spg.get_config("ilsvrc")) == 0


def test_the_guides_rate_of_the_released_recipe_is_everyones():
    assert spg.get_config("ilsvrc,recipe=released").optimizer.guide_lr == 1e-3


def test_other_backbones_keep_their_pixels_in_the_released_recipe():
    config = cam.get_config("cub,backbone=vgg16,recipe=released")
    assert config.model.preprocessing == "auto" and config.eval.view == "center"


@pytest.mark.parametrize("file", [cams2i, hide_and_seek, mcof, sec, two_phase])
def test_methods_without_a_released_training_say_so(file):
    with pytest.raises(UserError, match=r"recipe=released: .* has one recipe, 'paper'"):
        file.get_config("voc,recipe=released")


@pytest.mark.parametrize("file", [cam, spg])
@pytest.mark.parametrize("words", ["embedded", "folder,backbone=mobilenet_v2"])
def test_small_data_has_no_released_recipe(file, words):
    with pytest.raises(UserError, match="recipe=released: it trains a whole network"):
        file.get_config(f"{words},recipe=released")


@pytest.mark.parametrize("words", ["embedded", "folder,backbone=mobilenet_v2"])
def test_the_small_recipes_are_neither(words):
    options = spg.get_config(words).spg
    assert (options.thresholds, options.c_layers, options.seed_size) == ("custom", 1, 0)


@pytest.mark.parametrize("file", [cam, cams2i, spg])
@pytest.mark.parametrize("words", ["cub", "ilsvrc", "voc", "embedded", "voc,backbone=mobilenet_v2"])
def test_no_recipe_of_these_has_dropout(file, words):
    assert file.get_config(words).model.dropout == 0


def test_two_phase_learnings_classifier_keeps_secs_dropout():
    for file in (two_phase, sec, mcof):
        assert file.get_config("voc").model.dropout == 0.5


@pytest.mark.parametrize(
    "path, value",
    [
        *(("spg.c_layers", value) for value in (3, -1, 1.0, True)),
        *(("spg.cascade", value) for value in (1, "false")),
        *(("spg.share_b", value) for value in (0, "none")),
        *(("spg.seed_size", value) for value in (4, -8, 224.0)),
        ("eval.view", 1),
    ],
)
def test_values_that_the_switches_may_not_have(path, value):
    config = spg.get_config("ilsvrc").copy_and_resolve_references().to_dict()
    section, name = path.split(".")
    config[section][name] = value
    with pytest.raises(UserError, match=path):
        fields.check(config)
