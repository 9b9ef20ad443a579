"""What a reader does with a page, in a real browser: clicks, keys, the pointer, a narrow screen."""

import csv
import json
import re
import time

import cv2
import numpy as np
import pytest
from helpers.browser import Tab
from helpers.pages import example
from helpers.scored import TAU, Made

from wsol_jax.evaluate.multi_label_scores import MultiLabelScores
from wsol_jax.evaluate.segment_scores import SegmentationScores
from wsol_jax.report import comparison, page
from wsol_jax.report.example import Run

CLASSES = tuple(f"class {k}" for k in range(5))
SHOWN = 24
CURVES = {
    "accuracy/train": [(10 * k, 0.1 + 0.03 * k) for k in range(20)],
    "accuracy/tune": [(50 * k, 0.2 + 0.1 * k) for k in range(4)],
    "loss/total": [(10 * k, 2.0 / (1 + k)) for k in range(20)],
}


def examples(made, count=SHOWN):
    """Cards of the first images, in their order: half of them with a box that is right."""
    y, x = np.mgrid[:40, :40] / 40
    found = []
    for k, name in enumerate(made.ids[:count]):
        right = k % 2
        at = 0.3 if right else 0.75
        score = np.exp(-((x - at) ** 2 + (y - at) ** 2) / 0.02).astype(np.float32)
        found.append(
            example(
                name,
                score_map=score,
                true_boxes=np.array([[0.12, 0.12, 0.48, 0.48]]),
                iou=0.6 if right else 0.1,
                label=CLASSES[made.labels[k]],
                predicted=CLASSES[made.said[k]],
                score=float(made.sure[k]),
                split="test",
            )
        )
    return found


