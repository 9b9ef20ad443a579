"""The pages of segmenters: what they show, and nothing of boxes."""

import base64
import dataclasses
import html.parser
import re

import cv2
import numpy as np
import pytest

from wsol_jax.report import comparison, page, saved
from wsol_jax.report.example import Example, Run

CLASSES = ("cat", "cow", "dog")


def example(name, iou, seed=0):
    rng = np.random.default_rng(seed)
    photo = lambda: rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Example(
        image_id=name,
        image=photo(),
        score_map=np.zeros((4, 4), np.float32),
        true_boxes=np.zeros((0, 4)),
        box=None,
        iou=iou,
        label="cat",
        predicted="cat, dog",
        pictures={"truth": photo(), "segmentation": photo(), "before the CRF": photo()},
        split="val",
    )


class Images(html.parser.HTMLParser):
    """The pictures of a page by what they are called; those of a row's style."""

    def __init__(self, text):
        super().__init__()
        self.found, self.styles = {}, []
        # A style stands in the page's sheet, by number: its policy allows none beside that.
        self.rules = dict(re.findall(r'\[data-style="(\d+)"\] \{ (.*?) \}', text))
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("class") == "pictures":
            self.styles.append(self.rules[attrs["data-style"]])
        if tag == "img":
            data = base64.b64decode(attrs["src"].partition(",")[2])
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            self.found[attrs["alt"]] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def run(ious, seed=0):
    examples = [example(f"i{k}", iou, seed) for k, iou in enumerate(ious)]
    figures = {"test": {"val": {"miou": 0.5, "images": len(ious)}}, "threshold": 0.5}
    return Run(figures, examples, 0.5, classes=CLASSES)


def write(folder, one):
    folder.mkdir(exist_ok=True)
    page.write_report(
        folder / "report.html", title="SEC", config_text="", figures=one.figures, curves={},
        examples=one.examples, threshold=0.5, classes=one.classes,
    )  # fmt: skip
    return (folder / "report.html").read_text()


def test_a_page_of_pictures_without_boxes(tmp_path):
    text = write(tmp_path, run([0.4, 0.2]))
    for shown in ("segmentation of i0", "truth of i1", "before the CRF of i1", "no label"):
        assert shown in text
    assert "Box threshold" not in text and "our box" not in text and 'id="tau-0"' not in text
    # What is painted stands in the legend, a class that nobody sees does not.
    legend = text[text.index('<p class="legend">') :].partition("</p>")[0]
    assert "cat" in legend and "dog" in legend and "cow" not in legend
    assert text.index("i1</code>") < text.index("i0</code>")  # the lowest first
    assert saved.load(str(tmp_path)).classes == CLASSES


INFERNO = {0.0: (0, 0, 4), 0.5: (188, 55, 84), 1.0: (252, 255, 164)}


def extras():
    """A picture of each kind that a loss may leave, as ``collect`` hands it over."""
    heat = np.repeat(np.float32(list(INFERNO)), 16)[None].repeat(48, axis=0)
    grey = np.full((48, 48, 3), (10, 128, 200), np.uint8)
    seeds = np.repeat(np.uint8([0, 1, 255]), 16)[None].repeat(48, axis=0)
    return {"CAM1": heat, "hidden patches": grey, "seeds": seeds}


def test_maps_are_heat_and_masks_have_colours(tmp_path):
    one = run([0.4])
    more = dataclasses.replace(one.examples[0], pictures={**one.examples[0].pictures, **extras()})
    found = Images(write(tmp_path, dataclasses.replace(one, examples=[more]))).found
    for column, colour in zip((8, 24, 40), INFERNO.values(), strict=True):
        assert np.abs(found["CAM1 of i0"][24, column].astype(int) - colour).max() < 12
    assert np.abs(found["hidden patches of i0"][24, 24].astype(int) - (10, 128, 200)).max() < 4
    masks = [tuple(found["seeds of i0"][24, column]) for column in (8, 24, 40)]
    assert masks == [(36, 52, 94), (255, 176, 0), (176, 176, 184)]


