"""Whole runs on own folders: several labels of a table, COCO's masks, and runs of earlier days."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tiny
from helpers import own_data

pytestmark = pytest.mark.slow


def _flags(root, workdir, *more):
    """The flags of a tiny run, without its CSV of boxes."""
    words = tiny.flags(root, workdir, *more)
    return [words[0].replace(f",boxes={root}/boxes.csv", ""), *words[1:]]


def _fields(workdir):
    return json.loads((workdir / "config.json").read_text())["config"]["data"]


def test_a_table_of_several_labels(tmp_path):
    root, workdir = tmp_path / "photos", tmp_path / "w"
    own_data.several_labels(root, 40)
    (root / "images/a.heic").write_text("")
    words = _flags(root, workdir)
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert "any number of labels an image" in done.stderr
    assert "left out: 1 .heic (not read)" in done.stderr
    data = _fields(workdir)
    assert data["multi_label"] is True and data["layout"] == "table"
    assert tiny.metrics(workdir)["test"]["test"]["images"] > 0
    assert "Traceback" not in done.stderr
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    # Other labels of the same photos are another data set.
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(
        text.replace(",cat\n", ",dog\n").replace(",cat\r\n", ",dog\r\n")
    )
    error = tiny.error_sentence(tiny.run(words))
    assert "other labels" in error


def test_one_label_of_a_table_with_a_method_that_needs_one(tmp_path):
    root = tmp_path / "photos"
    own_data.several_labels(root, 40)
    words = tiny.flags(root, tmp_path / "w", method="spg")
    error = tiny.error_sentence(
        tiny.run([words[0].replace(f",boxes={root}/boxes.csv", "")] + [words[1]])
    )
    assert "data.multi_label: spg needs one class an image" in error


def test_cocos_masks_are_scored(tmp_path):
    root, workdir = tmp_path / "photos", tmp_path / "w"
    images, objects = [], []
    for i in range(24):
        picture = np.random.default_rng(i).integers(60, 120, (32, 40, 3), dtype=np.uint8)
        cv2.rectangle(picture, (8, 8), (23, 23), (250, 250, 100 * (i % 2)), -1)
        root.mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"{i}.png"), picture)
        images.append((f"{i}.png", 40, 32))
        square = [8, 8, 24, 8, 24, 24, 8, 24]
        one = {"image_id": i + 1, "category_id": 10 + 10 * (i % 2), "bbox": [8, 8, 16, 16]}
        objects.append({**one, "segmentation": [square]})
    own_data.write_coco(root / "annotations.json", own_data.coco(images, objects))
    done = tiny.run(_flags(root, workdir))
    assert done.returncode == 0, done.stderr
    assert _fields(workdir)["multi_label"] is False
    figures = tiny.metrics(workdir)["test"]["test"]
    assert figures["pxap"] is not None and figures["max_box_acc"] is not None


def test_a_run_of_earlier_days_goes_on_with_its_lists(tmp_path):
    """Its config knows of no layout: sub-folders stay unread, and the cut is the old one."""
    root, workdir = tmp_path / "photos", tmp_path / "w"
    for kind in ("cat", "dog"):
        for i in range(40):
            own_data.photo(root / kind / f"{i}.jpg", seed=i)
    stop = ["--config.train.epochs=1"]
    done = tiny.run(_flags(root, workdir, *stop, "--config.data.layout=flat"))
    assert done.returncode == 0, done.stderr
    content = json.loads((workdir / "config.json").read_text())
    for name in ("layout", "coco", "masks", "strict"):
        del content["config"]["data"][name]
    (workdir / "config.json").write_text(json.dumps(content))
    (workdir / ".lists.json").unlink()
    own_data.photo(root / "dog/more/1.jpg", seed=99)
    shutil.rmtree(workdir / "scores")
    done = tiny.run(_flags(root, workdir, *stop))
    assert done.returncode == 0, done.stderr
    assert "sub-folder (not searched)" in done.stderr
    done = tiny.run(["--mode=evaluate", f"--workdir={workdir}"])
    assert done.returncode == 0, done.stderr
    own_data.photo(root / "dog/new.jpg", seed=98)
    error = tiny.error_sentence(
        tiny.run(_flags(root, workdir, *stop, "--config.data.layout=folders"))
    )
    assert "data.layout='flat'" in error
