"""Predict as a user sees it: files, boxes in the photo's pixels, what cannot be read."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A folder of photos of many kinds, and what predict made of it."""
    root = tmp_path_factory.mktemp("predict")
    photos = root / "photos"
    (photos / "sub folder").mkdir(parents=True)
    source = tiny.data() / "test"
    first = sorted(source.rglob("*.jpg"))[0]
    shutil.copy(first, photos / "a.jpg")
    shutil.copy(first, photos / "sub folder" / "a.jpg")
    cv2.imwrite(str(photos / "a.png"), cv2.resize(cv2.imread(str(first)), (120, 60)))
    turned = Image.open(first).resize((90, 40))
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright
    turned.save(photos / "turned.jpg", exif=exif)
    (photos / "broken.jpg").write_bytes(first.read_bytes()[:200])
    (photos / ".hidden.jpg").write_bytes(b"")
    (photos / "notes.txt").write_text("no photo")
    (photos / "phone.heic").write_bytes(b"")
    (photos / "album.jpg").mkdir()
    out = root / "out"
    done = tiny.run(
        ["--mode=predict", f"--workdir={tiny.finished()}", f"--images={photos}", f"--out={out}"]
    )
    return done, out


def test_every_readable_photo_has_its_files(predicted):
    done, out = predicted
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "predictions.json").read_text())
    names = [image["file_name"] for image in result["images"]]
    assert names == ["a.jpg", "a.png", "sub folder/a.jpg", "turned.jpg"]
    for image in result["images"]:
        heat = cv2.imread(str(out / "heatmaps" / f"{image['file_name']}.png"), -1)
        overlay = cv2.imread(str(out / "overlays" / f"{image['file_name']}.jpg"))
        assert heat.shape == (image["height"], image["width"])
        assert overlay.shape == (image["height"], image["width"], 3)
    assert "broken.jpg" in done.stderr and ".hidden" not in done.stderr
    assert "left out: 1 .heic (not read), 1 .txt, 1 hidden\n" in done.stderr
    assert (out / "index.html").stat().st_size > 10_000


def test_photos_that_nobody_can_read_are_one_sentence(predicted, tmp_path):
    _, out = predicted
    (tmp_path / "photos").mkdir()
    shutil.copy(out.parent / "photos" / "broken.jpg", tmp_path / "photos")
    words = ["--mode=predict", f"--workdir={tiny.finished()}", f"--images={tmp_path / 'photos'}"]
    done = tiny.run([*words, f"--out={tmp_path / 'out'}"])
    assert "none of its 1 photos can be read" in tiny.error_sentence(done)


def test_coco_fields_and_boxes_inside_the_photo(predicted):
    _, out = predicted
    result = json.loads((out / "predictions.json").read_text())
    assert [c["name"] for c in result["categories"]] == sorted(tiny.CLASSES)
    images = {image["id"]: image for image in result["images"]}
    assert (images[2]["width"], images[2]["height"]) == (120, 60)
    assert (images[4]["width"], images[4]["height"]) == (40, 90)  # EXIF orientation applied
    for box in result["annotations"]:
        image = images[box["image_id"]]
        x, y, width, height = box["bbox"]
        assert x >= 0 and y >= 0 and width > 0 and height > 0
        assert x + width <= image["width"] + 0.01 and y + height <= image["height"] + 0.01
        assert 0 < box["area"] <= np.ceil(width + 1) * np.ceil(height + 1)
        assert box["segmentation"]["size"] == [image["height"], image["width"]]
        scores = [c["score"] for c in image["classes"]]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)
        assert box["score"] == scores[0]


def test_same_pixels_same_answer_whatever_the_folder(predicted):
    _, out = predicted
    boxes = json.loads((out / "predictions.json").read_text())["annotations"]
    assert boxes[0]["bbox"] == boxes[2]["bbox"]


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_photos_is_one_sentence(tmp_path, what):
    place = tmp_path / what
    if what == "empty":
        place.mkdir()
    done = tiny.run(
        ["--mode=predict", f"--workdir={tiny.finished()}", f"--images={place}", "--out=x"]
    )
    assert str(place) in tiny.error_sentence(done)


def test_heat_is_the_map_of_the_likeliest_class(predicted):
    _, out = predicted
    heat = cv2.imread(str(out / "heatmaps" / "a.png.png"), -1)
    assert heat.dtype == np.uint8 and heat.max() > 200 and heat.min() < 50


def test_a_checkpoint_can_be_named(predicted, tmp_path):
    _, out = predicted
    words = [f"--workdir={tiny.finished()}", f"--images={out.parent / 'photos' / 'a.jpg'}"]
    done = tiny.run(["--mode=predict", *words, f"--out={tmp_path / 'best'}", "--checkpoint=best"])
    assert done.returncode == 0, done.stderr
    assert "--checkpoint=best" in (tmp_path / "best" / "index.html").read_text("utf-8")


def test_options_of_predict_go_with_no_other_mode():
    modes = {"--threshold=0.3": "predict.", "--checkpoint=best": "predict and --mode=export."}
    for word, where in modes.items():
        done = tiny.run(["--mode=check_data", "--config=configs/cam.py:embedded", word])
        assert f"{word.split('=')[0]} goes with --mode={where}" in tiny.error_sentence(done)
