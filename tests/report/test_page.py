"""The HTML page: its figures, its escaping, what it embeds, and what it stores beside itself."""

import base64
import dataclasses
import hashlib
import json
import math
import re
import zlib

import cv2
import numpy as np
import pytest
from helpers.pages import HOSTILE, example, parse

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.shown import select_examples
from wsol_jax.report import __main__ as cli
from wsol_jax.report import comparison, overlays, page, saved, svg, tables


def figures(**values):
    return {"test": {"test": values}, "seconds": 75.0}


def write(folder, examples=(), **changes):
    given = {
        "title": "SPG on embedded",
        "config_text": "lr = 0.1",
        "figures": figures(gt_known_loc=0.658, pxap=0.601),
        "curves": {},
        "examples": list(examples),
        "threshold": 0.35,
    }
    folder.mkdir(exist_ok=True)
    page.write_report(folder / "report.html", **{**given, **changes})
    return (folder / "report.html").read_text("utf-8")


def test_page_is_well_formed_and_asks_for_nothing_outside(tmp_path):
    pictures = {"B1": np.array([[0, 1], [255, 1]], np.uint8), "C": np.eye(3, dtype=np.float32)}
    text = write(
        tmp_path / "w",
        [example("a", pictures=pictures), example("bb")],
        curves={"loss": [(0, 1.0)]},
    )
    parser = parse(text)
    readable = re.sub(r'(base64,|"packed":")[^"]*', "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", readable)
    sources = [a["src"] for t, a in parser.tags if "src" in a]
    assert len(sources) == 2 + 2 + 2
    assert all(s.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for s in sources)
    assert all(a.get("alt") for t, a in parser.tags if t == "img")
    for _, attributes in parser.tags:
        assert not {"srcset", "action"} & set(attributes)
        assert attributes.get("href", "#").startswith("#")  # the contents lead to its own parts
    labelled = {a["for"] for t, a in parser.tags if t == "label"}
    assert {a["id"] for t, a in parser.tags if t in ("input", "select")} == labelled


def test_the_policy_names_the_pages_own_script_and_style(tmp_path):
    pictures = {"B1": np.array([[0, 1], [255, 1]], np.uint8)}
    text = write(tmp_path / "w", [example("a", pictures=pictures)], config_text=' style="a:b"')
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "unsafe" not in policy and "default-src 'none'" in policy
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    body = text[text.index("<body>") :]
    assert ' style="' not in body
    for number in re.findall(r'data-style="(\d+)"', body):  # each has its rule
        assert f'[data-style="{number}"] {{' in text
    assert "--ar:" in text and "--tiles:" in text
    assert "style=&quot;a:b&quot;" in body


def test_every_user_string_is_escaped(tmp_path):
    hostile = example(
        HOSTILE,
        label=HOSTILE,
        predicted=HOSTILE,
        split=HOSTILE,
        pictures={HOSTILE: np.zeros((2, 2), np.uint8)},
    )
    text = write(
        tmp_path / "w",
        [hostile],
        title=HOSTILE,
        config_text=HOSTILE,
        figures={"test": {HOSTILE: {HOSTILE: 0.5, "pxap": HOSTILE}}},
        curves={HOSTILE: [(0, 1.0)]},
        facts={HOSTILE: HOSTILE},
        notes=[HOSTILE],
    )
    parser = parse(text)
    assert "<script>alert" not in text
    assert sum(t == "script" for t, _ in parser.tags) == 2
    run = saved.load(tmp_path / "w")
    comparison.write_comparison(tmp_path / "c.html", {HOSTILE: run, "b": run}, title=HOSTILE)
    text = (tmp_path / "c.html").read_text("utf-8")
    parse(text)
    assert "<script>alert" not in text


def test_figures_as_per_cent_and_unknown_ones_as_a_dash():
    values = {
        "gt_known_loc": 0.658,
        "central_box": np.float32(0.25),
        "top1_loc": None,
        "max_box_acc": math.nan,
        "images": 158,
        "pxap_interval": [0.5, 0.7],
    }
    known = {**values, "top1_loc": 0.5}
    shown = {
        figure.key: [tables.percent(value) for value in row]
        for _, rows in tables.rows([("test", "a", values), ("test", "b", known)])
        for figure, row in rows
    }
    assert {key: row[0] for key, row in shown.items()} == {
        "gt_known_loc": "65.8 %",
        "central_box": "25.0 %",
        "top1_loc": "\u2013",  # the other run knows it
        "images": "158",
        "pxap_interval": "50.0 % … 70.0 %",
    }


