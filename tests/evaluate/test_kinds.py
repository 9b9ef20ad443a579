"""The choice of a kind, and a segmenter whose parts are class maps and another segmentation."""

import dataclasses
import io
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

from configs import common, segmentation
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Record
from wsol_jax.evaluate import figures, kinds
from wsol_jax.evaluate.box_scores import BoxScores
from wsol_jax.evaluate.kind import Task
from wsol_jax.evaluate.multi_label_scores import MultiLabelScores
from wsol_jax.evaluate.run import evaluate_run
from wsol_jax.evaluate.score import score_list
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.evaluate.stored.summary import METRICS
from wsol_jax.methods import Localization, Segmentation
from wsol_jax.metrics.maps import MAP_SIZE
from wsol_jax.runs.opened import Network, OpenedRun

SIDE = 32
NAMES = ("a", "b")


class Scenes:
    """Six photos with a red rectangle of class 0 or 1; the green channel says which."""

    class_names = NAMES

    def __init__(self, name="scenes"):
        self.name = name

    def __len__(self):
        return 6

    def box(self, index):
        return (4 + index, 6, 20 + index, 24)

    def __getitem__(self, index):
        x0, y0, x1, y1 = self.box(index)
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[y0 : y1 + 1, x0 : x1 + 1, 0] = 255
        pixels[..., 1] = 200 * (index % 2)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return Record(
            f"id{index}",
            buffer.getvalue(),
            (index % 2,),
            (SIDE, SIDE),
            np.array([self.box(index)], np.float32),
            np.array([index % 2], np.int32),
        )

    def mask(self, index):
        x0, y0, x1, y1 = self.box(index)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[y0 : y1 + 1, x0 : x1 + 1] = 1 + index % 2
        return mask


class Boxless(Scenes):
    """The same photos, and nobody knows where their objects are."""

    def __getitem__(self, index):
        nothing = {"boxes": np.zeros((0, 4), np.float32), "box_labels": np.zeros(0, np.int32)}
        return dataclasses.replace(super().__getitem__(index), **nothing)


def config(multi_label=True):
    c = ml_collections.ConfigDict(common.base())
    segmentation.sections(c)
    c.data.crop = c.data.resize = SIDE
    c.data.multi_label, c.data.threads = multi_label, 2
    c.eval.batch_size, c.eval.crf.iterations, c.eval.gallery = 3, 2, 4
    return c


def network(localize, multi_label=True):
    method = types.SimpleNamespace(localize=localize)
    return Network(config(multi_label), method, {}, sharding.data_mesh(1))


def seen(images):
    """What tells the classes, and a map of each that is bright on its rectangle."""
    label = (images[:, 0, 0, 1] > 100).astype(jnp.int32)
    red = images[..., 0].astype(jnp.float32) / 255
    return jax.nn.one_hot(label, 2) * 9, red[..., None] * jax.nn.one_hot(label, 2)[:, None, None]


def class_maps(variables, images):
    return Localization(*seen(images))


