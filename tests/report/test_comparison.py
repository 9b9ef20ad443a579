"""What a page says of classes, thresholds and pairs of runs, against plain numpy on the rows."""

import json
import re

import cv2
import numpy as np
import pytest
import sklearn.metrics
from helpers.pages import HOSTILE, dump, example, parse, without_policy
from helpers.scored import TAU, Made

from wsol_jax.base.errors import UserError
from wsol_jax.evaluate.boxes import BoxScores
from wsol_jax.metrics.boxes import THRESHOLDS
from wsol_jax.metrics.maps import MAP_SIZE, prepare_map
from wsol_jax.report import __main__ as cli
from wsol_jax.report import cases, classes, comparison, page, pairs, saved, svg, tables, thresholds


def average_precision(counts):
    """Scikit-learn's, each bin a sample of its lower edge."""
    edge = np.tile(np.arange(counts.shape[-1]), 2)
    truth = np.repeat([0, 1], counts.shape[-1])
    return sklearn.metrics.average_precision_score(truth, edge, sample_weight=counts.ravel())


def raw_maps(made, seed=0):
    rng = np.random.default_rng(seed)
    return {i: rng.normal(100, 3, (7, 9)).astype(np.float32) for i in made.ids}


def columns(text, kind="classes"):
    """The class tables' rows as lists of text."""
    rows = re.findall(r"<tr><th scope=row>(.*?)</th>(.*?)</tr>", text)
    return [[name, *re.findall(r"<td[^>]*>(.*?)</td>", cells)] for name, cells in rows]


# ------------------------------------------------------------------------------ classes


def test_class_figures_are_those_of_the_rows():
    made = Made(n=60, c=7)
    found = made.scores.by_class(TAU)
    for k in range(7):
        mine = made.labels == k
        assert found.images[k] == mine.sum()
        assert found.values["gt_known_loc"][k] == np.mean(made.ious[mine, 300] >= 0.5)
        assert found.values["top1_acc"][k] == np.mean(made.right[mine])
        expected = average_precision(made.counts[mine].sum(axis=0))
        assert found.values["pxap"][k] == pytest.approx(expected, abs=1e-12)


def test_classes_without_images_are_counted_and_unknown_figures_are_absent():
    made = Made(c=6, empty=(0, 4), masks=False)
    text = classes.table({"": made.scores.by_class(TAU)})
    rows = columns(text)
    assert sorted(r[0] for r in rows) == [f"class {k}" for k in (1, 2, 3, 5)]
    assert "2 more have no image" in text and "PxAP" not in text
    assert all(len(r) == 4 for r in rows)  # class, images, GT-known, Top-1
    bare = Made(boxes=False, masks=False)
    assert len(columns(classes.table({"": bare.scores.by_class(TAU)}))[0]) == 3
    nothing = BoxScores(class_names=("a", "b")).by_class(TAU)
    assert classes.table({"": nothing}) == ""


def test_two_runs_classes_stand_by_their_difference():
    a, b = Made(n=200, c=6), Made(n=200, c=6, seed=1)
    text = classes.table({n: m.scores.by_class(TAU) for n, m in (("a", a), ("b", b))})
    rates = [[np.mean(m.ious[m.labels == k, 300] >= 0.5) for k in range(6)] for m in (a, b)]
    gaps = np.subtract(rates[1], rates[0])
    rows = columns(text)
    assert [r[0] for r in rows] == [f"class {k}" for k in np.argsort(-gaps, kind="stable")]
    for name, images, one, other, gap, *_ in rows:
        k = int(name.split()[1])
        assert int(images) == (a.labels == k).sum()
        assert (one, other) == tuple(f"{100 * r[k]:.1f}" for r in rates)
        assert float(gap.replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * gaps[k], abs=0.051)
    assert text.count('aria-sort="descending"') == 1


def test_many_classes_show_both_ends_and_a_fold():
    a, b = Made(n=400, c=200, masks=False), Made(n=400, c=200, seed=1, masks=False)
    gaps = [
        np.mean(b.ious[b.labels == k, 300] >= 0.5) - np.mean(a.ious[a.labels == k, 300] >= 0.5)
        for k in range(200)
    ]
    figures = {n: m.scores.by_class(TAU) for n, m in (("a", a), ("b", b))}
    text = classes.table(figures)
    short, fold = text.split("<details>")
    shown = [gaps[int(r[0].split()[1])] for r in columns(short)]
    assert shown == sorted(gaps)[::-1][:10] + sorted(gaps)[:10]
    assert len(columns(fold)) == 200
    alone = classes.table({"": figures["a"]}).split("<details>")[0]
    values = [float(r[2]) for r in columns(alone)]
    assert values == [0.0] * 10 + [100.0] * 10


