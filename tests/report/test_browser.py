"""The page in a real browser: the slider moves every box to where OpenCV's contours put it."""

import re

import cv2
import numpy as np
import pytest
from helpers.pages import dump, without_policy

from wsol_jax.report import page


def contour_box(score_map, tau):
    """The community's box by OpenCV: [x, y, min(x + w, W - 1), min(y + h, H - 1)]."""
    grey = (score_map * 255).astype(np.uint8)
    mask = (grey > int(tau * grey.max())).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return [0, 0, 0, 0]
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    height, width = mask.shape
    return [x, y, min(x + w, width - 1), min(y + h, height - 1)]


def iou(a, b):
    """Inclusive of both corners, as pixels are counted."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(w, 0) * max(h, 0)
    return both / (sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)) - both)


def maps():
    """Smooth blobs as a network makes them, plain noise with holes and whiskers, and no score."""
    rng = np.random.default_rng(7)
    for i in range(6):
        small = rng.random((8 + i, 9), np.float32) ** 3
        smooth = cv2.resize(small, (224, 224), interpolation=cv2.INTER_CUBIC)
        yield (smooth - smooth.min()) / (smooth.max() - smooth.min())
    yield rng.random((31, 47), np.float32)
    speckle = cv2.GaussianBlur(rng.random((96, 96), np.float32), (0, 0), 1.5)
    yield (speckle - speckle.min()) / (speckle.max() - speckle.min())
    yield np.zeros((20, 30), np.float32)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    examples = [
        page.Example(
            image_id=f"m{i}",
            image=np.full((30, 40, 3), 90, np.uint8),
            score_map=score,
            true_boxes=np.array([[0.1, 0.15, 0.62, 0.7], [0.5, 0.5, 0.9, 0.93]], np.float32),
            box=None,
            iou=None,
            label="cat",
            predicted="cat",
        )
        for i, score in enumerate(maps())
    ]
    page.write_report(
        folder / "report.html",
        title="t",
        config_text="",
        figures={},
        curves={},
        examples=examples,
        threshold=0.333,
    )
    return folder / "report.html", {e.image_id: e for e in examples}


def check(panels, examples, tau):
    assert set(panels.found) == set(examples)
    hits = 0
    for name, shown in panels.found.items():
        e = examples[name]
        height, width = e.score_map.shape
        box = contour_box(e.score_map, tau)
        assert [int(v) for v in shown["data-box"].split()] == box, name
        x, y, w, h = shown["rect"]
        drawn = np.array([x, y, x + w, y + h]) * [width, height, width, height]
        np.testing.assert_allclose(drawn, box, atol=1e-3)
        true = [[int(v + 1e-5) for v in t * [width, height, width, height]] for t in e.true_boxes]
        best = max(iou(box, t) for t in true)
        assert abs(float(shown["data-iou"]) - best) < 1e-4
        assert shown["badge"] == f"IoU {best:.2f}"
        hits += best >= 0.5
    return hits


@pytest.mark.parametrize(("fragment", "tau"), [("", 0.333), ("#tau=0.15", 0.15), ("#tau=0.7", 0.7)])
def test_boxes_are_those_of_opencv(browser, report, tmp_path, fragment, tau):
    path, examples = report
    panels, text = dump(browser, path, fragment, tmp_path)
    hits = check(panels, examples, tau)
    share = round(100 * hits / len(examples))
    assert f"{hits} of {len(examples)} shown ({share} %)" in text


def test_moving_the_slider_moves_the_boxes(browser, report, tmp_path):
    path, examples = report
    moved = """<script>
    const wait = setInterval(() => {
      if (document.querySelector(".controls").hidden) return;
      clearInterval(wait);
      const slider = document.getElementById("tau-0");
      document.body.dataset.before = document.querySelector(".panel").dataset.box;
      slider.value = "0.6";
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }, 5);
    </script></body>"""
    copy = tmp_path / "moved.html"
    copy.write_text(without_policy(path).replace("</body>", moved), "utf-8")
    panels, text = dump(browser, copy, "", tmp_path / "profile")
    check(panels, examples, 0.6)
    first = next(iter(panels.found))
    before = [int(v) for v in panels.attributes["data-before"].split()]
    assert before == contour_box(examples[first].score_map, 0.333)
    assert before != contour_box(examples[first].score_map, 0.6)
    assert 'for="tau-0">0.6<' in text.replace(' id="tau-0-value"', "")


def test_no_script_runs_and_no_style_holds_but_the_pages_own(browser, report, tmp_path):
    """The browser tells what its policy refused: nothing of the page, and both that came later."""
    path, examples = report
    copy = tmp_path / "more.html"
    more = '<p style="color:red">x</p><script>document.body.dataset.ran = "1"</script></main>'
    copy.write_text(path.read_text("utf-8").replace("</main>", more), "utf-8")
    found = {}
    for name, place in (("own", path), ("more", copy)):
        log = tmp_path / f"{name}.log"
        flags = ("--enable-logging", f"--log-file={log}")
        panels, _ = dump(browser, place, "", tmp_path / name, *flags)
        check(panels, examples, 0.333)  # its own script ran
        assert "data-ran" not in panels.attributes
        found[name] = re.findall(r"inline (\w+) violates", log.read_text(errors="replace"))
    assert found == {"own": [], "more": ["style", "script"]}
