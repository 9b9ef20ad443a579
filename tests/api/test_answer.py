"""What is in a photo, from what a network says of it: made-up maps whose answer is known."""

import ml_collections
import numpy as np
import pytest

from wsol_jax.api.answer import Wanted, answer, wanted
from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Record
from wsol_jax.evaluate.localize import LocalizedImage

NAMES = ("cat", "dog", "cow")
SIZE = (80, 40)  # width, height
CRF = ml_collections.ConfigDict(
    {"bilateral": (0.0, 10.0, 10.0), "spatial": (0.0, 3.0), "iterations": 0, "clip": 1e-5}
)


def said(probabilities, maps, segmented=False):
    probabilities = np.array(probabilities, np.float32)
    ranked = np.argsort(-probabilities, kind="stable")
    picked = np.moveaxis(maps[..., ranked], -1, 0)
    return LocalizedImage(0, probabilities, ranked, picked, picked[0], SIZE, maps, segmented)


def photo():
    return Record("p.jpg", np.full((*SIZE[::-1], 3), 90, np.uint8), (0,))


@pytest.fixture
def maps():
    """(8, 8, 3): the cat on the left half, the dog in the lower right quarter, no cow."""
    maps = np.zeros((8, 8, 3), np.float32)
    maps[:, :4, 0] = 1.0
    maps[4:, 4:, 1] = 1.0
    return maps


def look(image, **options):
    return answer(image, photo(), NAMES, Wanted(0.5, **options), CRF)


def near(box, expected, cells=1.0):
    """Whether edges agree to a share of a cell of the network's map."""
    return np.abs(np.array(box) - expected).max() <= cells * SIZE[0] / 8 / 2


def test_the_likeliest_class_alone(maps):
    result = look(said([0.3, 0.6, 0.1], maps))
    assert (result.label, result.labels, result.box_labels) == ("dog", ("dog",), ("dog",))
    assert result.score == pytest.approx(0.6)
    assert list(result.scores) == ["dog", "cat", "cow"]
    assert near(result.boxes[0], (40, 20, 80, 40))
    assert result.heatmap.shape == result.mask.shape == SIZE[::-1]
    inside = result.mask == 2
    assert inside[30, 60] and not inside[10, 60] and set(np.unique(result.mask)) == {0, 2}


def test_several_classes_above_their_score(maps):
    result = look(said([0.8, 0.6, 0.1], maps), several=True, min_score=0.5)
    assert result.labels == ("cat", "dog") and result.box_labels == ("cat", "dog")
    assert near(result.boxes[0], (0, 0, 40, 40)) and near(result.boxes[1], (40, 20, 80, 40))
    assert result.mask[20, 10] == 1 and result.mask[30, 60] == 2 and result.mask[5, 60] == 0
    np.testing.assert_allclose(result.box_scores, [0.8, 0.6])


def test_no_class_reaches_the_score(maps):
    for several in (True, False):
        result = look(said([0.3, 0.4, 0.1], maps), several=several, min_score=0.5)
        assert result.label == "dog" and result.labels == ()
        assert result.boxes.shape == (0, 4) and not result.mask.any()
        assert result.to_coco()["annotations"] == []


def test_named_classes_are_the_only_ones(maps):
    result = look(said([0.3, 0.6, 0.1], maps), classes=(0, 2))
    assert result.label == "cat" and near(result.boxes[0], (0, 0, 40, 40))
    result = look(said([0.9, 0.6, 0.8], maps), several=True, classes=(1,))
    assert result.labels == ("dog",)


def test_all_boxes_of_a_class(maps):
    maps[0:2, 6:8, 0] = 1.0
    one, both = (look(said([0.9, 0.1, 0], maps), boxes=b) for b in ("largest", "all"))
    assert len(one.boxes) == 1 and len(both.boxes) == 2
    np.testing.assert_array_equal(one.boxes[0], both.boxes[0])
    assert near(both.boxes[1], (60, 0, 80, 10))
    assert both.box_mask(1).sum() < both.box_mask(0).sum()


def test_a_flat_map_gives_no_box(maps):
    result = look(said([0, 0, 1], maps))
    assert result.label == "cow" and len(result.boxes) == 0 and not result.mask.any()


def test_a_segmenters_boxes_are_those_of_its_mask(maps):
    image = said([0.9, 0.8, 0.1], 0.9 * maps, segmented=True)
    result = look(image, several=True)
    assert result.labels == ("cat", "dog")
    assert near(result.boxes[1], (40, 20, 80, 40))
    assert result.mask[20, 10] == 1 and result.mask[30, 60] == 2 and result.mask[5, 60] == 0


def test_a_segmenters_empty_mask_gives_no_box(maps):
    result = look(said([0.9, 0.8, 0.1], 0.2 * maps, segmented=True))  # background has 0.8
    assert result.label == "cat" and not result.mask.any()
    assert len(result.boxes) == 0 and result.to_coco()["annotations"] == []


def test_coco_has_the_masks_area_and_the_photos_pixels(maps):
    result = look(said([0.3, 0.6, 0.1], maps))
    content = result.to_coco()
    (entry,), (image,) = content["annotations"], content["images"]
    assert (image["width"], image["height"], image["file_name"]) == (*SIZE, "p.jpg")
    assert entry["area"] == (result.mask == 2).sum() and entry["category_id"] == 2
    assert entry["segmentation"]["size"] == list(SIZE[::-1])
    assert [c["name"] for c in content["categories"]] == list(NAMES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"boxes": "some"}, "boxes"),
        ({"min_score": 2}, "min_score"),
        ({"classes": ["horse"]}, "'horse'"),
    ],
)
def test_bad_wishes_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        wanted(NAMES, False, **{"threshold": 0.2, **options})


def test_a_single_name_is_no_list_of_letters():
    assert wanted(NAMES, False, 0.2, classes="cow").classes == (2,)


def test_a_notebook_shows_the_photo_and_no_foreign_html(maps):
    result = answer(
        said([0.3, 0.6, 0.1], maps), photo(), ("cat", "<b>dog</b>", "cow"), Wanted(0.5), CRF
    )
    page = result._repr_html_()
    assert "data:image/jpeg;base64," in page and "<b>dog" not in page and "&lt;b&gt;dog" in page
    assert "1 box" in repr(result) and "80x40" in repr(result)


def test_more_classes_than_a_byte_names():
    names = tuple(f"c{i}" for i in range(300))
    probabilities, maps = np.zeros(300, np.float32), np.zeros((8, 8, 300), np.float32)
    probabilities[299], maps[:, :4, 299] = 1.0, 1.0
    result = answer(said(probabilities, maps), photo(), names, Wanted(0.5), CRF)
    assert result.mask.dtype == np.uint16 and result.mask.max() == 300
    assert result.to_coco()["annotations"][0]["category_id"] == 300


def test_what_is_found_is_nobodys_to_change(maps):
    result = look(said([0.3, 0.6, 0.1], maps))
    for array in (result.mask, result.boxes):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