@pytest.fixture(scope="module")
def made():
    return Made(n=60)


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):
    """A run's page: 60 images of 5 classes, 24 of them shown, 400 of the list."""
    folder = tmp_path_factory.mktemp("report")
    figures = {"test": {"test": {**made.scores.figures(TAU), "images": 400}}, "threshold": TAU}
    page.write_report(
        folder / "report.html", title="CAM on photos", config_text="lr = 0.1", figures=figures,
        curves=CURVES, examples=examples(made), threshold=TAU, worst=8, sample=16,
        scores={"test": made.scores},
    )  # fmt: skip
    return folder / "report.html"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A page of two runs beside one another."""
    folder = tmp_path_factory.mktemp("both")
    a, b = Made(n=60), Made(n=60, seed=1)
    runs = {
        n: m.run(examples=examples(m), curves=CURVES) for n, m in (("first run", a), ("other", b))
    }
    comparison.write_comparison(folder / "both.html", runs)
    return folder / "both.html"


def ready(chromium, path, **options):
    """A tab whose scripts have done what they do at first."""
    tab = Tab(chromium, path, **options)
    tab.wait_until(
        "!document.querySelector('.controls') || !document.querySelector('.controls').hidden"
    )
    return tab


NAMES = "[...document.querySelectorAll('{}')].filter(page.isShown).map(e => e.textContent)"


def names_in_sight(tab, shelf=""):
    return tab.ask(NAMES.format(f"{shelf} .card code"))


# ------------------------------------------------------------------------------ what was drawn


def test_the_share_is_that_of_the_draw_alone(chromium, report):
    """The worst cases say nothing of the list: 'all examples, 2 of 24' stood over 25.5 %."""
    with ready(chromium, report) as tab:
        text = tab.ask("document.body.innerText")
        assert "all examples" not in text
        assert "the 8 lowest IoUs of 400" in text and "16 of 400 images" in text
        assert f"{len(set(names_in_sight(tab)))} of 400 images\n" in text  # some are both
        counts = tab.ask(NAMES.format(".count b"))
        share = tab.ask("document.getElementById('share-0').textContent")
    (worst, eight), (hits, sixteen) = (map(int, c.split(" of ")) for c in counts)
    assert (worst, eight, sixteen) == (0, 8, 16)
    assert share == f"{hits} of 16 drawn ({round(100 * hits / 16)} %)"


# ------------------------------------------------------------------------------ enlarging


LARGE = """(() => {
  const picture = document.querySelector("#large .large-picture > *");
  const box = picture.getBoundingClientRect();
  return { open: document.getElementById("large").open, width: box.width, height: box.height,
    words: document.querySelector(".large-words").textContent,
    photo: picture.querySelector(".photo").src, box: picture.querySelector("rect.ours").outerHTML,
    inside: box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight };
})()"""
FOCUS = "document.activeElement.closest('.card')?.querySelector('code').textContent"


def test_a_picture_is_enlarged_by_click_and_keys(chromium, report):
    with ready(chromium, report) as tab:
        names = names_in_sight(tab)
        tab.click(".card .stage")
        large = tab.ask(LARGE)
        small = tab.ask("document.querySelector('.card .stage').getBoundingClientRect().width")
        assert large["open"] and large["inside"] and large["width"] > 2 * small
        assert large["width"] / large["height"] == pytest.approx(50 / 30, rel=0.02)
        assert names[0] in large["words"] and "class" in large["words"]
        for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
            tab.press(key)
            now = tab.ask(LARGE)
            assert names[place] in now["words"]
            assert f"{place + 1} of {len(names)}" in tab.ask(
                "document.getElementById('large').innerText"
            )
        tab.press("Escape")
        assert not tab.ask("document.getElementById('large').open")
        tab.wait_until(f"{FOCUS} === {json.dumps(names[1])}")  # where the reader is now
        tab.press("Enter")  # by the keyboard alone
        assert names[1] in tab.ask(LARGE)["words"]
        tab.click("#large [data-step='0']")
        assert not tab.ask("document.getElementById('large').open")
        tab.wait_until(f"{FOCUS} === {json.dumps(names[1])}")
        tab.press(" ")
        assert tab.ask(LARGE)["open"]
        tab.click_at(3, 3)  # beside it
        assert not tab.ask("document.getElementById('large').open")


# ------------------------------------------------------------------------------ choosing


def test_cards_are_chosen_and_ordered(chromium, report, made):
    shown = examples(made)
    with ready(chromium, report) as tab:
        listed = names_in_sight(tab)
        known = {e.image_id: e for e in shown}
        tab.choose("#pick-class", "=class 2")
        chosen = names_in_sight(tab)
        assert chosen == [n for n in listed if known[n].label == "class 2"] and chosen
        assert tab.ask("document.getElementById('picked').textContent") == (
            f"{len(chosen)} of {len(listed)}"
        )
        tab.choose("#pick-right", "wrong")
        expected = [n for n in chosen if known[n].predicted != "class 2"]
        assert names_in_sight(tab) == expected
        tab.choose("#pick-class", "")
        assert names_in_sight(tab) == [n for n in listed if known[n].label != known[n].predicted]
        tab.choose("#pick-right", "hit")
        right = {n for n, k in zip(made.ids, range(SHOWN), strict=False) if k % 2}
        assert names_in_sight(tab) == [n for n in listed if n in right]
        # The worst cases have none of these: no heading without cards.
        assert tab.ask("[...document.querySelectorAll('.shelf')].map(s => s.hidden)") == [
            True,
            False,
        ]
        tab.choose("#pick-right", "")
        drawn = names_in_sight(tab, ".shelf:last-of-type")
        for order, key in (
            ("sure", lambda n: -known[n].score),
            ("unsure", lambda n: known[n].score),
            ("", drawn.index),
        ):
            tab.choose("#pick-order", order)
            assert names_in_sight(tab, ".shelf:last-of-type") == sorted(drawn, key=key)
        tab.choose("#pick-order", "low")
        ious = tab.ask("[...document.querySelectorAll('.panel')].map(p => [p.closest('.card')"
                       ".querySelector('code').textContent, +p.dataset.iou])")  # fmt: skip
        lowest = [iou for name, iou in ious if name in drawn][-len(drawn) :]
        assert lowest == sorted(lowest)


def test_segmentations_are_chosen_by_class(chromium, tmp_path):
    rng = np.random.default_rng(0)
    photo = lambda: rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    shown = [
        example(f"s{k}", iou=k / 10, label=("cat", "cow, cat")[k % 2], predicted="cat",
                pictures={"truth": photo(), "segmentation": photo()}, split="val")
        for k in range(6)
    ]  # fmt: skip
    page.write_report(
        tmp_path / "report.html", title="SEC", config_text="", threshold=0.5, curves={},
        figures={"test": {"val": {"miou": 0.5, "images": 9}}}, examples=shown,
        classes=("cat", "cow"),
    )  # fmt: skip
    with ready(chromium, tmp_path / "report.html") as tab:
        sight = lambda: tab.ask(NAMES.format(".strip code"))
        assert sight() == [f"s{k}" for k in range(6)]
        assert "6 of 9 images" in tab.ask("document.body.innerText")
        tab.choose("#pick-class", "=cow")
        assert sight() == ["s1", "s3", "s5"]
        tab.choose("#pick-order", "high")
        assert sight() == ["s5", "s3", "s1"]
        tab.click(".strip:not([hidden]) figure:nth-of-type(2) img")
        words = tab.ask("document.querySelector('.large-words').textContent")
        assert "truth" in words and "s5" in words


# ------------------------------------------------------------------------------ classes mixed up


MATRIX = """[...document.querySelectorAll("table.matrix tbody tr")].map(row =>
  [...row.cells].slice(1).map(cell => +cell.textContent))"""


def test_the_confusion_matrix_counts_the_images(chromium, report, made):
    expected = np.zeros((5, 5), int)
    for label, said in zip(made.labels, made.said, strict=True):
        expected[label, said] += 1
    with ready(chromium, report) as tab:
        np.testing.assert_array_equal(tab.ask(MATRIX), expected)
        heads = tab.ask(NAMES.format("table.matrix thead th span"))
        assert heads == list(CLASSES)
        title = tab.ask("document.querySelector('table.matrix tbody td:nth-of-type(2)').title")
        assert title == f"class 0 taken for class 1: {expected[0, 1]} of {expected[0].sum()} images"
        wrong = int((made.labels != made.said).sum())
        assert f"{wrong} of 60 images are taken for another class" in tab.ask(
            "document.body.innerText"
        )


def test_pixels_and_several_labels_have_their_own(chromium, tmp_path):
    rng = np.random.default_rng(1)
    masks = SegmentationScores(("cat", "dog"))
    truth, found = rng.integers(0, 3, (2, 12, 12)).astype(np.uint8)
    masks.update("m", truth, found)
    several = MultiLabelScores(("cat", "dog"))
    said, shown = rng.random((20, 2)), rng.integers(0, 2, (20, 2))
    for k in range(20):
        several.presence.images.update([f"p{k}"], np.stack([said[k], 2 * shown[k]], -1)[None])
        several.location.images.update([f"p{k}"], np.zeros((1, 2, 2)))
    runs = {"masks": Run({"test": {}}, [], 0.5, scores={"val": masks})}
    runs["several"] = Run({"test": {}}, [], 0.5, scores={"val": several})
    comparison.write_comparison(tmp_path / "c.html", runs)
    with Tab(chromium, tmp_path / "c.html") as tab:
        shares = np.array([[np.mean(found[truth == r] == c) for c in range(3)] for r in range(3)])
        np.testing.assert_allclose(tab.ask(MATRIX), 100 * shares, atol=0.51)
        rows = tab.ask("""[...document.querySelectorAll("#classes-mixed-up table.classes tbody tr")]
          .map(row => [...row.cells].map(cell => cell.textContent))""")
        for c, row in enumerate(rows):
            yes, there = said[:, c] >= 0.5, shown[:, c] > 0
            both = np.sum(yes & there)
            assert row[1:4] == [str(there.sum()), str(yes.sum()), str(both)]
            assert row[4:] == [f"{100 * both / n:.1f}" for n in (yes.sum(), there.sum())]


# ------------------------------------------------------------------------------ saving


def saved(tab, folder, kind, form):
    before = set(folder.iterdir())
    tab.click(f"[data-save='{kind}'][data-as='{form}']")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        new = {p for p in folder.iterdir() if p.suffix == f".{form}"} - before
        if new:
            return new.pop()
        time.sleep(0.02)
    raise AssertionError(f"no {kind}.{form} was saved")


def test_figures_and_images_are_saved_as_files(chromium, report, made, tmp_path):
    with ready(chromium, report) as tab:
        tab.save_to(tmp_path)
        files = {
            (kind, form): saved(tab, tmp_path, kind, form)
            for kind in ("figures", "images")
            for form in ("csv", "json")
        }
    assert files["images", "csv"].name == "CAM_on_photos_images.csv"
    for kind in ("figures", "images"):
        with files[kind, "csv"].open(newline="") as file:
            rows = list(csv.DictReader(file))
        entries = json.loads(files[kind, "json"].read_text())
        as_text = lambda v: {None: "", True: "true", False: "false"}.get(v, v)
        assert len(rows) == len(entries)
        for row, entry in zip(rows, entries, strict=True):
            assert list(row) == list(entry)
            for name, text in row.items():
                value = as_text(entry[name])
                assert text == value if isinstance(value, str) else float(text) == value
    figures = {f["figure"]: f for f in json.loads(files["figures", "json"].read_text())}
    whole = made.scores.figures(TAU)
    for name in ("gt_known_loc", "pxap", "top1_acc"):
        assert figures[name]["value"] == pytest.approx(whole[name], rel=1e-5)
        ends = [figures[name]["low_95"], figures[name]["high_95"]]
        assert ends == pytest.approx(whole["intervals_95"][name], rel=1e-5)
    images = json.loads(files["images", "json"].read_text())
    assert [i["image"] for i in images] == made.ids
    for k, image in enumerate(images):
        assert image["class"] == CLASSES[made.labels[k]]
        assert image["predicted"] == CLASSES[made.said[k]]
        assert image["top1_acc"] == bool(made.right[k])
        assert image["gt_known_loc"] == bool(made.ious[k, 300] >= 0.5)
        assert image["score"] == pytest.approx(made.sure[k], rel=1e-3)


# ------------------------------------------------------------------------------ curves


TIP = """(() => {{
  const svg = document.querySelectorAll("{}")[{}];
  const tip = svg.parentElement.querySelector(".tip");
  const box = tip.getBoundingClientRect();
  return {{ hidden: tip.hidden, rows: [...tip.children].map(e => e.textContent),
    inside: box.left >= 0 && box.right <= document.documentElement.clientWidth }};
}})()"""


def over(tab, selector, index, value):
    """The tip with the pointer over a chart's value on the axis."""
    x, y = tab.ask(
        f"""(() => {{
          const svg = document.querySelectorAll("{selector}")[{index}];
          svg.scrollIntoView({{ block: "center" }});
          const [left, right, top, bottom] = svg.dataset.frame.split(" ").map(Number);
          const [x0, x1] = svg.dataset.x.split(" ").map(Number);
          const at = new DOMPoint(left + ({value} - x0) / (x1 - x0) * (right - left),
            (top + bottom) / 2);
          const place = at.matrixTransform(svg.getScreenCTM());
          return [place.x, place.y];
        }})()"""
    )
    tab.point(x, y)
    return tab.ask(TIP.format(selector, index))