def test_the_central_box_stands_below_the_detection_that_it_bounds():
    known = {"detection_map": 0.31, "detection_map_20": 0.6}
    both = known | {"central_detection_map": 0.12, "central_detection_map_20": 0.55}
    lines = [line.split("  ") for line in tables.text_table([("t", "", both)]).splitlines()[2:]]
    assert [[cell.strip() for cell in line if cell] for line in lines] == [
        ["detection mAP", "31.0 %"],
        ["central box", "12.0 %"],
        ["detection mAP, IoU ≥ 0.2", "60.0 %"],
        ["central box, IoU ≥ 0.2", "55.0 %"],
    ]
    table = tables.html_table([("t", "", both)])
    assert table.count('<tr class="baseline"><th scope="row">central box') == 2
    assert "central box" not in tables.html_table([("t", "", known)])


def test_table_says_where_each_threshold_came_from():
    groups = dict(
        (heading, [figure.key for figure, _ in rows])
        for heading, rows in tables.rows(
            [("t", "", dict.fromkeys(("max_box_acc_v2", "top1_loc", "central_box", "new"), 0.5))]
        )
    )
    assert groups["Boxes, at the run's one threshold"] == [
        "central_box",
        "top1_loc",
    ]
    assert groups["Boxes, maximised over thresholds on the scored split itself"] == [
        "max_box_acc_v2"
    ]
    assert groups["Other figures"] == ["new"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.6, "1 min 00 s"), (7325, "2 h 02 min"), (3, "3 s")]
)
def test_duration(seconds, text):
    assert tables.duration(seconds) == text


def test_empty_gallery_and_no_figures(tmp_path):
    text = write(tmp_path / "w", [], figures={}, curves={"loss": [], "nan": [(1, math.nan)]})
    parse(text)
    assert "No examples were given" in text
    assert "no finite values" in text
    assert saved.load(tmp_path / "w").examples == []


def test_curve_points_lie_where_their_values_say():
    text = svg.charts({"loss": [(0, 0.0), (50, 1.0), (100, 4.0)]})
    points = re.search(r'<polyline class="s0" points="([^"]+)"', text).group(1)
    xy = np.array([[float(v) for v in p.split(",")] for p in points.split()])
    np.testing.assert_allclose((xy[1] - xy[0]) / (xy[2] - xy[0]), [0.5, 0.25], atol=2e-3)
    assert xy[2, 1] < xy[0, 1]  # SVG's y points down
    # the tick of step 50's double stands at the last point
    tick = re.search(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">100</text>', text)
    assert float(tick.group(1)) == xy[2, 0]


@pytest.mark.parametrize("points", [[(5, 0.3)], [(5, 0.0)], [(1, 2.0), (2, 2.0)]])
def test_degenerate_curves_have_finite_coordinates(points):
    text = svg.charts({"loss": points})
    assert text.count("<circle") == len(points)
    assert "nan" not in text and "inf" not in text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.7), (1e-5, 3e-5), (0, 123456)])
def test_ticks_are_round_and_inside(low, high):
    marks = np.array(svg.ticks(low, high))
    assert 2 <= len(marks) <= 7
    assert low - 1e-9 <= marks[0] and marks[-1] <= high * (1 + 1e-9)
    step = marks[1] - marks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


def test_score_maps_arrive_exactly(tmp_path):
    shown = [example("a"), example("bb", side=33)]
    text = write(tmp_path / "w", shown)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text).group(1))
    flat = np.frombuffer(zlib.decompress(base64.b64decode(data["packed"])), np.uint8)
    sent, start = {}, 0
    for width, height in data["sizes"]:
        part = flat[start : start + width * height].reshape(height, width)
        start += width * height
        sent[(height, width)] = part.cumsum(0, np.uint8).cumsum(1, np.uint8)
    assert start == len(flat)
    for e in shown:
        expected = np.floor(255 * e.score_map.astype(np.float32)).astype(np.uint8)
        np.testing.assert_array_equal(sent[e.score_map.shape], expected)


def test_worst_and_drawn_examples():
    names = [f"image{i}" for i in range(50)]
    ious = [((7 * i) % 50) / 50 for i in range(50)]
    ious[3] = None
    low, drawn = select_examples(names, ious, worst=3, sample=10)
    assert [ious[i] for i in low] == sorted(v for v in ious if v is not None)[:3]
    assert len(set(drawn)) == 10
    # Another run, other IoUs: the same draw. Choosing among the chosen: the same again.
    assert select_examples(names, ious[::-1], worst=3, sample=10)[1] == drawn
    kept = sorted({*low, *drawn})
    again = select_examples([names[i] for i in kept], [ious[i] for i in kept], 3, 10)
    assert [[kept[i] for i in part] for part in again] == [low, drawn]


