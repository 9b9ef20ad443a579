"""The pages of segmenters: what they show, and nothing of boxes."""

import numpy as np

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