def test_curves_tell_their_values_under_the_pointer(chromium, report, made):
    with ready(chromium, report) as tab:
        training = "#training .chart svg"
        found = over(tab, training, 0, 52)  # the nearest step is 50, which both lines have
        assert found["rows"] == ["step 50", "train 0.25", "tune 0.3"] and found["inside"]
        assert over(tab, training, 1, 100)["rows"] == ["step 100", "total 0.182"]
        boxes = "#over-all-thresholds .chart svg"
        for tau in (0.3, 0.755):
            first, *rest = over(tab, boxes, 0, tau)["rows"]
            shown = float(first.removeprefix("box threshold τ "))
            assert shown == pytest.approx(tau, abs=0.003)
            at = round(1000 * shown)
            for row, delta in zip(rest, (0.3, 0.5, 0.7), strict=True):
                expected = 100 * np.mean(made.ious[:, at] >= delta)
                name, value = re.fullmatch(r"(IoU ≥ 0\.\d) ([\d.]+) %", row).groups()
                assert name == f"IoU ≥ {delta:g}"
                # A step of one image is drawn as a slope.
                assert abs(float(value) - expected) <= 100 / 60 + 0.1
        tab.point(2, 2)
        assert tab.ask(TIP.format(boxes, 0))["hidden"]
        tab.ask(f"document.querySelectorAll('{training}')[0].focus()")
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            tab.press(key)
        assert tab.ask(TIP.format(training, 0))["rows"][0] == "step 0"