def test_three_runs_classes_stand_by_their_range():
    made = [Made(n=200, c=30, seed=s) for s in range(3)]
    text = classes.table({str(s): m.scores.by_class(TAU) for s, m in enumerate(made)})
    rates = np.array(
        [[np.mean(m.ious[m.labels == k, 300] >= 0.5) for k in range(30)] for m in made]
    )
    shown = [int(r[0].split()[1]) for r in columns(text.split("<details>")[0])]
    assert shown == list(np.argsort(-np.ptp(rates, axis=0), kind="stable")[:10])
    assert "aria-sort" not in text and tables.DELTA not in text


def test_names_of_classes_runs_and_lists_are_escaped(tmp_path):
    runs = {}
    for seed, name in enumerate((HOSTILE, "b")):
        made = Made(seed=seed)
        made.scores.class_names = tuple(f"{HOSTILE}{k}" for k in range(5))
        runs[name] = made.run(HOSTILE, maps={HOSTILE: raw_maps(made)})
    runs["c"] = Made(n=3).run(HOSTILE)
    comparison.write_comparison(tmp_path / "c.html", runs)
    text = (tmp_path / "c.html").read_text("utf-8")
    assert sum(t == "script" for t, _ in parse(text).tags) == 2
    assert "<script>alert" not in text


def test_page_of_a_thousand_classes_stays_small(tmp_path):
    runs = {n: Made(n=1500, c=1000, seed=s, masks=False).run() for s, n in enumerate("ab")}
    comparison.write_comparison(tmp_path / "c.html", runs)
    text = (tmp_path / "c.html").read_text("utf-8")
    parse(text)
    assert len(columns(text)) == 1020
    assert len(text.encode()) < 420_000  # with what is known of 3,000 images


# ------------------------------------------------------------------------------ thresholds


def polylines(text):
    found = re.findall(r'<polyline class="s\d" points="([^"]+)"', text)
    return [np.array([[float(v) for v in p.split(",")] for p in x.split()]) for x in found]


def test_accuracy_curves_lie_where_the_rows_say():
    made = Made(n=30)
    made.ious = np.sort(made.ious, axis=1)
    made.scores.boxes = type(made.scores.boxes)()
    made.scores.boxes.update(made.ids, made.ious, made.ious)
    text = thresholds.charts({"": (made.scores, TAU)})
    boxes, pixels = re.findall(r"<figure.*?</figure>", text, re.S)
    top = re.findall(r'y="([\d.]+)" text-anchor="end">', boxes)  # of 0 % and of 100 %
    zero, full = float(top[0]) - 4, float(top[-1]) - 4
    for delta, path in zip((0.3, 0.5, 0.7), polylines(boxes), strict=True):
        expected = np.mean(made.ious >= delta, axis=0)
        # 0.999 is the last threshold; the axis goes to 1.
        x = (path[:, 0] - path[0, 0]) / (path[-1, 0] - path[0, 0]) * 999
        drawn = np.interp(np.arange(1000), x, (path[:, 1] - zero) / (full - zero))
        assert np.abs(drawn - expected).max() < 1 / 30 + 0.01  # a step is drawn as a slope
        assert np.abs(drawn - expected).mean() < 0.004
        assert f"{100 * expected[300]:.1f} % at τ 0.3" in boxes
    assert len(polylines(pixels)) == 1
    total = made.counts.sum(axis=0)
    hit, marked = total[1, ::-1].cumsum(), total[:, ::-1].sum(axis=0).cumsum()
    path = polylines(pixels)[0]
    assert path[-1, 0] != path[0, 0]
    best = (hit / (marked + hit[-1] - hit)).max()
    assert f"best IoU {100 * best:.1f} %" in pixels


