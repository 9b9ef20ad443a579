"""configs/ccnn.py: which stages a variant has, what each reads, and what is refused."""

import numpy as np
import pytest

from configs import ccnn, two_phase
from wsol_jax.base.errors import UserError
from wsol_jax.stages.sections import stage_config

SMALL = "voc,backbone=mobilenet_v2"


@pytest.mark.parametrize("words", ["voc", SMALL, "embedded", "voc,backbone=resnet101"])
def test_a_variant_is_a_row_of_section_46(words):
    """By labels alone, with the first network's maps, with the maps that both vote for."""
    stages = {
        "plain": ("segment", "evaluate"),
        "first": ("first", "cues", "segment", "evaluate"),
        "two_phase": ("first", "second", "cues", "segment", "evaluate"),
    }
    for variant, names in stages.items():
        config = ccnn.get_config(f"{words},variant={variant}")
        assert config.stages == names
        own = stage_config(config, "segment")
        assert own.method == "ccnn"
        assert own.labels == ("" if variant == "plain" else "cues=cues")
        assert own.ccnn.cued == (0 if variant == "plain" else 0.7)
        if variant != "plain":
            assert config.cues.maps == names[-4] and config.cues.background == 0
            assert stage_config(config, "cues").labeller == "cues"
            assert own.ccnn.cells == config.cues.size
    assert ccnn.get_config(words).stages == stages["two_phase"]


def test_the_classifiers_are_two_phase_learnings():
    for words in ("voc", SMALL):
        ours, theirs = ccnn.get_config(words), two_phase.get_config(f"{words},segment=true")
        for name in ("first", "second"):
            one, other = (stage_config(c, name).to_dict() for c in (ours, theirs))
            for config in (one, other):
                for field in ("ccnn", "method", "early", "free", "cues", "eval"):
                    config.pop(field, None)
                config["two_phase"].pop("segment")
            assert one == other


def test_released_bounds_and_solver():
    """Of CCNN's released layer and solver: 35,000 steps of one image."""
    own = stage_config(ccnn.get_config("voc"), "segment")
    assert tuple(own.ccnn.background) == (0.3, 0.7) and tuple(own.ccnn.foreground) == (0.05, 1)
    assert own.ccnn.slack == 2
    rates = own.optimizer
    assert rates.backbone_lr == rates.head_lr == rates.classifier_lr == 1e-6
    assert (rates.momentum, rates.weight_decay, rates.schedule) == (0.99, 5e-7, "constant")
    assert (rates.bias_lr, rates.decay_all) == (2, False)
    assert own.train.batch_size == 1 and own.model.dense_layers
    np.testing.assert_allclose(own.train.epochs * 10582, 35_000)
    assert tuple(own.eval.crf.bilateral) == (35, 61, 10) and tuple(own.eval.crf.spatial) == (15, 19)
    # Of the classifiers: two-phase learning's.
    first = stage_config(ccnn.get_config("voc"), "first")
    assert (first.train.batch_size, first.optimizer.momentum) == (15, 0.9)


def test_the_small_recipe_is_secs_but_for_the_loss():
    own = stage_config(ccnn.get_config(SMALL), "segment")
    theirs = stage_config(two_phase.get_config(f"{SMALL},segment=true"), "segment")
    for section in ("data", "model", "optimizer", "train"):
        assert own[section] == theirs[section], section
    for field in ("cells", "channels", "dilation", "average", "dropout"):
        assert own.ccnn[field] == theirs.sec[field], field


def test_a_variant_that_is_none():
    with pytest.raises(UserError, match="no variant 'plane'; did you mean 'plain'"):
        ccnn.get_config("voc,variant=plane")
