"""``--mode=check_data``: what it prints, and its page."""

import re

import numpy as np
import pytest
from helpers import own_data

from configs import cam
from wsol_jax.base.errors import UserError
from wsol_jax.report import check_data


def test_a_messy_folder(tmp_path, capsys):
    own_data.write_messy(tmp_path / "photos")
    config = cam.get_config(f"folder,root={tmp_path}/photos,train=trāin,tune=")
    with config.unlocked():
        config.data.tune = ""
    check_data.check_data(config, tmp_path / "out")
    text = capsys.readouterr().out
    for name, keys in own_data.ODDITIES.items():
        if keys and "turned" not in name:  # of these five are printed
            assert text.count(name) == len(keys), name
    assert "1 .heic (not read): trāin/cat/IMG_1.HEIC" in text
    assert re.search(r"^cat +\d+ +0 +0$", text, re.MULTILINE)
    assert "nothing to mend" not in text
    page = (tmp_path / "out/check_data.html").read_text()
    assert page.count("<figure") > 20 and "http" not in re.sub(r"http-equiv", "", page)
    for name, keys in own_data.ODDITIES.items():
        assert name.split("/")[-1] in page or not keys, name


def test_what_a_training_refuses_is_counted(tmp_path, capsys):
    root = own_data.several_labels(tmp_path / "photos").parent
    with (root / "labels.csv").open("a") as file:
        file.write("gone.jpg,cat\nlost.jpg,dog\n")
    check_data.check_data(cam.get_config(f"folder,root={root}"), None)
    text = capsys.readouterr().out
    assert "2 rows of labels.csv without a photo: gone.jpg, lost.jpg (a training refuses" in text
    assert "any number of labels an image" in text and "--out=FOLDER" in text
    out = tmp_path / "page"
    check_data.check_data(cam.get_config(f"folder,root={root},strict=false"), out)
    text = capsys.readouterr().out + (out / check_data.PAGE).read_text("utf-8")
    assert "gone.jpg, lost.jpg (a training skips them, as strict=false says)" in text
    assert (
        "a training refuses" not in text and "A training skips them, as strict=false says." in text
    )


def test_nothing_to_mend(tmp_path, capsys):
    for c in ("cat", "dog"):
        for i in range(60):
            own_data.photo(tmp_path / c / f"{i}.jpg", seed=hash((c, i)) & 0xFFFF)
    found = check_data.check_data(cam.get_config(f"folder,root={tmp_path}"), None)
    assert "nothing to mend" in capsys.readouterr().out and not found.findings


def test_names_cannot_write_to_a_terminal(tmp_path, capsys):
    for i in range(12):
        own_data.photo(tmp_path / f"c\x1b[31m\n<b>/{i}.jpg", seed=i)
    (tmp_path / "c\x1b[31m\n<b>/\x1b[2J.heic").write_text("")
    check_data.check_data(cam.get_config(f"folder,root={tmp_path}"), tmp_path / "out")
    assert "\x1b" not in capsys.readouterr().out
    page = (tmp_path / "out/check_data.html").read_text()
    assert "\x1b" not in page and "<b>" not in page


def test_masks_and_boxes_are_drawn(tmp_path):
    own_data.photo(tmp_path / "a.jpg")
    square = [[4, 4, 12, 4, 12, 12, 4, 12]]
    one = {"image_id": 1, "category_id": 10, "bbox": [4, 4, 8, 8], "segmentation": square}
    content = own_data.coco([("a.jpg", 40, 32)], [one])
    own_data.write_coco(tmp_path / "annotations.json", content)
    config = cam.get_config(f"folder,root={tmp_path}")
    with config.unlocked():
        config.data.tune, config.data.test = "", "train"
    found = check_data.check_data(config, tmp_path / "out")
    (counts,) = found.lists  # the list to score is the one to train on
    np.testing.assert_array_equal([counts.images, counts.boxes, counts.masks], [[1]] * 3)
    assert "cat masks" not in (tmp_path / "out/check_data.html").read_text()


def test_the_page_needs_a_folder(tmp_path):
    own_data.several_labels(tmp_path / "photos")
    (tmp_path / "out").write_text("")
    config = cam.get_config(f"folder,root={tmp_path}/photos")
    with pytest.raises(UserError, match="--out="):
        check_data.check_data(config, tmp_path / "out")


def test_the_embedded_data_set_can_be_checked_too(tmp_path, capsys, monkeypatch):
    from wsol_jax.data.embedded import source

    sizes = {"train": 12, "tune": 4, "test": 4}
    single = next(c for c in source.EmbeddedScenes.BUILDER_CONFIGS if c.name == "single")
    monkeypatch.setattr(single, "list_sizes", sizes)
    monkeypatch.setattr(single, "workers", 0)
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    found = check_data.check_data(cam.get_config("embedded"), tmp_path / "out")
    assert [counts.photos for counts in found.lists] == [12, 4, 4]
    assert all(counts.masked == counts.photos for counts in found.lists)
    assert "train" in capsys.readouterr().out