# ------------------------------------------------------------------------------ contents, links


def test_the_contents_lead_to_every_part(chromium, report):
    with ready(chromium, report) as tab:
        heads = tab.ask(NAMES.format("section.part > h2"))
        assert tab.ask(NAMES.format(".contents a")) == heads and len(heads) >= 6
        before = tab.ask("document.querySelector('.panel').dataset.box")
        for index in range(1, len(heads)):
            tab.ask("scrollTo(0, 0)")
            tab.click(f".contents a:nth-child({index})")
            top = f"document.querySelectorAll('section.part')[{index - 1}]"
            top += ".getBoundingClientRect().top"
            tab.wait_until(f"-2 < {top} && {top} < 500")
        assert tab.ask("document.querySelector('.panel').dataset.box") == before


def test_a_card_leads_to_its_files(chromium, tmp_path):
    (tmp_path / "heat maps").mkdir()
    picture = np.zeros((8, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "heat maps" / "a#1 ü.png"), picture)
    plain = example("a", iou=None, label="", predicted="dog", score=0.97, split="Photos",
                    true_boxes=np.zeros((0, 4)),
                    files={"heat map": "heat maps/a#1 ü.png"})  # fmt: skip
    page.write_report(
        tmp_path / "index.html", title="1 photo", config_text="", figures={"test": {}}, curves={},
        examples=[plain], threshold=0.2, worst=0, sample=48, totals={"Photos": 1},
        command="python -m wsol_jax.main --threshold={threshold}",
    )  # fmt: skip
    with ready(chromium, tmp_path / "index.html") as tab:
        text = tab.ask("document.querySelector('.card').innerText")
        assert "dog 97 %" in text and "IoU" not in text
        command = "document.querySelector('.command code').textContent"
        assert tab.ask(command).endswith("--threshold=0.2")
        tab.ask("location.hash = 'tau=0.45'")
        tab.wait_until(f"{command}.endsWith('--threshold=0.45')")
        tab.click(".files a")
        tab.wait_until("location.href.endsWith('a%231%20%C3%BC.png')")
        tab.wait_until("document.images.length === 1 && document.images[0].naturalWidth === 8")


