"""What of a run's training list a page shows beside its test lists."""

import types

import numpy as np
import pytest

from wsol_jax.base.labels import UNLABELLED
from wsol_jax.data.label_formats import cells
from wsol_jax.data.pseudo_labels import LabelFolder, summary_path
from wsol_jax.report import collect


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