@pytest.mark.parametrize("kinds", [(), ("CAM1",), ("seeds",), ("CAM1", "seeds")])
def test_the_legend_explains_the_colours_that_occur(tmp_path, kinds):
    one = run([0.4])
    pictures = {**one.examples[0].pictures, **{k: extras()[k] for k in kinds}}
    more = dataclasses.replace(one.examples[0], pictures=pictures)
    text = write(tmp_path, dataclasses.replace(one, examples=[more]))
    legend = text[text.index('<p class="legend">') :].partition("</p>")[0]
    assert ('class="ramp"' in legend) == ("CAM1" in kinds)
    assert ("guidance masks" in legend) == ("seeds" in kinds)


def test_a_loaded_run_has_the_pictures_that_were_saved(tmp_path):
    one = run([0.4])
    smooth = cv2.resize(one.examples[0].image[:2, :3], (60, 40))
    pictures = {**extras(), "mask": smooth}
    more = dataclasses.replace(one.examples[0], pictures=pictures)
    saved.save(str(tmp_path / saved.FILE), dataclasses.replace(one, examples=[more]))
    back = saved.load(str(tmp_path)).examples[0].pictures
    assert list(back) == list(pictures)
    for name, picture in pictures.items():
        assert back[name].shape == picture.shape and back[name].dtype == picture.dtype
    np.testing.assert_array_equal(back["seeds"], pictures["seeds"])
    np.testing.assert_allclose(back["CAM1"], pictures["CAM1"], atol=1 / 255)
    assert np.abs(back["mask"].astype(int) - smooth).max() < 12  # as JPEG


def test_painted_photos_of_older_files_are_read(tmp_path):
    """They were stored pixel by pixel."""
    one = run([0.4])
    saved.save(str(tmp_path / saved.FILE), one)
    with np.load(tmp_path / saved.FILE) as file:
        arrays = {**file, "0/picture0": one.examples[0].pictures["truth"]}
    np.savez(tmp_path / saved.FILE, **arrays)
    found = saved.load(str(tmp_path)).examples[0].pictures["truth"]
    np.testing.assert_array_equal(found, one.examples[0].pictures["truth"])


@pytest.mark.parametrize("count, columns", [(0, 1), (4, 5), (5, 6), (6, 4), (9, 5), (11, 6)])
def test_many_pictures_break_into_rows_of_one_length(tmp_path, count, columns):
    """No more than six beside one another: a photo and ``count`` pictures."""
    one = run([0.4])
    more = dataclasses.replace(
        one.examples[0], pictures={f"p{k}": one.examples[0].image for k in range(count)}
    )
    found = Images(write(tmp_path, dataclasses.replace(one, examples=[more])))
    assert found.styles == [f"--n:{columns};--ar:1.5000"] and len(found.found) == 1 + count


def test_two_segmenters_beside_one_another(tmp_path):
    for name, ious in (("a", [0.4, 0.2]), ("b", [0.5, 0.9])):
        write(tmp_path / name, run(ious, seed=ord(name)))
    comparison.compare_workdirs(tmp_path / "both.html", [str(tmp_path / n) for n in "ab"])
    text = (tmp_path / "both.html").read_text()
    assert "Box threshold" not in text and "our box" not in text and 'id="tau-0"' not in text
    assert text.index("i1</code>") < text.index("i0</code>")  # they differ most on i1
    for shown in ("a 20.0 %", "b 90.0 %", "truth of i1"):
        assert shown in text


def test_segmenters_beside_boxes_keep_the_page_of_boxes(tmp_path):
    write(tmp_path / "a", run([0.4]))
    plain = run([0.4])
    text_of = lambda one: comparison.write_comparison(tmp_path / "c.html", one)
    text_of({"a": plain, "b": Run(plain.figures, plain.examples, 0.5)})
    assert "Gallery" in (tmp_path / "c.html").read_text()