def test_each_list_has_its_worst_and_its_draw(tmp_path):
    many = [example(f"{s}{i}", iou=i / 20, split=s, side=8) for s in "xy" for i in range(20)]
    text = write(tmp_path / "w", many, worst=4, sample=6)
    assert re.findall(r"<h3>(.*?)</h3>", text) == [
        "x: worst cases",
        "x: drawn at random",
        "y: worst cases",
        "y: drawn at random",
    ]
    assert text.count('class="card"') == 2 * (2 + 3)
    shown = [e.image_id for e in saved.load(tmp_path / "w").examples]
    assert {"x0", "x1", "y0", "y1"} <= set(shown)


def test_report_data_gives_back_the_run_without_pickles(tmp_path):
    mask = np.array([[0, 1], [255, 1]], np.uint8)
    heat = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    first = example("a", pictures={"B1": mask, "C": heat}, iou=None, box=None)
    given = figures(pxap=np.float32(0.5), top1_acc=None)
    write(tmp_path / "w", [first, example("bb")], figures=given, curves={"loss": [(3, 0.5)]})
    run = saved.load(tmp_path / "w")
    back = next(e for e in run.examples if e.image_id == "a")
    assert (back.image_id, back.iou, back.box, back.label) == ("a", None, None, "cat")
    assert run.figures["test"]["test"] == {"pxap": 0.5, "top1_acc": None}
    assert run.curves == {"loss": [(3, 0.5)]}
    np.testing.assert_array_equal(back.pictures["B1"], mask)
    np.testing.assert_allclose(back.pictures["C"], heat, atol=1 / 255)
    # the bits that decide the box
    bits = overlays.quantise(first.score_map)
    np.testing.assert_array_equal(overlays.quantise(back.score_map), bits)
    np.testing.assert_allclose(back.true_boxes, first.true_boxes)


def test_comparison_shows_common_images_side_by_side(tmp_path, capsys):
    write(tmp_path / "cam", [example("a", 0.2), example("bb", 0.5), example("ccc")])
    better = figures(gt_known_loc=0.7, pxap=0.6)
    write(tmp_path / "spg", [example("bb", 0.55), example("a", 0.9)], figures=better, threshold=0.5)
    out = tmp_path / "both.html"
    assert cli.main([str(tmp_path / "cam"), str(tmp_path / "spg"), f"--out={out}"]) == 0
    text = out.read_text("utf-8")
    parse(text)
    assert re.findall(r"</h4><code>(.*?)</code>", text) == ["a", "bb"]  # furthest apart first
    assert text.count('class="panel"') == 4
    assert re.findall(r'<p class="run">(.*?)</p>', text) == ["cam", "spg"] * 2
    assert text.count('class="best"') == 2  # spg's GT-known, cam's PxAP
    printed = capsys.readouterr().out
    assert re.search(r"GT-known +65\.8 % +70\.0 %", printed)
    assert str(out) in printed


def test_folder_without_report_is_one_sentence(tmp_path, capsys):
    assert cli.main([str(tmp_path), f"--out={tmp_path / 'x.html'}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no report_data.npz here")
    (tmp_path / "report_data.npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(UserError, match=r"report_data\.npz is damaged"):
        saved.load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"image": np.zeros((4, 4), np.uint8)}, {"score_map": np.zeros(4)}]
)
def test_wrong_shapes_are_named(change):
    with pytest.raises(UserError, match="example 'a': "):
        example(**change)


def test_size_of_forty_eight_examples_is_kept_in_check(tmp_path):
    rng = np.random.default_rng(0)
    examples = []
    for i in range(48):
        photo = cv2.GaussianBlur(rng.integers(0, 256, (224, 224, 3)).astype(np.uint8), (0, 0), 1)
        score = cv2.resize(rng.random((14, 14), np.float32), (224, 224))
        examples.append(example(f"{i}", image=photo, score_map=score))
    assert len(write(tmp_path / "w", examples).encode()) < 6e6


def without_boxes():
    """A list of photos and labels alone, as an own folder is."""
    unknown = ("gt_known_loc", "top1_loc", "max_box_acc", "pxap", "central_box", "gaussian_pxap")
    return {**dict.fromkeys(unknown), "top1_acc": 0.75, "top5_acc": 1.0, "images": 12}


