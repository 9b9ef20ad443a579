"""configs/mcof.py: which stages a run has, what each reads, and what is refused."""

import pytest

from configs import mcof
from wsol_jax.base.errors import UserError
from wsol_jax.data.pipeline import eval_size
from wsol_jax.stages.sections import stage_config


def read(config, name):
    """The stages that a stage is made of, as its section says."""
    own = stage_config(config, name)
    words = [word.partition("=")[2] for word in own.labels.split(",") if word]
    if own.labeller:
        section = config.stage[name].get("mcof", {})
        words += [section[role] for role in ("network", "objects") if role in section]
    return {*words, *([own.start] if own.start else [])}


def test_rounds_are_a_loop_in_which_each_stage_reads_those_before_it():
    config = mcof.get_config("voc,rounds=3")
    assert config.stages == (
        *("superpixels", "saliency", "first", "seeds"),
        *("region_1", "objects_1", "refined_1", "pixel_1", "masks_1"),
        *("region_2", "objects_2", "pixel_2", "masks_2"),
        *("region_3", "objects_3", "pixel_3", "masks_3", "evaluate"),
    )
    assert read(config, "region_1") == {"superpixels", "seeds"}
    assert read(config, "refined_1") == {"objects_1"}
    assert read(config, "pixel_1") == {"refined_1"}
    assert read(config, "region_2") == {"superpixels", "masks_1"}
    assert read(config, "pixel_2") == {"objects_2", "pixel_1"}
    assert read(config, "masks_3") == {"pixel_3"}
    for name in config.stages[:-1]:
        before = config.stages[: config.stages.index(name)]
        assert read(config, name) <= set(before), name
    assert config.eval.stages == ("pixel_1", "pixel_2")


def test_the_paper_has_five_rounds():
    names = mcof.get_config("voc").stages
    assert "pixel_5" in names and "pixel_6" not in names


def test_the_papers_masks_are_pixel_nets_as_they_are():
    """Algorithm 1, line 10; the recipe for small photos brings them to the photo's edges."""
    assert not mcof.get_config("voc").mcof.sharpen
    assert mcof.get_config("voc,backbone=mobilenet_v2").mcof.sharpen


def test_without_saliency_the_objects_are_learnt_as_they_are():
    config = mcof.get_config("voc,variant=without_saliency,rounds=2")
    assert not {"saliency", "refined_1"} & set(config.stages)
    assert read(config, "pixel_1") == {"objects_1"}


def test_direct_training_learns_its_own_masks():
    config = mcof.get_config("voc,variant=direct,rounds=3")
    assert [name for name in config.stages if name.startswith("region")] == ["region_1"]
    assert read(config, "pixel_2") == {"masks_1", "pixel_1"}
    assert read(config, "pixel_3") == {"masks_2", "pixel_2"}


def test_one_round_scores_one_network():
    config = mcof.get_config("voc,variant=one_round")
    assert config.stages[-2:] == ("masks_1", "evaluate") and config.eval.stages == ()


def test_without_a_warm_start_nothing_goes_on():
    config = mcof.get_config("voc,warm_start=false,rounds=2")
    assert read(config, "pixel_2") == {"objects_2"}


def test_rounds_from_the_third_on_may_be_left_out():
    config = mcof.get_config("voc,settled=0.02,rounds=4")
    ruled = {name for name in config.stages[:-1] if config.stage[name].get("settled")}
    assert ruled == {
        f"{kind}_{k}" for k in (3, 4) for kind in ("region", "objects", "pixel", "masks")
    }
    assert tuple(config.stage.pixel_4.settled) == ("masks_3", 0.02)


@pytest.mark.parametrize("words", ["voc", "voc,size=161", "voc,backbone=mobilenet_v2", "embedded"])
def test_label_stages_show_a_network_what_it_was_trained_on(words):
    """A network at another size than its own says something else of every cell."""
    config = mcof.get_config(f"{words},rounds=2")
    for k in (1, 2):
        for labels, training in ((f"objects_{k}", f"region_{k}"), (f"masks_{k}", f"pixel_{k}")):
            shown = eval_size(stage_config(config, labels))
            assert shown == stage_config(config, training).data.crop, labels
            assert shown == eval_size(stage_config(config, training)), labels


def test_the_papers_networks_begin_as_vgg():
    config = mcof.get_config("voc")
    region, pixel = (stage_config(config, f"{name}_1") for name in ("region", "pixel"))
    assert region.model.dense_layers and pixel.model.dense_layers
    assert (region.model.final_endpoint, region.region_net.size) == ("conv5_3", 7)
    assert region.region_net.channels == 4096
    assert (pixel.model.final_endpoint, pixel.model.output_stride) == ("pool5", 8)
    assert pixel.pixel_net.cells == 41


def test_pixel_net_may_stand_on_another_backbone():
    config = mcof.get_config("voc,pixel_backbone=resnet101,pixel_weights=R.npz")
    pixel = stage_config(config, "pixel_2").model
    assert (pixel.backbone, pixel.output_stride) == ("resnet101", 8)
    assert (pixel.weights, pixel.trunk.to_dict()) == ("R.npz", {})
    assert pixel.final_endpoint == "conv5_block3"
    region = stage_config(config, "region_2").model
    assert region.backbone == "vgg16" and region.trunk.ceil_mode


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("voc,rounds=0", "rounds=0: expected a whole number from 1 to 100"),
        ("voc,variant=nothing", "no variant 'nothing'"),
        ("voc,pixel_backbone=resnet100", "no backbone 'resnet100'; did you mean 'resnet101'?"),
    ],
)
def test_what_cannot_be_is_refused(words, sentence):
    with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
        mcof.get_config(words)


def test_the_test_images_size_is_not_the_labels():
    config = mcof.get_config("voc,backbone=mobilenet_v2,rounds=1")
    config.eval.size = 513
    for name, size in (("seeds", 224), ("objects_1", 320), ("masks_1", 320)):
        assert eval_size(stage_config(config, name)) == size


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("embedded,pixel_backbone=resnet101", "only the paper's recipe"),
        ("voc,backbone=mobilenet_v2,pixel_backbone=vgg16", "only the paper's recipe"),
        ("voc,variant=one_round,rounds=4", "variant=one_round decides rounds"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, sentence):
    with pytest.raises(UserError, match=sentence):
        mcof.get_config(words)


def test_labels_are_scored_where_the_data_set_has_masks():
    assert mcof.get_config("voc").eval.labels
    assert not mcof.get_config("folder,root=photos").eval.labels
