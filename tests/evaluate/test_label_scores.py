"""Labels scored against masks, by a loop over the pixels."""

import numpy as np
import pytest
from helpers.labels import write_labels

from wsol_jax.base.errors import UserError
from wsol_jax.data.label_formats import cells, mask, soft_maps
from wsol_jax.data.pseudo_labels import LabelFolder
from wsol_jax.data.records import Record
from wsol_jax.evaluate.label_scores import check_classes, photo_iou, score_labels

RNG = np.random.default_rng(0)


class Masked:
    """Photos of several sizes: the third has no mask, the fourth no labels."""

    name, class_names = "train", ("a", "b", "c")
    sizes = [(9, 7), (12, 20), (8, 8), (5, 5)]

    def __init__(self, any_mask=True):
        values = [0, 1, 2, 255]  # c is nowhere
        self.masks = [RNG.choice(values, size=x).astype(np.uint8) for x in self.sizes]
        self.any_mask = any_mask

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return Record(f"id{index}", b"", (0,))

    def mask(self, index):
        return self.masks[index] if self.any_mask and index != 2 else None


def by_hand(source, folder, product, classes):
    hits, missed, labelled, right, total = np.zeros((4, 4)), np.zeros(4), 0, 0, 0
    for index in (0, 1):
        truth, found = source.mask(index), folder.read(f"id{index}", product)
        for y, x in np.ndindex(*truth.shape):
            if truth[y, x] == 255:
                continue
            total += 1
            row = int((y + 0.5) / truth.shape[0] * found.shape[0])
            said = found[row, int((x + 0.5) / truth.shape[1] * found.shape[1])]
            if said == 255:
                missed[truth[y, x]] += 1
                continue
            labelled += 1
            right += said == truth[y, x]
            hits[truth[y, x], said] += 1
    union = hits.sum(axis=0) + hits.sum(axis=1) + missed - np.diag(hits)
    ious = [hits[c, c] / union[c] for c in classes if union[c]]
    return {
        "images": 2,
        "miou": pytest.approx(np.mean(ious)),
        "labelled": pytest.approx(labelled / total),
        "accuracy": pytest.approx(right / labelled),
    }


@pytest.fixture
def several(tmp_path):
    source = Masked()
    folder = LabelFolder(tmp_path, {"small": cells(4), "mask": mask(), "soft": soft_maps()})
    for index in range(3):
        write_labels(
            folder,
            f"id{index}",
            {
                "small": RNG.choice([0, 1, 2, 255], size=(4, 4)).astype(np.uint8),
                "mask": RNG.choice([0, 1, 2, 3, 255], size=source.sizes[index]).astype(np.uint8),
                "soft": np.zeros((2, 2, 1), np.float16),
            },
        )
    return source, folder


def test_scores_are_a_loops(several):
    source, folder = several
    found = score_labels(folder, source)
    assert set(found) == {"small", "mask"}
    for product, figures in found.items():
        assert figures == by_hand(source, folder, product, range(4))


def test_the_mean_may_be_of_some_classes(several):
    source, folder = several
    found = score_labels(folder, source, ("b",))
    assert found["mask"] == by_hand(source, folder, "mask", (0, 2))


def test_one_product_needs_no_name(tmp_path):
    source, folder = Masked(), LabelFolder(tmp_path, {"cues": cells(3)})
    for index in range(3):
        write_labels(folder, f"id{index}", {"cues": np.full((3, 3), 255 * (index > 0), np.uint8)})
    found = score_labels(folder, source)
    assert found["images"] == 2 and 0 < found["labelled"] < 1
    assert score_labels(LabelFolder(tmp_path, {"soft": soft_maps()}), source) == {}


def test_without_masks_nothing_is_known(tmp_path):
    folder = LabelFolder(tmp_path, {"cues": cells(3)})
    write_labels(folder, "id0", {"cues": np.zeros((3, 3), np.uint8)})
    found = score_labels(folder, Masked(any_mask=False))
    assert found == {"images": 0, "miou": None, "labelled": None, "accuracy": None}


def test_too_many_classes_are_refused():
    check_classes(253)
    with pytest.raises(UserError, match=r"eval\.labels: scores 253 classes at most, not 254"):
        check_classes(254)


def test_the_iou_of_one_photo_is_that_of_a_loop():
    """Over the classes in the truth or in the labels; no label is missed, no truth counts."""
    rng = np.random.default_rng(5)
    truth = rng.choice(np.uint8([0, 1, 2, 255]), (12, 16))
    labels = rng.choice(np.uint8([0, 1, 4, 255]), (6, 4))
    found, ious = np.repeat(np.repeat(labels, 2, 0), 4, 1), []
    for c in range(6):
        hit = union = 0
        for y in range(12):
            for x in range(16):
                if truth[y, x] != 255:
                    hit += truth[y, x] == c == found[y, x]
                    union += c in (truth[y, x], found[y, x])
        ious += [hit / union] if union else []
    assert photo_iou(labels, truth, 5) == pytest.approx(np.mean(ious))
    assert photo_iou(labels, np.full((12, 16), 255, np.uint8), 5) is None
    assert photo_iou(labels, truth, 254) is None
