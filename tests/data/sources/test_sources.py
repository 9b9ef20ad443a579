"""A data set is its file and a row: this file is one, and the row stands in a test."""

import subprocess
import sys

import numpy as np
import pytest

from configs import cam, common
from wsol_jax.base.errors import UserError
from wsol_jax.data import sources
from wsol_jax.data.lists import open_lists, open_present
from wsol_jax.data.records import Record


class Dots:
    """As many records as the list's name says."""

    class_names = ("dot", "dash")

    def __init__(self, name):
        self.name = name

    def __len__(self):
        return int(self.name)

    def __getitem__(self, index):
        return Record(f"{self.name}/{index}", b"", (index % 2,))

    def mask(self, index):
        return np.zeros((2, 2), np.uint8)


def opener(data, fetch):
    if not fetch:
        raise UserError("the dots are not drawn.")
    return Dots


@pytest.fixture
def dots(monkeypatch):
    row = sources.DataSet(__name__, "8", "2", "4", 2, needs_root=False)
    monkeypatch.setitem(sources.DATASETS, "dots", row)


def test_a_new_data_set_opens_by_config_alone(dots):
    config = cam.get_config("dots,weights=none")
    lists = open_lists(config.data)
    assert (len(lists.train), len(lists.tune), list(lists.tests)) == (8, 2, ["4"])
    assert lists.class_names == ("dot", "dash")
    with pytest.raises(UserError, match="the dots are not drawn"):
        open_present(config.data, "4")


def test_what_a_row_denies_is_refused(dots):
    data = cam.get_config("dots,weights=none").data
    data.multi_label = True
    with pytest.raises(
        UserError, match="one label an image; several may have embedded, folder, voc"
    ):
        open_lists(data)
    data.multi_label, data.labels = False, "cls_labels.npy"
    with pytest.raises(
        UserError, match="the dots data take no file of image labels; folder and voc do"
    ):
        open_lists(data)


def test_the_sentences_name_the_rows():
    data = common.base().data
    data.name, data.train, data.test = "coco", "train", "test"
    with pytest.raises(UserError, match="not one of embedded, folder, cub, ilsvrc, voc"):
        open_lists(data)
    data.name = "ilsvrc"
    with pytest.raises(UserError, match=r"data.root is empty: .*spg.py:ilsvrc,root=/data/ilsvrc"):
        open_lists(data)


def test_the_table_needs_no_jax():
    code = "import sys; from wsol_jax.data import sources; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