def test_runs_keep_their_colours_in_every_chart():
    runs = {"a": (Made(boxes=False).scores, TAU), "b": (Made(seed=1).scores, TAU)}
    figures = re.findall(r"<figure.*?</figure>", thresholds.charts(runs), re.S)
    assert [set(re.findall(r'polyline class="(s\d)"', f)) for f in figures] == [
        *[{"s1"}] * 3,
        {"s0", "s1"},
    ]
    assert thresholds.charts({"a": (BoxScores(), TAU)}) == ""


def test_lines_at_zero_have_finite_coordinates():
    line = svg.Line("a", 0, THRESHOLDS, np.zeros(1000), (0.2, 0.0), "t")
    text = svg.plot("t", "x", [line])
    assert "nan" not in text and len(polylines(text)[0]) == 2


# ------------------------------------------------------------------------------ pairs


def test_paired_differences_are_those_of_the_rows():
    a, b = Made(n=80), Made(n=80, seed=1)
    found = BoxScores.paired([a.scores], [b.scores], ([TAU], [float(THRESHOLDS[500])]))
    assert set(found) == {"top1_acc", "gt_known_loc", "max_box_acc", "max_box_acc_v2", "pxap"}
    rows = {
        "top1_acc": b.right.astype(float) - a.right,
        "gt_known_loc": (b.ious[:, 500] >= 0.5).astype(float) - (a.ious[:, 300] >= 0.5),
    }
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, 80, (4000, 80))
    for name, row in rows.items():
        assert found[name].value == pytest.approx(row.mean(), abs=1e-12)
        ends = np.quantile(row[drawn].mean(axis=1), (0.025, 0.975))
        np.testing.assert_allclose([found[name].low, found[name].high], ends, atol=0.02)
    peak = [np.mean(m.ious >= 0.5, axis=0).max() for m in (a, b)]
    assert found["max_box_acc"].value == pytest.approx(peak[1] - peak[0], abs=1e-12)
    pxap = [average_precision(m.counts.sum(axis=0)) for m in (a, b)]
    assert found["pxap"].value == pytest.approx(pxap[1] - pxap[0], abs=1e-12)


def test_difference_table_shows_signs_and_what_is_sure():
    a, b = Made(n=80), Made(n=80, seed=1)
    b.scores.hits = type(a.scores.hits)(a.scores.hits.names)
    for name in b.ids:
        b.scores.hits.update(name, {"top1_acc": True})
    text = pairs.difference_table("test", {"a": a.run(), "b": b.run()})
    gain = 100 * (1 - a.right.mean())
    assert f'<td class="best" data-label="difference">+{gain:.1f}</td>' in text
    parse(text)
    three = pairs.difference_table("test", {"a": a.run(), "b": b.run(), "c": a.run()})
    assert three.count("<tbody>") == 2 and "0.0 … 0.0" in three


def test_images_that_differ_most():
    a, b = Made(n=50), Made(n=50, seed=1)
    gap = b.ious[:, 300].astype(np.float32) - a.ious[:, 300].astype(np.float32)
    up, down = pairs.differ_most(a.scores, b.scores, 6)
    assert up == [a.ids[k] for k in np.argsort(-gap)[:6]]
    assert down == [a.ids[k] for k in np.argsort(gap)[:6]]
    among = set(a.ids[10:13])
    up, down = pairs.differ_most(a.scores, b.scores, 6, among)
    assert set(up) | set(down) == among
    assert pairs.differ_most(a.scores, a.scores, 6) == ([], [])


