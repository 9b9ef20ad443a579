"""A run in stages on its page: a row a stage, the figures over the rounds."""

import html
import re

import pytest

from wsol_jax.report import page, staged

TIMES = {
    "first": {"steps": 4, "train_seconds": 60.0, "tune/miou": 0.3},
    "seeds": {"images": 9, "foreground": 0.2, "unlabelled": 0.1, "seconds": 2.0},
    "second": {"steps": 4, "train_seconds": 61.0},
    "evaluate": {"seconds": 5.0},
}
LAST = {"test": {"val": {"miou": 0.562, "pixel_accuracy": 0.9}}, "threshold": 0.5}
# The paper's table 3, two rounds of it; the rest is made up.
TRAIN = {"seeds": 0.1427, "objects_1": 0.291, "refined_1": 0.348, "masks_1": 0.484}
TRAIN |= {"objects_2": 0.538, "masks_2": 0.579}
VAL = {"pixel_1": 0.444, "pixel_2": 0.516}


def labels(miou):
    return {"images": 9, "miou": miou, "labelled": 1.0, "accuracy": 0.875}


def network(miou, plain):
    return {
        "test": {"val": {"miou": miou, "images": 3}},
        "parts": {
            "before_crf": {"test": {"val": {"miou": plain}}},
            "cam": {"test": {"val": {"miou": 0.123}}},
        },
    }


def mcof():
    """What two rounds leave; the last network's figures are the run's own."""
    order = "superpixels saliency first seeds region_1 objects_1 refined_1 pixel_1 masks_1 "
    order += "region_2 objects_2 pixel_2 masks_2"
    stages = {}
    for name in order.split():
        trains = name == "first" or name.startswith(("region", "pixel"))
        stages[name] = {"train_seconds": 100.0} if trains else {"seconds": 7.0}
        if name in TRAIN:
            stages[name]["labels"] = labels(TRAIN[name])
    for name in ("superpixels", "saliency"):
        stages[name]["labels"] = {}  # no classes to score
    stages["pixel_1"] |= network(VAL["pixel_1"], 0.432)
    stages["masks_2"]["changed"] = 0.031
    stages["evaluate"] = {"seconds": 9.0}
    return {**network(VAL["pixel_2"], 0.501), "threshold": 0.5, "stages": stages}


def cells(text):
    """The rows of a page's table by their names."""
    found = {}
    for row in re.findall(r"<tr>(?:(?!</tr>).)*scope=\"row\">.*?</tr>", text, re.S):
        name, *rest = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        found[name] = list(map(html.unescape, rest))
    return found


def test_a_row_a_stage_in_order():
    text = staged.part(mcof())
    found = cells(text)
    order = [name for name in mcof()["stages"] if name != "evaluate"]
    assert list(found) == order
    assert found["region_1"] == ["", "", "", "", "", "", "1 min 40 s"]  # so that times add up
    blank = ["", "", ""]
    assert found["seeds"] == ["14.3 %", "100.0 %", "87.5 %", "", "", "", "7 s"]
    assert found["pixel_1"] == [*blank, "44.4 %", "43.2 %", "", "1 min 40 s"]
    assert found["pixel_2"] == [*blank, "51.6 %", "50.1 %", "", "1 min 40 s"]
    assert found["masks_2"] == ["57.9 %", "100.0 %", "87.5 %", "", "", "3.1 %", "7 s"]
    assert text.index("seeds") < text.index("Round 1") < text.index("objects_1")
    assert text.index("masks_1") < text.index("Round 2") < text.index("objects_2")
    assert "training list's masks" in html.unescape(text)
    heads = re.findall(r'scope="colgroup" colspan="(\d)">(.*?)</th>', text)
    assert heads[:2] == [("3", "labels on the training list"), ("2", "val")]


def test_the_curve_over_the_rounds():
    points = staged.curves(staged.rows(mcof()))
    assert points == {
        "mean IoU/objects, training list": [(1, 0.291), (2, 0.538)],
        "mean IoU/masks, training list": [(1, 0.484), (2, 0.579)],
        "mean IoU/pixel, val": [(1, 0.444), (2, 0.516)],
    }
    text = staged.part(mcof())
    assert text.count("<polyline") == 3 and text.count("<figure") == 1
    assert ">round</text>" in text and "51.6 %" in text.partition("<figure")[2]
    assert re.findall(r'class="tick".*?text-anchor="middle">([^<]*)<', text) == ["1", "2"]


def test_one_round_has_no_curve_and_no_headings():
    figures = mcof()
    later = [n for n in figures["stages"] if n.endswith("_2")]
    figures["stages"] = {n: x for n, x in figures["stages"].items() if n not in later}
    text = staged.part(figures)
    assert "masks_1" in text and "<figure" not in text and "Round" not in text
    assert cells(text)["pixel_1"][3] == "51.6 %"  # the last network now


@pytest.mark.parametrize("figures", [{}, LAST, {**LAST, "stages": TIMES}])
def test_nothing_is_shown_where_only_times_are_known(figures):
    assert staged.part(figures) == staged.text_table(figures) == "" == staged.part({})


def test_products_have_rows_of_their_own():
    stages = {name: dict(own) for name, own in TIMES.items()}
    stages["seeds"]["labels"] = {"cues": labels(0.4), "wide": labels(0.3)}
    found = cells(staged.part({**LAST, "stages": stages}))
    assert list(found) == ["first", "seeds/cues", "seeds/wide", "second"]
    assert found["seeds/wide"][0] == "30.0 %" and found["second"][3:5] == ["56.2 %", "90.0 %"]


def test_a_list_without_masks_has_no_rows_of_labels():
    """``score_labels`` found nothing to compare with."""
    stages = {name: dict(own) for name, own in TIMES.items()}
    stages["seeds"]["labels"] = {"images": 0, **dict.fromkeys(("miou", "labelled", "accuracy"))}
    assert staged.rows({**LAST, "stages": stages}) == []


def test_networks_without_label_stages_and_two_lists():
    """Two-phase learning with eval.stages: boxes, no segmentation."""
    test = lambda x: {"test": {n: {"gt_known_loc": x, "pxap": x / 2} for n in ("a", "b")}}
    stages = {
        "first": {"train_seconds": 1.0, **test(0.5)},
        "second": {"train_seconds": 1.0},
        "evaluate": {"seconds": 1.0},
    }
    found = cells(staged.part({**test(0.6), "stages": stages}))
    assert found["first"] == ["50.0 %", "25.0 %", "50.0 %", "25.0 %", "1 s"]
    assert found["second"] == ["60.0 %", "30.0 %", "60.0 %", "30.0 %", "1 s"]


def test_the_table_of_the_terminal():
    lines = staged.text_table(mcof()).splitlines()
    assert len(lines) == 2 + 13 and max(map(len, lines)) <= 120
    assert lines[1].split()[:3] == ["stage", "mean", "IoU"]
    assert lines[5].split() == ["seeds", "14.3", "%", "100.0", "%", "87.5", "%", "7", "s"]
    # What stands in one column ends in one column.
    ends = {line.index(x) + len(x) for line, x in ((lines[9], "44.4 %"), (lines[13], "51.6 %"))}
    assert len(ends) == 1


def test_the_page_has_the_part(tmp_path):
    def write(figures):
        page.write_report(
            tmp_path / "report.html", title="MCOF", config_text="", figures=figures, curves={},
            examples=(), threshold=0.5,
        )  # fmt: skip
        return (tmp_path / "report.html").read_text()

    assert "Stage by stage" in write(mcof())
    assert "Stage by stage" not in write({**LAST, "stages": TIMES})
