"""What of a run's training list a page shows beside its test lists; the pictures of a loss."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.photos import Photos

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.label_formats import cells
from wsol_jax.data.pseudo_labels import LabelFolder, summary_path
from wsol_jax.evaluate.segments import segment_card
from wsol_jax.methods import Aux, Classes
from wsol_jax.report import collect
from wsol_jax.report.colours import class_colours


class Scenes:
    name, class_names = "train", ("a", "b")

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return types.SimpleNamespace(image_id=f"id{index}")


@pytest.fixture
def run():
    config = types.SimpleNamespace(
        labels="cues=seeds", eval=types.SimpleNamespace(gallery=9), data=None
    )
    return types.SimpleNamespace(config=config, lists=types.SimpleNamespace(train=Scenes()))


def test_labels_beside_the_run_are_shown(run, tmp_path):
    labels = np.array([[0, 2], [1, UNLABELLED]], np.uint8)
    place = LabelFolder(tmp_path / "seeds", {"cues": cells(2)})
    for index in range(9):
        for path, content in place.encode(f"id{index}", {"cues": labels}):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    (tmp_path / "seeds" / "seeds.json").write_text(
        '{"sha256": "", "products": {"cues": {"kind": "cells", "size": 2}}}'
    )
    cards = collect._label_cards(run, tmp_path)
    assert len(cards) == 3 and {card.split for card in cards} == {"train: seeds"}
    assert cards[0].predicted == ("a", "b") and cards[0].iou is None
    np.testing.assert_array_equal(cards[0].layers["labels"], labels)
    np.testing.assert_array_equal(cards[0].score_map, labels != UNLABELLED)


def test_a_stages_own_folder_has_no_labels_beside_it(run, tmp_path):
    """As with --mode=evaluate on WORKDIR/STAGE: the labels lie a folder above."""
    assert not summary_path(tmp_path / "seeds").exists()
    assert collect._label_cards(run, tmp_path) == []


SIDE = 8
NAMES = ("mask", "CAM", "grey", "seeds")  # in no order of the alphabet


def loss(variables, batch, rng, step):
    """Pictures of every kind; the mask has background, the image's class and no class."""
    images = batch["image"]
    label = jnp.argmax(batch["labels"], axis=-1).astype(jnp.uint8)
    mask = jnp.zeros(images.shape[:3], jnp.uint8).at[:, :, 4:].set(1 + label[:, None, None])
    mask = mask.at[:, 6:].set(UNLABELLED)
    heat = jnp.broadcast_to(jnp.linspace(0, 1, 4), (len(images), 4, 4))
    pictures = (Classes(mask), heat, images.at[:, :4].set(128), mask)
    return jnp.zeros(()), Aux({}, {}, dict(zip(NAMES, pictures, strict=True)))


@pytest.fixture
def pictures():
    """Of five photos, in batches of two."""
    config = types.SimpleNamespace(
        data=types.SimpleNamespace(crop=SIDE), train=types.SimpleNamespace(batch_size=2)
    )
    method = types.SimpleNamespace(loss=loss, wants={})
    run = types.SimpleNamespace(config=config, method=method, variables={})
    return collect.guidance_pictures(run, Photos(), range(5))


def test_the_pictures_of_a_loss_are_the_images_own_and_in_its_order(pictures):
    assert len(pictures) == 5
    for index, found in enumerate(pictures):
        assert tuple(found) == NAMES
        assert isinstance(found["mask"], Classes) and found["mask"].labels.shape == (SIDE, SIDE)
        assert set(np.unique(found["mask"].labels)) == {0, 1 + index % 3, UNLABELLED}
        assert found["CAM"].shape == (4, 4) and found["seeds"].shape == (SIDE, SIDE)
        assert (found["grey"][:4] == 128).all() and (found["grey"][4:] == 10 * index + 5).all()


def test_classes_are_painted_over_the_photo_as_segmentations_are(pictures):
    """Three fifths of the class's VOC colour over the grey photo, at the photo's size."""
    source, index = Photos(), 4
    truth = np.full((20, 24), 1, np.uint8)
    card = segment_card(source, index, {"truth": truth}, np.zeros((2, 2)), 0.5, "val")
    found = collect._example(source, card, pictures[index]).pictures
    assert tuple(found) == ("truth", *NAMES)
    photo = 10 * index + 5
    mixed = lambda label: np.rint(0.4 * photo + 0.6 * class_colours()[label])
    assert found["mask"].shape == found["truth"].shape == (20, 24, 3)
    np.testing.assert_array_equal(found["truth"][0, 0], mixed(1))
    np.testing.assert_array_equal(found["mask"][0, 0], mixed(0))
    np.testing.assert_array_equal(found["mask"][0, -1], mixed(2))
    assert len(np.unique(found["mask"][-1, 0])) == 1  # no class, no colour
    for name in NAMES[1:]:  # the page gives maps and seed masks their colours
        np.testing.assert_array_equal(found[name], pictures[index][name])