def test_kept_maps_come_back_as_the_same_maps(tmp_path):
    made = Made(n=6)
    raw = raw_maps(made)
    cases.save_maps(tmp_path / "maps" / "test.npz", list(raw), raw.values())
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["test.npz"]
    back = cases.load_maps(tmp_path, "test")
    assert list(back) == made.ids
    for name, one in raw.items():
        np.testing.assert_allclose(prepare_map(back[name]), prepare_map(one), atol=2e-3)
    assert cases.load_maps(tmp_path, "other") == {}
    cases.save_maps(tmp_path / "maps" / "none.npz", [], [])
    assert cases.load_maps(tmp_path, "none") == {}
    (tmp_path / "maps" / "test.npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(UserError, match=r"test\.npz is damaged"):
        cases.load_maps(tmp_path, "test")


def test_shelves_show_both_runs_on_the_images_that_differ_most(tmp_path):
    a, b = Made(n=30), Made(n=30, seed=1)
    runs = {
        n: m.run(maps={"test": raw_maps(m, s)}) for s, (n, m) in enumerate([("a", a), ("b", b)])
    }
    asked = []

    def photos(name, ids):
        asked.extend(ids)
        return {i: np.full((40, 60, 3), 200, np.uint8) for i in ids[1:]}

    found = pairs.shelves(runs, 4, photos)
    expected = pairs.differ_most(a.scores, b.scores, 4)
    assert [h for h, *_ in found] == ["b ahead of a", "a ahead of b"]
    assert [[c["a"].image_id for c in cards] for *_, cards in found] == list(expected)
    assert asked == [*expected[0], *expected[1]]
    assert "1 photos are not on this machine" in found[0][1] and "all images" in found[0][1]
    card = found[0][2][1]
    for name, made in zip("ab", (a, b), strict=True):
        one = card[name]
        k = made.ids.index(one.image_id)
        assert one.iou == pytest.approx(made.ious[k, 300], abs=1e-6)
        assert one.image.shape == (40, 60, 3)
        assert one.label == f"class {made.labels[k]}"
        assert (one.predicted == one.label) == made.right[k]
        np.testing.assert_allclose(one.true_boxes * MAP_SIZE, [[20, 30, 120, 150]])
        level = int(TAU * (255 * one.score_map).astype(np.uint8).max())
        contour = cv2.findContours(
            ((255 * one.score_map).astype(np.uint8) > level).astype(np.uint8),
            cv2.RETR_TREE,
            cv2.CHAIN_APPROX_SIMPLE,
        )[0]
        x, y, w, h = cv2.boundingRect(max(contour, key=cv2.contourArea))
        np.testing.assert_allclose(
            one.box * MAP_SIZE, [x, y, min(x + w, 223), min(y + h, 223)], atol=1e-4
        )
    comparison.write_comparison(tmp_path / "c.html", runs, photos=photos, most=8)
    text = (tmp_path / "c.html").read_text("utf-8")
    parse(text)
    assert re.findall(r"</h4><code>(.*?)</code>", text) == [*expected[0], *expected[1]]
    assert text.count('class="panel"') == 16


def test_a_photo_of_one_runs_gallery_serves_the_other():
    a, b = Made(n=10), Made(n=10, seed=1)
    (best, *_), _ = pairs.differ_most(a.scores, b.scores, 1)
    stored = example(best)
    runs = {
        "a": a.run(maps={"test": raw_maps(a)}, examples=[stored]),
        "b": b.run(maps={"test": raw_maps(b)}),
    }
    _, note, cards = pairs.shelves(runs, 1, lambda name, ids: {})[0]
    np.testing.assert_array_equal(cards[0]["b"].image, stored.image)
    assert cards[0]["a"].score_map is stored.score_map
    assert "1 photos" in note  # of the two cards that a list has at least


def test_without_kept_maps_the_gallerys_images_are_chosen_from():
    a, b = Made(n=10), Made(n=10, seed=1)
    runs = {n: m.run(examples=[example(i) for i in m.ids[:4]]) for n, m in (("a", a), ("b", b))}
    found = pairs.shelves(runs, 8, lambda name, ids: {})
    shown = {c["a"].image_id for *_, cards in found for c in cards}
    assert shown == set(a.ids[:4])
    assert all("the 4 kept images" in note for _, note, _ in found)


# ------------------------------------------------------------------------------ sentences


def written(folder, made, name="test"):
    """A work directory as a finished run leaves it, as far as a page reads it."""
    run = made.run(name, examples=[example(made.ids[0], split=name)])
    folder.mkdir()
    saved.save(folder / saved.FILE, run)
    made.scores.save(folder / "scores" / f"{name}.npz")
    raw = raw_maps(made)
    cases.save_maps(folder / cases.FOLDER / f"{name}.npz", list(raw), raw.values())
    return str(folder)


def told(tmp_path, capsys, *workdirs):
    """The sentences that the command prints under its table; each must stand on the page."""
    out = tmp_path / "c.html"
    assert cli.main([*workdirs, f"--out={out}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    sentences = [s for s in printed if s.endswith((".", "it."))]
    text = out.read_text("utf-8")
    parse(text)
    assert all(s in text for s in sentences)
    return sentences, text


def test_runs_on_the_same_images_from_their_folders(tmp_path, capsys):
    folders = [written(tmp_path / n, Made(seed=s)) for s, n in enumerate("ab")]
    sentences, text = told(tmp_path, capsys, *folders)
    assert sentences == []
    for heading in ("Differences", "Over all thresholds", "Class by class"):
        assert f"<h2>{heading}</h2>" in text
    assert "b ahead of a" in text


@pytest.mark.parametrize(
    ("other", "name", "sentence"),
    [
        (dict(n=39), "test", "a and b did not score the same images (40 and 39, 39 in both) "),
        (dict(), "val", "a (test) and b (val) have no test list in common: nothing "),
        (dict(c=4), "test", "a and b give the same images other classes of list test"),
    ],
)
def test_runs_that_cannot_be_paired_are_one_sentence(tmp_path, capsys, other, name, sentence):
    a = written(tmp_path / "a", Made())
    b = written(tmp_path / "b", Made(seed=1, **other), name)
    sentences, text = told(tmp_path, capsys, a, b)
    assert len(sentences) == 1 and sentences[0].startswith(sentence)
    assert "<h2>Differences</h2>" not in text and "ahead of" not in text
    assert "<h2>Class by class</h2>" in text


def test_a_run_of_an_older_version_is_shown_without_classes(tmp_path, capsys):
    made = Made()
    made.scores.class_names = ()
    for part in ("classes", "ious", "truth"):
        setattr(made.scores, part, getattr(BoxScores(), part))
    folder = written(tmp_path / "a", made)
    path = tmp_path / "a" / "scores" / "test.npz"
    rows = dict(np.load(path))
    kept = {k: v for k, v in rows.items() if k.split("/")[0] not in ("classes", "ious", "truth")}
    kept.pop("class_names")
    np.savez(path, **kept)
    sentences, text = told(tmp_path, capsys, folder, written(tmp_path / "b", Made(seed=1)))
    assert len(sentences) == 1 and "--mode=evaluate" in sentences[0]
    assert "<h2>Differences</h2>" in text


def test_damaged_scores_are_one_sentence(tmp_path, capsys):
    folder = written(tmp_path / "a", Made())
    (tmp_path / "a" / "scores" / "test.npz").write_bytes(b"PK\3\4 cut off")
    assert cli.main([folder, f"--out={tmp_path / 'c.html'}"]) == 2
    assert "test.npz is damaged" in capsys.readouterr().err


# ------------------------------------------------------------------------------ the page


def test_page_of_one_run_has_curves_and_classes(tmp_path):
    made = Made()
    page.write_report(
        tmp_path / "report.html",
        title="t",
        config_text="",
        figures=made.run().figures,
        curves={},
        examples=[],
        threshold=TAU,
        scores={"test": made.scores, "more": Made(seed=1).scores},
    )
    text = (tmp_path / "report.html").read_text("utf-8")
    parse(text)
    assert re.findall(r"<h3>(.*?)</h3>", text) == ["test", "more"] * 3
    assert text.count("<polyline") == 2 * 4 and text.count("sortable") >= 2


def test_a_heading_orders_the_classes(browser, tmp_path):
    a, b = Made(n=60, c=12), Made(n=60, c=12, seed=1)
    comparison.write_comparison(tmp_path / "c.html", {"a": a.run(), "b": b.run()})
    clicks = """<script>
    const order = () => [...document.querySelectorAll("table.sortable tbody th")]
      .map((h) => h.textContent).join();
    const told = [];
    for (const k of [0, 2, 2]) {
      const head = document.querySelectorAll("table.sortable thead tr:last-child th")[k];
      head.querySelector("button").click();
      told.push(order() + ";" + head.getAttribute("aria-sort"));
    }
    document.body.dataset.told = JSON.stringify(told);
    </script></body>"""
    text = without_policy(tmp_path / "c.html").replace("</body>", clicks)
    (tmp_path / "c.html").write_text(text, "utf-8")
    panels, _ = dump(browser, tmp_path / "c.html", "", tmp_path / "profile")
    by_name, high, low = json.loads(panels.attributes["data-told"])
    assert by_name == ",".join(f"class {k}" for k in range(12)) + ";ascending"
    rates = [np.mean(a.ious[a.labels == k, 300] >= 0.5) for k in range(12)]
    for shown, kind, sign in ((high, "descending", -1), (low, "ascending", 1)):
        names, told = shown.split(";")
        values = [rates[int(n.split()[1])] for n in names.split(",")]
        assert told == kind and values == sorted(rates, key=lambda v: sign * v)
