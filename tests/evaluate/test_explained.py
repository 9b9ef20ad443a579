"""Explanations scored in place of class maps: which maps, of which classes, and what is refused."""

import dataclasses
import functools
import io

import cv2
import ml_collections
import numpy as np
import pytest
from helpers.networks import SIDE, made
from PIL import Image

from configs import common
from wsol_jax import explain
from wsol_jax.base import sharding
from wsol_jax.base.errors import UserError
from wsol_jax.data.lists import Lists
from wsol_jax.data.records import Record
from wsol_jax.evaluate import kinds, localize
from wsol_jax.evaluate.localize import localize_list
from wsol_jax.evaluate.run import evaluate_run
from wsol_jax.methods import Segmentation
from wsol_jax.runs.opened import Network, OpenedRun

NAMES = ("a", "b", "c", "d", "e")


class Photos:
    """Five photos of noise, of one class each, a box in each."""

    class_names, name = NAMES, "photos"

    def __len__(self):
        return 5

    def pixels(self, index):
        return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    def __getitem__(self, index):
        buffer = io.BytesIO()
        Image.fromarray(self.pixels(index)).save(buffer, "PNG")
        boxes, labels = np.array([[4, 4, 20, 20]], np.float32), np.array([index], np.int32)
        content = buffer.getvalue()
        return Record(f"id{index}", content, (index,), (SIDE, SIDE), boxes, labels)

    def mask(self, index):
        return None


tiny = functools.cache(made)


def network(file="cam", multi_label=False, **changes):
    config = ml_collections.ConfigDict(common.base())
    config.data.crop = config.data.resize = SIDE
    config.data.multi_label, config.data.threads = multi_label, 2
    config.eval.batch_size, config.eval.gallery = 3, 2
    config.eval.explain = "grad_cam"
    config.update_from_flattened_dict(changes)
    method, variables = tiny(file)
    return Network(config, method, variables, sharding.data_mesh(1))


def test_maps_of_the_likeliest_classes_and_of_the_true_one():
    one, source = network(), Photos()
    for index, image in enumerate(localize_list(one, source)):
        photo = source.pixels(index)[None]
        asked = [*image.ranked, index]
        expected = [explain.maps(one, photo, int(c), "grad_cam")[0] for c in asked]
        found = [*image.class_maps, image.true_map]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert image.index == index and not image.parts


def test_the_devices_have_begun_with_a_batch_when_the_one_before_it_is_handed_out(monkeypatch):
    """Else they would stand still while threads score, and the threads while they look."""
    batches = []
    began = localize._localize
    note = lambda *args: batches.append(len(args[-2]["image"])) or began(*args)
    monkeypatch.setattr(localize, "_localize", note)
    seen = []
    for image in localize_list(network(), Photos()):
        seen.append((image.index, len(batches)))
    assert seen == [(0, 2), (1, 2), (2, 2), (3, 2), (4, 2)]  # two batches, of three and of two
    stopped = localize_list(network(), Photos(), stop=lambda: True)
    assert list(stopped) == [] and len(batches) == 3


def test_a_network_that_is_shown_the_middle_of_a_photo():
    """Enlarged by half, as the training's photos are before its crops, and cut out by slices."""
    shown = {"eval.explain": "", "eval.view": "center", "data.resize": SIDE * 3 // 2}
    one, source = network(**shown), Photos()
    for index, image in enumerate(localize_list(one, source)):
        large = cv2.resize(source.pixels(index), (SIDE * 3 // 2, SIDE * 3 // 2))
        middle = large[SIDE // 4 : SIDE * 5 // 4, SIDE // 4 : SIDE * 5 // 4]
        found = one.method.localize(one.variables, middle[None])
        np.testing.assert_allclose(image.true_map, found.maps[0, :, :, index], rtol=1e-4, atol=1e-6)


def test_maps_of_all_classes_where_an_image_may_have_several():
    one, source = network(multi_label=True), Photos()
    image = next(iter(localize_list(one, source, every_map=True)))
    photo = source.pixels(0)[None]
    expected = [explain.maps(one, photo, c, "grad_cam")[0] for c in range(len(NAMES))]
    np.testing.assert_allclose(image.maps, np.moveaxis(expected, 0, -1), rtol=1e-4, atol=1e-6)


def test_the_class_scores_stay():
    source = Photos()
    found = [
        [image.probabilities for image in localize_list(network(**change), source)]
        for change in ({}, {"eval.explain": ""})
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


@pytest.mark.slow
def test_a_runs_figures_say_what_they_are_of(tmp_path):
    one, source = network(**{"eval.explain_layer": "conv2_2"}), Photos()
    lists = Lists(train=source, tune=source, tests={"test": source})
    run = OpenedRun(*(getattr(one, f.name) for f in dataclasses.fields(one)), lists, 1)
    figures = evaluate_run(run, tmp_path).figures
    assert figures["explain"] == {"name": "grad_cam", "layer": "conv2_2"}
    assert figures["test"]["test"]["gt_known_loc"] is not None


def test_parts_are_not_explained(tmp_path):
    one = network("cams2i")
    assert not kinds.of(one).parts
    assert kinds.of(network("cams2i", **{"eval.explain": ""})).parts
    assert kinds.of(network("cams2i", **{"eval.explain": "cam"})).parts


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"eval.explain_layer": "conv9"}, r"eval\.explain: the network has 0 layers named 'conv9'"),
        ({"eval.explain": "cam", "eval.explain_layer": "x"}, r"eval\.explain: cam is the method's"),
    ],
)
def test_a_layer_that_is_none_is_refused_before_training(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        kinds.of(network(**changes))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"eval.explain": "gradcam"}, r"eval\.explain: 'gradcam' is not one of cam, grad_cam"),
        (
            {"eval.explain": "", "eval.explain_layer": "x"},
            r"explain_layer: goes with eval\.explain",
        ),
    ],
)
def test_options_are_checked_before_training(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        kinds.check_options(network(**changes).config, NAMES)


def test_a_segmentation_and_a_method_without_a_tap_are_refused():
    one = network()
    method = dataclasses.replace(one.method, tap=None)
    with pytest.raises(UserError, match=r"eval\.explain: this run's method gives no features"):
        kinds.of(dataclasses.replace(one, method=method))

    def segmented(variables, images):
        found = one.method.localize(variables, images)
        return found._replace(maps=Segmentation(found.maps))

    method = dataclasses.replace(one.method, localize=segmented)
    with pytest.raises(UserError, match=r"eval\.explain: this run is measured by its segmentation"):
        kinds.of(dataclasses.replace(one, method=method))