def segmenter(variables, images):
    """A segmentation, the class maps behind it, and a coarser segmentation that is half wrong."""
    logits, maps = seen(images)
    half = maps.at[:, :, : SIDE // 2].set(0)
    parts = {"coarse": Segmentation(0.9 * half), "maps": maps}
    return Localization(logits, Segmentation(0.9 * maps), parts)


@pytest.mark.parametrize(
    "localize, multi_label, name, results",
    [
        (class_maps, False, "boxes", BoxScores),
        (class_maps, True, "several labels", MultiLabelScores),
        (segmenter, True, "segments", SegmentationScores),
        (segmenter, False, "segments", SegmentationScores),
    ],
)
def test_what_a_network_gives_says_how_it_is_measured(localize, multi_label, name, results):
    kind = kinds.of(network(localize, multi_label))
    assert (kind.name, kind.results) == (name, results)
    names = {part: own.name for part, own in kind.parts.items()}
    behind = "several labels" if multi_label else "boxes"
    expected = {"coarse": "segments", "maps": behind} if localize is segmenter else {}
    assert names == expected


@pytest.mark.parametrize("multi_label", [True, False])
def test_parts_of_a_segmenter_are_scored_like_any_others(multi_label):
    """The part that is class maps equals those maps scored as a whole of their own."""
    whole, alone = network(segmenter, multi_label), network(class_maps, multi_label)
    task = Task(thresholds={"": 0.4, "maps": 0.4})
    found = score_list(whole, Scenes(), kinds.of(whole), task)
    assert set(found.parts) == {"before_crf", "coarse", "maps"}
    expected = score_list(alone, Scenes(), kinds.of(alone), task)
    assert found.parts["maps"].figures(0.4) == expected.figures(0.4)
    # .9 in the rectangle and .1 of background: the segmentation is right but for its CRF.
    assert found.parts["before_crf"].figures()["miou"] == 1
    right = [Scenes().mask(i) for i in range(6)]
    coarse = [np.where(np.arange(SIDE) < SIDE // 2, 0, mask) for mask in right]
    accuracy = np.mean([r == c for r, c in zip(right, coarse, strict=True)])
    assert found.parts["coarse"].figures()["pixel_accuracy"] == pytest.approx(accuracy)


def test_a_segmenters_run_has_the_figures_of_its_parts(tmp_path):
    """Each part has its threshold, its figures on both lists, and a file of rows."""
    one = network(segmenter)
    lists = Lists(train=Scenes("train"), tune=Scenes("tune"), tests={"test": Scenes("test")})
    run = OpenedRun(one.config, one.method, one.variables, one.mesh, lists, 7)
    found, scored, kind = evaluate_run(run, tmp_path)
    assert found["kind"] == kind.name == "segments" and found["whole"] == "with CRF"
    assert set(found["parts"]) == {"before_crf", "coarse", "maps"}
    assert "tune" not in found  # its CRF takes long: the tune list is scored before it
    for name, key in (("before_crf", "miou"), ("coarse", "miou"), ("maps", "detection_map")):
        part = found["parts"][name]
        assert part["tune"]["tune"][key] == part["test"]["test"][key] is not None
        loaded = kinds.load(tmp_path / "scores" / name / "test.npz")
        assert type(loaded) is type(scored["test"].parts[name])
        assert loaded.figures(part["threshold"]) == part["test"]["test"]
    # A box of a region's every pixel is the rectangle itself; all lie near the middle.
    maps = found["parts"]["maps"]["test"]["test"]
    assert maps["detection_map"] == maps["central_detection_map"] == 1
    assert "central_detection_map" not in found["test"]["test"]


def test_a_threshold_says_which_images_chose_it(tmp_path):
    """Where the tune list is part of the training list, or of one that is scored."""
    one = network(class_maps, multi_label=False)
    train, tune, test = map(Scenes, ("train", "tune", "test"))
    train.image_ids, test.image_ids = ["other"], ["id1", "id3", "other"]
    tune.image_ids = [f"id{i}" for i in range(6)]
    run = OpenedRun(
        one.config, one.method, one.variables, one.mesh, Lists(train, tune, {"test": test}), 7
    )
    found, _, _ = evaluate_run(run, tmp_path)
    where = "tune (2 of its 6 images are in test too)"
    assert found["threshold_from"] == f"highest GT-known accuracy on {where}"
    one.config.eval.threshold = 0.25
    found, _, _ = evaluate_run(run, tmp_path)
    assert (found["threshold"], found["threshold_from"]) == (0.25, "eval.threshold")


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("localize", [class_maps, segmenter])
def test_class_maps_have_a_fixed_box_to_beat_as_a_whole_and_as_a_part(localize, multi_label):
    kind = kinds.of(network(localize, multi_label))
    boxed, bare = (
        types.SimpleNamespace(lists=types.SimpleNamespace(train=train))
        for train in (Scenes(), Boxless())
    )
    x0, y0, x1, y1 = kind.test_task(boxed, {}).central * SIDE / MAP_SIZE
    # Those of the photos are 17 wide and 19 high.
    assert 13 < x1 - x0 < 21 and 15 < y1 - y0 < 23 and x0 + x1 == pytest.approx(SIDE, abs=1)
    assert kind.test_task(bare, {}).central is None


def test_another_classifiers_scores_are_checked_before_training(tmp_path):
    lists = types.SimpleNamespace(tune=None, tests={"test": Scenes("test")})
    for localize, multi_label in ((class_maps, True), (segmenter, False)):
        one = network(localize, multi_label)
        kinds.of(one).check(lists)
        one.config.eval.class_scores = str(tmp_path / "p.npz")
        with pytest.raises(UserError, match=r"eval\.class_scores: not for a run that is measured"):
            kinds.of(one).check(lists)
    one = network(class_maps, False)
    one.config.eval.class_scores = str(tmp_path / "p.npz")
    with pytest.raises(UserError, match=r"class_scores=.*p\.npz"):
        kinds.of(one).check(lists)
    probabilities = np.full((6, 2), 0.5)
    np.savez(
        tmp_path / "p.npz", image_ids=[f"id{i}" for i in range(6)], probabilities=probabilities
    )
    kinds.of(one).check(lists)


def test_a_file_of_no_kind_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", other=np.zeros(3))
    with pytest.raises(UserError, match="of any kind"):
        kinds.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"eval.best_metric": "psap"}, r"eval\.best_metric: 'psap' is not one of 'miou'"),
        ({"eval.checkpoint": "last"}, r"eval\.checkpoint: 'last' is not one of"),
        ({"eval.mean_classes": ("c",)}, r"eval\.mean_classes: 'c' is not one of"),
        ({"eval.view": "centre"}, r"eval\.view: 'centre' is not one of 'whole', 'center'"),
    ],
)
def test_options_of_every_kind_are_checked(changes, sentence):
    made = config()
    kinds.check_options(made, NAMES)
    made.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        kinds.check_options(made, NAMES)


# ---------------------------------------------------------------- the table of figures


def test_the_table_names_each_figure_once_and_its_baseline_too():
    keys = [figure.key for figure in figures.FIGURES]
    assert len(set(keys)) == len(keys)
    for figure in figures.FIGURES:
        against = figures.by_key(figure.against) if figure.against else None
        assert against is None or against.baseline, figure.key
        assert not figure.against or against is not None, figure.key
    assert set(METRICS) <= set(keys)  # of the command on stored maps
    assert figures.unknown([*keys, "zeta", "eta"]) == ["eta", "zeta"]


def test_the_best_checkpoint_is_chosen_by_the_wanted_figure_or_what_there_is():
    known = {"top1_acc": 0.5, "max_box_acc": 0.3, "pxap": 0.2}
    assert figures.best_value(known, "pxap") == 0.2
    assert figures.best_value(known, "saliency_ap") == 0.3  # boxes before classes
    assert figures.best_value({"class_map": 0.7, "saliency_ap": 0.6}, "pxap") == 0.6
    assert figures.best_value({"miou": 0.4, "pixel_accuracy": 0.9}, "pxap") == 0.4
    assert figures.best_value({"pixel_accuracy": 0.9}, "pxap") is None
    assert figures.watched({"pxap": None, "top1_acc": 0.5, "images": 3}) == {"top1_acc": 0.5}
