"""The lines at the start of a training: what the lists hold, and what is in none."""

import numpy as np
from helpers import own_data
from helpers.photos import Photos

from configs import cam
from wsol_jax.data import summary
from wsol_jax.data.lists import Lists, open_lists


def test_three_lines(tmp_path):
    for name, n in (("cat", 20), ("dog", 4)):
        for i in range(n):
            own_data.photo(tmp_path / name / f"{i}.jpg")
    (tmp_path / "cat/a.heic").write_text("")
    (tmp_path / "cat/.b.jpg").write_text("")
    lists = open_lists(cam.get_config(f"folder,root={tmp_path}").data)
    about, counts, notes = summary.lines(lists)
    assert about.startswith(f"class folders of {tmp_path}, one label an image; ")
    assert "80/10/10 of each class" in about
    shares = {}
    for source in (lists.train, lists.tune, lists.tests["test"]):
        shares[source.name] = sorted(
            sum(source[i].labels == (c,) for i in range(len(source))) for c in (0, 1)
        )
    wanted = [
        f"{name}: {low + high} photos of 2 classes "
        + (f"({low} to {high} each)" if low < high else f"({low} each)")
        for name, (low, high) in shares.items()
    ]
    assert counts == "; ".join(wanted)
    low = shares["train"][0]
    assert notes == (
        f"fewer than 10 photos to train on: dog {low}; left out: 1 .heic (not read), 1 hidden "
        "(--mode=check_data names them)"
    )


def test_a_list_whose_labels_lie_in_files_is_not_read():
    class Far(Photos):
        def __getitem__(self, index):
            raise AssertionError("a record was read")

    assert summary.lines(Lists(Far(count=7), None, {})) == ["photos: 7 photos of 3 classes"]


def test_labels_in_an_array():
    source = Photos(count=5)
    source.labels = np.array([0, 0, 1, -1, 0])
    line, few = summary.lines(Lists(source, None, {}))
    assert line == "photos: 5 photos of 2 of the 3 classes (1 to 3 each)"
    assert few == "fewer than 10 photos to train on: c 0, b 1, a 3"
