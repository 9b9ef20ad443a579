"""Hide-and-Seek's config: a variant for each row of the paper's tables, and what it changes."""

import pytest

from configs import hide_and_seek as file
from wsol_jax import methods
from wsol_jax.base.errors import UserError
from wsol_jax.stages import recipe

PLAIN = {"crf": "none", "filter": "none", "switching": "none"}  # "our architecture", tables I to IV
# What a row of tables I to VII does otherwise than the last of table VI.
ROWS = {
    "full": {},
    "gap_conv5": {**PLAIN, "gap": "conv5"},
    "one_cam": {**PLAIN, "cams": 1},
    "two_cams": PLAIN,
    "three_cams": {**PLAIN, "cams": 3},
    "patches_4": {**PLAIN, "number": 4},
    "patches_5": {**PLAIN, "number": 5},
    "patches_6": {**PLAIN, "number": 6},
    "crf": {"filter": "none", "switching": "none"},
    "filter": {"switching": "none"},
    "fixed_1000": {"switching": "fixed", "early_steps": 1000},
    "fixed_5000": {"switching": "fixed"},
    "not_end_to_end": {},
}


def differences(words):
    """Fields that differ from the full method's, the name itself aside."""
    one, other = (file.get_config(f"{w},weights=none").to_dict() for w in ("voc", words))
    assert one["hide_and_seek"].pop("variant") == "full"
    other["hide_and_seek"].pop("variant")
    sections = {k: v for k, v in other.items() if v != one[k]}
    own = sections.pop("hide_and_seek", {})
    return {k: v for k, v in own.items() if v != one["hide_and_seek"][k]}, sections


def test_every_variant_has_a_case_here():
    assert ROWS.keys() == file.VARIANTS.keys()


@pytest.mark.parametrize("variant, expected", ROWS.items())
def test_a_variant_changes_what_its_row_says_and_nothing_else(variant, expected):
    own, others = differences(f"voc,variant={variant}")
    assert own == expected
    assert set(others) == ({"stage", "stages"} if variant == "not_end_to_end" else set())


def test_the_full_method_is_the_papers():
    own = file.get_config("voc").hide_and_seek
    assert (own.cams, own.grid, own.probability, own.number) == (2, 4, 0.5, -1)
    assert (own.gap, own.pool, own.classification) == ("conv7", "sum", "squared")
    assert (own.crf, own.filter, own.switching) == ("image", "weigh", "adaptive")
    assert (own.early_steps, own.tau, own.share_until, own.extra) == (5000, 0, "", 0)
    assert (own.cam_size, own.cam_stride, own.segmentation, own.teacher) == (224, 16, 1, "")


@pytest.mark.parametrize("variant", ROWS)
@pytest.mark.parametrize("dataset", ["voc", "embedded"])
def test_every_variant_builds_on_every_stage(dataset, variant):
    config = file.get_config(f"{dataset},weights=none,variant={variant}")
    names = [name for name in config.stages if name != "evaluate"] or [""]
    for name in names:
        own = recipe.stage_config(config, name) if name else config
        methods.build(own, 20)
        assert own.hide_and_seek.variant == variant


def test_not_end_to_end_freezes_the_class_map_networks():
    config = file.get_config("embedded,variant=not_end_to_end")
    assert tuple(config.stages) == ("cams", "segment", "evaluate")
    cams, segment = (recipe.stage_config(config, name) for name in ("cams", "segment"))
    assert (cams.hide_and_seek.segmentation, cams.hide_and_seek.teacher) == (0, "")
    assert (segment.hide_and_seek.segmentation, segment.hide_and_seek.teacher) == (1, "cams")
    assert tuple(cams.reads) == () and tuple(segment.reads) == ("cams",)


def test_more_classes_than_a_mask_holds_are_one_sentence():
    config = file.get_config("voc,weights=none")
    methods.build(config, 254)
    with pytest.raises(UserError, match=r"^hide_and_seek: masks hold 254 classes .* has 255\.$"):
        methods.build(config, 255)


def test_early_steps_keep_their_share_of_a_shorter_run():
    steps = lambda words: file.get_config(words).hide_and_seek.early_steps
    assert steps("voc,variant=fixed_1000") / steps("voc") == 0.2
    assert steps("embedded,variant=fixed_1000") / steps("embedded") == 0.2
    assert 0 < steps("embedded") < steps("voc")


def test_the_tables_name_variants_and_leave_none_out():
    rows = [row for rows in file.TABLES.values() for row in rows]
    assert {row.variant for row in rows} == set(file.VARIANTS)
    assert list(file.TABLES) == ["I", "II", "III", "IV", "V", "VI", "VII"]
    seen = {}
    for row in rows:  # a variant in several tables has the same figures in all
        assert seen.setdefault(row.variant, row.before) == row.before
        for figures in (row.before, row.after or row.before):
            accuracy, iou = figures
            assert 20 < iou < accuracy < 100


@pytest.mark.parametrize(
    "variant, before, after",
    [
        ("full", (80.55, 40.44), (80.56, 41.89)),
        ("two_cams", (72.92, 34.03), (75.98, 36.50)),
        ("gap_conv5", (70.92, 26.27), (73.60, 27.65)),
        ("one_cam", (69.80, 33.04), (72.47, 35.47)),
        ("crf", (77.93, 38.29), (79.76, 40.04)),
        ("not_end_to_end", (75.90, 34.00), (77.08, 36.90)),
    ],
)
def test_figures_are_the_papers(variant, before, after):
    rows = [row for rows in file.TABLES.values() for row in rows if row.variant == variant]
    assert rows and all((row.before, row.after) == (before, after) for row in rows)


@pytest.mark.parametrize("words, said", [("voc", "'full'"), ("embedded", "'full'")])
def test_an_unknown_variant_is_one_sentence_with_a_hint(words, said):
    with pytest.raises(UserError, match=r"^config: no variant 'ful'; did you mean ") as error:
        file.get_config(f"{words},variant=ful")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_row_without_a_crf_stays_without_whatever_kind_the_others_have():
    """So a whole ablation may have the cheap one."""
    assert file.get_config("voc,variant=one_cam,crf=cells").hide_and_seek.crf == "none"
    assert file.get_config("voc,variant=crf,crf=cells").hide_and_seek.crf == "cells"
    assert "hide_and_seek.variant" in file.get_config().early


@pytest.mark.parametrize("dataset", ["cub", "ilsvrc", "folder", "voc", "embedded"])
@pytest.mark.parametrize(
    ("backbone", "last"),
    [
        *(("vgg16", "conv5_3"), ("inception_v3", "Mixed_6e"), ("mobilenet_v2", "block_16")),
        *(("resnet50", "conv5_block3"), ("resnet101", "conv5_block3")),
    ],
)
def test_the_foreground_is_a_layer_of_every_backbone(dataset, backbone, last):
    own = file.get_config(f"{dataset},backbone={backbone}").hide_and_seek
    assert own.conv5 == ("conv4_1" if (dataset, backbone) == ("embedded", "vgg16") else last)
