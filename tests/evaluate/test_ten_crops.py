"""Class scores of ten crops, against a loop over the crops in NumPy."""

import io
import types

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

from configs import common
from wsol_jax.base import sharding
from wsol_jax.data.records import Record
from wsol_jax.evaluate.boxes import Boxes
from wsol_jax.evaluate.kind import QUICK, Task
from wsol_jax.evaluate.localize import localize_list
from wsol_jax.evaluate.score import score_list
from wsol_jax.methods import Localization
from wsol_jax.runs.opened import Network

SIZE, LARGE, COUNT = 16, 20, 6


class Photos:
    """Photos of noise at the size that the crops are cut from."""

    name, class_names = "photos", ("a", "b", "c")

    def __len__(self):
        return COUNT

    def pixels(self, index):
        return np.random.default_rng(index).integers(0, 256, (LARGE, LARGE, 3), dtype=np.uint8)

    def __getitem__(self, index):
        buffer = io.BytesIO()
        Image.fromarray(self.pixels(index)).save(buffer, "PNG")
        box = np.array([[1, 1, 9, 9]], np.float32)
        return Record(
            f"id{index}", buffer.getvalue(), (0,), (LARGE, LARGE), box, np.zeros(1, np.int32)
        )

    def mask(self, index):
        return None


def logits(images):
    """Three numbers that change with the corner that is cut and with its mirror image."""
    images = images.astype(np.float32) / 40
    return images[:, 3, 2, :] + images[:, 11, 13, ::-1]


def localize(variables, images):
    del variables
    return Localization(logits(images), images.astype(jnp.float32))


def network(devices, ten_crop=True):
    config = ml_collections.ConfigDict(common.base())
    config.data.crop, config.data.resize, config.data.threads = SIZE, LARGE, 2
    config.data.multi_label = False
    config.eval.batch_size, config.eval.ten_crop = 4, ten_crop
    method = types.SimpleNamespace(localize=localize)
    return Network(config, method, {}, sharding.data_mesh(devices))


def softmax(rows):
    rows = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return rows / rows.sum(axis=-1, keepdims=True)


def expected(index):
    """Four corners and the centre, each as it is and mirrored: the mean of their softmaxes."""
    image, rest = Photos().pixels(index), LARGE - SIZE
    places = [(0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2)]
    cut = [image[y : y + SIZE, x : x + SIZE] for y, x in places]
    each = [softmax(logits(crop[None])[0]) for one in cut for crop in (one, np.fliplr(one))]
    return np.mean(each, axis=0)


@pytest.mark.parametrize("devices", [1, 4])
def test_scores_are_the_mean_over_ten_crops(devices):
    found = [image.probabilities for image in localize_list(network(devices), Photos())]
    np.testing.assert_allclose(found, [expected(i) for i in range(COUNT)], rtol=1e-5)
    plain = [i.probabilities for i in localize_list(network(devices, False), Photos())]
    assert np.abs(np.subtract(found, plain)).max() > 0.1
    skipped = [i.probabilities for i in localize_list(network(devices), Photos(), crops=False)]
    np.testing.assert_array_equal(skipped, plain)


def test_the_pass_that_a_training_watches_takes_the_photos_as_they_are():
    scores = {}
    for name, one, task in (
        ("full", network(1), Task()),
        ("watched", network(1), QUICK),
        ("plain", network(1, False), Task()),
    ):
        results = score_list(one, Photos(), Boxes(one.config), task)
        scores[name] = results.confidence.rows().tolist()
    assert scores["watched"] == scores["plain"] != scores["full"]
    np.testing.assert_allclose(scores["full"], [expected(i).max() for i in range(COUNT)], 1e-5)