# ------------------------------------------------------------------------------ a narrow screen


CUT = """[...document.querySelectorAll(".chart svg text")].map(text => {
  const box = text.getBoundingClientRect();
  const svg = text.closest("svg");
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [text.textContent, box.left, box.right,
    scale * parseFloat(getComputedStyle(text).fontSize)];
})"""
PAIRS = """[...document.querySelectorAll("table.pairs tbody tr:not(.group) td")].map(cell => {
  const box = cell.getBoundingClientRect();
  return [cell.textContent, box.left, box.right, cell.scrollWidth <= cell.clientWidth + 1];
})"""


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_400_pixels(chromium, report, both, dark):
    for path in (report, both):
        with ready(chromium, path, width=400, dark=dark) as tab:
            wide = tab.ask("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1] == 400
            labels = tab.ask(CUT)
            assert len(labels) > 20
            for text, left, right, size in labels:
                assert left >= 0 and right <= 400 and size >= 10, text
            if path == both:
                cells = tab.ask(PAIRS)
                assert any(text.startswith("+") for text, *_ in cells)
                for text, left, right, whole in cells:
                    assert left >= 0 and right <= 400 and whole, text
                named = tab.ask("""[...document.querySelectorAll("table.pairs td[data-label]")]
                  .map(cell => getComputedStyle(cell, "::before").content)""")
                assert '"difference"' in named and '"first run"' in named


# ------------------------------------------------------------------------------ colours, words


def test_the_legend_names_colours_that_can_be_told_apart(chromium, tmp_path):
    names = tuple(f"class {k}" for k in range(20))
    shown = example("s", iou=0.5, label=", ".join(names), predicted="class 3", split="val",
                    pictures={"segmentation": np.zeros((9, 9, 3), np.uint8)})  # fmt: skip
    entry = {"test": {"val": {"miou": 0.4, "images": 3}}}
    page.write_report(
        tmp_path / "report.html", title="SEC", config_text="", threshold=0.5, curves={},
        figures={**entry, "parts": {"before_crf": entry, "cam": entry}}, examples=[shown],
        classes=names,
    )  # fmt: skip
    with ready(chromium, tmp_path / "report.html") as tab:
        found = tab.ask("""[...document.querySelectorAll(".legend span:has(.swatch)")].map(e =>
          [e.textContent, getComputedStyle(e.querySelector(".swatch")).backgroundColor])""")
        text = tab.ask("document.querySelector('main').innerText")
    assert [name for name, _ in found] == ["background", *names, "no label"]
    rgb = np.array([[int(v) for v in re.findall(r"\d+", colour)] for _, colour in found])
    pixels = np.float32(rgb / 255).reshape(1, -1, 3)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0].astype(float)
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1) + np.diag(np.full(len(lab), np.inf))
    assert apart.min() >= 35
    assert np.hypot(*lab[1:-1, 1:].T).min() > 30  # no class is grey
    assert "before the CRF" in text and "thresholded class maps" in text
    assert "before_crf" not in text and "PNG files have VOC's" in text
