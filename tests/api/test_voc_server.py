"""What is handed in to VOC's server: the files that the devkit reads, scored by a plain loop."""

import json

import cv2
import numpy as np
import pytest
import tiny
from helpers import sec_runs
from helpers.voc import write_voc
from PIL import Image

from wsol_jax.api.result import Result
from wsol_jax.api.voc_server import Submission
from wsol_jax.base.errors import UserError
from wsol_jax.data.records import Record
from wsol_jax.data.sources.voc_labels import VOC_CLASSES

# Of VOC's own label files: value, class, colour.
COLOURS = {
    0: ("background", (0, 0, 0)),
    1: ("aeroplane", (128, 0, 0)),
    8: ("cat", (64, 0, 0)),
    15: ("person", (192, 128, 128)),
    20: ("tvmonitor", (0, 64, 128)),
    255: ("void", (224, 224, 192)),
}
REVERSED = VOC_CLASSES[::-1]


def result(name, segmentation, size, class_names):
    """A segmenter's answer."""
    scores = np.full(len(class_names), 1 / len(class_names), np.float32)
    maps, boxes = {0: np.zeros((2, 2), np.float32)}, np.zeros((0, 4))
    said = (scores, (), boxes, np.zeros(0, int), 0.5, maps, segmentation, Record(name, "", (0,)))
    return Result(name, size, tuple(class_names), *said)


def test_masks_are_palette_pngs_of_the_photos_size(tmp_path):
    small = np.array([[0, 1, 20], [8, 15, 0]], np.uint8)
    handed_in = Submission.of("comp6", VOC_CLASSES)
    handed_in.write(tmp_path, result("2008_000001.jpg", small, (30, 20), VOC_CLASSES))
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    place = "results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png"
    assert path.relative_to(tmp_path).as_posix() == place
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("P", (30, 20))
        np.testing.assert_array_equal(np.array(image), small.repeat(10, 0).repeat(10, 1))
        palette = np.array(image.getpalette()).reshape(-1, 3)
    for value, (name, colour) in COLOURS.items():
        assert tuple(palette[value]) == colour, name
        assert value < 1 or value == 255 or VOC_CLASSES[value - 1] == name


def test_classes_in_another_order_become_vocs(tmp_path):
    """A folder's classes are in the alphabet's order, or in any."""
    values = np.arange(21, dtype=np.uint8)[None]
    handed_in = Submission.of("comp5", REVERSED)
    handed_in.write(tmp_path, result("a.jpg", values, (21, 1), REVERSED))
    with Image.open(tmp_path / "results/VOC2012/Segmentation/comp5_test_cls/a.png") as image:
        assert np.array(image)[0].tolist() == [0, *range(20, 0, -1)]


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("comp4", VOC_CLASSES, "--voc_server=comp4: expected comp5 or comp6"),
        ("comp6_../x_cls", VOC_CLASSES, "expected comp5 or comp6"),
        ("comp6", VOC_CLASSES[:-1], "this run of 19 lacks 'tvmonitor'"),
        ("comp6", tiny.CLASSES, "VOC's 20 classes, and this run of 3 lacks 'aeroplane'"),
        ("comp6", (*VOC_CLASSES, "zebra"), "this run of 21 also has 'zebra'"),
    ],
)
def test_what_the_server_does_not_take_is_one_sentence(name, classes, words):
    with pytest.raises(UserError) as error:
        Submission.of(name, classes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_photos_are_those_of_the_list_and_need_no_annotation(tmp_path):
    """As in VOC's archive of test photos."""
    root = write_voc(tmp_path / "voc")
    for path in (root / "Annotations").iterdir():
        path.unlink()
    (root / "Annotations").rmdir()
    (root / "ImageSets/Segmentation/test.txt").write_text("03\n01\n")
    found = Submission.of("comp6", VOC_CLASSES).photos(root, VOC_CLASSES)
    assert [record.image_id for record in found.records] == ["03.jpg", "01.jpg"]
    assert cv2.imread(found[0].image).shape == (40, 48, 3)
    for name, words in (("comp6_tset_cls", "did you mean 'test'"), ("comp6_val_cls", "16.jpg is")):
        (root / "JPEGImages/16.jpg").unlink(missing_ok=True)
        with pytest.raises(UserError, match=words):
            Submission.of(name, VOC_CLASSES).photos(root, VOC_CLASSES)
    with pytest.raises(UserError, match="has no JPEGImages"):
        Submission.of("comp6", VOC_CLASSES).photos(root / "JPEGImages", VOC_CLASSES)


def test_a_run_of_other_classes_is_refused_before_its_network_is_read(tmp_path):
    words = [f"--workdir={tiny.finished()}", f"--images={tiny.data()}", f"--out={tmp_path}"]
    done = tiny.run(["--mode=predict", *words, "--voc_server=comp6"])
    assert "this run of 3 lacks 'aeroplane'" in tiny.error_sentence(done)


def devkit(folder, truth):
    """VOCevalseg: the confusion of all pixels but 255, and from it the mean IoU and accuracy."""
    confusion = np.zeros((21, 21))
    for path in sorted(truth.glob("*.png")):
        if not (folder / path.name).is_file():
            continue  # of another list
        wanted, found = (np.array(Image.open(place / path.name)) for place in (truth, folder))
        assert wanted.shape == found.shape
        for i, j in zip(wanted.ravel(), found.ravel(), strict=True):
            if i < 255:
                confusion[i, j] += 1
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    return np.mean(right[union > 0] / union[union > 0]), right.sum() / confusion.sum()


@pytest.mark.slow
def test_the_devkits_loop_over_the_files_gives_the_runs_own_figures(tmp_path):
    root, workdir, out = write_voc(tmp_path / "voc"), tmp_path / "run", tmp_path / "out"
    done = tiny.run(sec_runs.words(root, workdir))
    assert done.returncode == 0, done.stderr
    words = [f"--workdir={workdir}", f"--images={root}", f"--out={out}"]
    done = tiny.run(["--mode=predict", *words, "--voc_server=comp6_val_cls"])
    assert done.returncode == 0, done.stderr
    folder = out / "results/VOC2012/Segmentation/comp6_val_cls"
    assert str(folder) in done.stdout
    assert [p.name for p in sorted(folder.iterdir())] == [f"{i}.png" for i in range(12, 17)]
    miou, accuracy = devkit(folder, root / "SegmentationClass")
    figures = json.loads((workdir / "metrics.json").read_text())["test"]["val"]
    assert miou == pytest.approx(figures["miou"], abs=1e-12)
    assert accuracy == pytest.approx(figures["pixel_accuracy"], abs=1e-12)