def test_rows_without_truth_are_one_sentence(tmp_path, capsys):
    plain = example("a", iou=None, true_boxes=np.zeros((0, 4)), box=None)
    text = write(tmp_path / "w", [plain], figures={"test": {"mine": without_boxes()}})
    parse(text)
    (table,) = re.findall(r"<table>.*?</table>", text, re.S)
    assert "Top-1 accuracy" in table and "\u2013" not in table
    assert "GT-known" not in table and "PxAP" not in table and "Gaussian" not in table
    (said,) = re.findall(r"mine has no .*?\.</p>", text)
    assert "no boxes and no masks" in said and "boxes=FILE.csv" in said
    assert "image,x0,y0,x1,y1[,class]" in said
    assert 'class="badge' not in text  # nor on a card
    out = tmp_path / "c.html"
    assert cli.main([str(tmp_path / "w"), f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "\u2013" not in printed and "boxes=FILE.csv" in printed
    known = {"test": {"mine": {**without_boxes(), "gt_known_loc": 0.5, "pxap": 0.5}}}
    assert "boxes=FILE.csv" not in write(tmp_path / "known", [plain], figures=known)


def test_a_part_is_named_in_words(tmp_path):
    entry = {"test": {"val": {"miou": 0.4, "images": 3}}}
    both = {**entry, "whole": "with CRF", "parts": {"before_crf": entry, "cam": entry, "x": entry}}
    text = write(tmp_path / "w", figures=both)
    heads = re.findall(r'<th scope="col">(.*?)</th>', text.partition("</table>")[0])
    assert heads == ["with CRF", "before the CRF", "thresholded class maps", "x"]
    assert "before_crf" not in text.partition("<summary>")[0]  # the record keeps its names


def test_links_lead_to_an_examples_files(tmp_path):
    files = {"heat map": "heatmaps/a b#1.jpg.png", "mask": "masks/javascript:x.png"}
    text = write(tmp_path / "w", [example("a", files=files)])
    links = [a["href"] for t, a in parse(text).tags if t == "a" and not a["href"].startswith("#")]
    assert links == ["./heatmaps/a%20b%231.jpg.png", "./masks/javascript%3Ax.png"]


def drawn_words(text):
    return re.findall(r'<h3>(.*?)</h3><p class="quiet">(.*?)</p>', text)


def test_the_page_says_what_was_drawn(tmp_path):
    """24 of 400 images were kept: 8 worst cases and a draw of 16."""
    many = [example(f"i{k}", iou=k / 30, side=8) for k in range(24)]
    given = {"test": {"test": {"gt_known_loc": 0.255, "images": 400}}}
    found = dict(drawn_words(write(tmp_path / "w", many, figures=given, worst=8, sample=16)))
    assert list(found) == ["test: worst cases", "test: drawn at random"]
    assert found["test: worst cases"].startswith("the 8 lowest IoUs of 400 at the chosen threshold")
    assert found["test: drawn at random"].startswith("16 of 400 images; the same in every run")
    few = {"test": {"test": {"images": 24}}}
    found = drawn_words(write(tmp_path / "all", many, figures=few, worst=8, sample=16))
    assert found == [("test: all 24 images", "lowest IoU first")]
    photos = [example(f"p{k}", iou=None, split="Photos", side=8) for k in range(3)]
    text = write(
        tmp_path / "p", photos, figures={"test": {}}, worst=0, sample=48,
        totals={"Photos": 100}, drawn="the first by name",
    )  # fmt: skip
    assert drawn_words(text) == [("Photos: the first by name", "3 of 100 images")]
    assert re.findall(r"</h4><code>(.*?)</code>", text) == ["p0", "p1", "p2"]
    text = write(tmp_path / "t", photos, totals={"Photos": 3}, worst=0, sample=48)
    assert drawn_words(text) == [("Photos: all 3 images", "")]


def test_a_class_whose_name_has_a_comma_is_one_class(tmp_path):
    """ImageNet has "tabby, tabby cat"; a photo of it that was called so is right."""
    name = "tabby, tabby cat"
    known = dataclasses.replace(example("a"), label=name, labels=(name,), predicted=name)
    wrong = dataclasses.replace(example("b"), label=name, labels=(name,), predicted="tabby")
    text = write(tmp_path / "run", [known, wrong])
    cards = {part.split('"')[0]: part for part in text.split('data-name="')[1:]}
    assert 'data-right="1"' in cards["a"] and 'data-right="0"' in cards["b"]
    assert 'data-classes="[&quot;tabby, tabby cat&quot;]"' in cards["a"]
    again = saved.load(str(tmp_path / "run")).examples
    assert [e.classes for e in again] == [(name,), (name,)]


def test_photos_without_truth_have_no_fold_of_figures(tmp_path):
    text = write(tmp_path / "run", [example("a")], figures={"test": {}})
    assert "All figures" not in text and "Configuration" in text
