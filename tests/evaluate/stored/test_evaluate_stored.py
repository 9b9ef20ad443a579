"""Maps on disk to figures, as a user runs it; against a slow OpenCV route written down here."""

import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from wsol_jax.evaluate import __main__ as evaluate
from wsol_jax.evaluate.stored import layout as stored
from wsol_jax.metrics.maps import prepare_map

ROOT = pathlib.Path(__file__).parents[3]
IDS = ["val/ILSVRC2012_val_00000001.JPEG", "a b/c d.jpg", "comma,in it.png", "plain"]
IDS += [f"class {i % 5}/{i:03}.jpg" for i in range(32)]


def blob_map(rng, box, size):
    """A bump on the box plus noise, (224, 224) float32 in [0, 1]."""
    x0, y0, x1, y1 = (v / s * 14 for v, s in zip(box, (*size, *size), strict=True))
    grid = np.arange(14) + 0.5
    bump = np.exp(
        -(((grid[None] - (x0 + x1) / 2) / (1 + x1 - x0)) ** 2)
        - ((grid[:, None] - (y0 + y1) / 2) / (1 + y1 - y0)) ** 2
    )
    return prepare_map(bump + 0.7 * rng.random((14, 14)))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))  # as published: no line end at the file's


@pytest.fixture
def tree(tmp_path):
    """tmp_path/metadata and tmp_path/maps of a few dozen images; every third has two boxes."""
    rng = np.random.default_rng(0)
    sizes, boxes, labels = [], [], []
    for i, image_id in enumerate(IDS):
        width, height = map(int, rng.integers(60, 500, 2))
        found = []
        for _ in range(2 if i % 3 == 0 else 1):
            x0, y0 = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
            x1, y1 = int(rng.integers(x0 + 5, width)), int(rng.integers(y0 + 5, height))
            found.append((x0, y0, x1, y1))
        sizes.append(f"{image_id},{width},{height}")
        boxes += [f"{image_id},{','.join(map(str, box))}" for box in found]
        labels.append(f"{image_id},{i % 7}")
        name = image_id if i % 2 else os.path.splitext(image_id)[0]
        save(tmp_path / "maps" / f"{name}.npy", blob_map(rng, found[0], (width, height)))
    for name, lines in (
        ("image_ids", IDS),
        ("image_sizes", sizes),
        ("localization", boxes),
        ("class_labels", labels),
    ):
        write_lines(tmp_path / "metadata" / f"{name}.txt", lines)
    return tmp_path


def words(tree, *more):
    return [f"--scoremaps={tree / 'maps'}", f"--metadata={tree / 'metadata'}", *more]


def scored(tree, *more):
    out = tree / "figures.json"
    assert evaluate.main(words(tree, f"--out={out}", *more)) == 0
    return json.loads(out.read_text())


def refused(capsys, arguments):
    """The one sentence of a refused command."""
    assert evaluate.main(arguments) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def map_path(tree, image_id):
    path = tree / "maps" / f"{image_id}.npy"
    return path if path.is_file() else tree / "maps" / f"{os.path.splitext(image_id)[0]}.npy"


# ---- the community's definition, slowly ----


def slow_iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    area = lambda c: (c[2] - c[0] + 1) * (c[3] - c[1] + 1)
    return width * height / (area(a) + area(b) - width * height)


def slow_boxes(score_map, tau):
    """The largest contour's box, and all contours' boxes."""
    grey = (score_map * 255).astype(np.uint8)
    _, binary = cv2.threshold(grey, int(tau * grey.max()), 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return [0, 0, 0, 0], [[0, 0, 0, 0]]

    def box(contour):
        x, y, w, h = cv2.boundingRect(contour)
        return [x, y, min(x + w, 223), min(y + h, 223)]

    return box(max(contours, key=cv2.contourArea)), [box(c) for c in contours]


def slow_curves(tree, taus):
    """(2, 3, T): accuracy by version, delta and threshold."""
    sizes, truth = {}, {}
    for line in (tree / "metadata" / "image_sizes.txt").read_text().split("\n"):
        image_id, width, height = line.rsplit(",", 2)
        sizes[image_id] = (int(width), int(height))
    for line in (tree / "metadata" / "localization.txt").read_text().split("\n"):
        image_id, *box = line.rsplit(",", 4)
        box = [int(int(v) * 224 / s) for v, s in zip(box, 2 * sizes[image_id], strict=True)]
        truth.setdefault(image_id, []).append(box)
    hits = np.zeros((2, 3, len(taus)))
    for image_id in IDS:
        score_map = np.load(map_path(tree, image_id))
        for t, tau in enumerate(taus):
            largest, every = slow_boxes(score_map, tau)
            v1 = max(slow_iou(largest, b) for b in truth[image_id])
            v2 = max(slow_iou(a, b) for a in every for b in truth[image_id])
            for d, delta in enumerate((0.3, 0.5, 0.7)):
                hits[:, d, t] += (v1 >= delta, v2 >= delta)
    return hits / len(IDS)


def test_figures_equal_the_slow_route(tree):
    # Normalised maps have 255 levels: these thresholds meet each of them once.
    taus = np.unique(np.searchsorted(np.trunc(np.arange(0, 1, 0.001) * 255), range(255)) * 0.001)
    curves = slow_curves(tree, taus)
    found = scored(tree)
    assert list(found) == ["max_box_acc", "max_box_acc_v2", "gt_known_loc"]
    assert found["max_box_acc"]["value"] == pytest.approx(curves[0, 1].max(), abs=1e-12)
    assert found["max_box_acc_v2"]["value"] == pytest.approx(
        curves[1].max(axis=1).mean(), abs=1e-12
    )
    assert found["gt_known_loc"]["value"] == found["max_box_acc"]["value"]
    for delta, value in zip(("0.3", "0.5", "0.7"), curves[1].max(axis=1), strict=True):
        assert found["max_box_acc_v2"]["deltas"][delta] == pytest.approx(value, abs=1e-12)
    fixed = scored(tree, "--metrics=gt_known_loc", "--threshold=0.2")["gt_known_loc"]
    at = int(np.searchsorted(taus, 0.2 + 1e-9)) - 1
    assert fixed["value"] == pytest.approx(curves[0, 1, at], abs=1e-12)
    assert (fixed["threshold"], fixed["threshold_from"]) == (0.2, "--threshold")
    for entry in found.values():
        low, high = entry["interval"]
        assert low <= entry["value"] <= high and entry["images"] == len(IDS)


def write_masks(tree, plain):
    """Random masks as a plain folder or in OpenImages' layout; the truth at 224 pixels."""
    rng = np.random.default_rng(1)
    rows, truth = [], {}
    for i, image_id in enumerate(IDS):
        shape = tuple(map(int, rng.integers(50, 300, 2)))
        first = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.6
        second = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.7
        ignore = cv2.resize(rng.random((4, 4)), shape[::-1]) > 0.7
        small = [
            cv2.resize(m.astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST) > 0
            for m in (first, second, ignore)
        ]
        (tree / "masks").mkdir(exist_ok=True)
        if plain:
            mask = np.where(first | second, 1 + i % 3, np.where(ignore, 255, 0))
            path = tree / "masks" / f"{image_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)
        else:
            for name, mask in (("a", first), ("b", second), ("ignore", ignore)):
                cv2.imwrite(str(tree / "masks" / f"{i}{name}.png"), 255 * mask.astype(np.uint8))
            rows += [f"{image_id},{i}a.png,{i}ignore.png", f"{image_id},{i}b.png,"]
        truth[image_id] = (small[0] | small[1], small[2] & ~(small[0] | small[1]))
    return rows, truth


@pytest.mark.parametrize("layout", ["plain", "metadata", "masks"])
def test_pxap_equals_a_sort_of_all_pixels(tree, layout):
    rows, truth = write_masks(tree, layout == "plain")
    if rows:
        write_lines(tree / layout / "localization.txt", rows)
    scores, kind = [], []
    for image_id in IDS:
        foreground, ignore = truth[image_id]
        scores.append(np.load(map_path(tree, image_id))[~ignore])
        kind.append(foreground[~ignore])
    scores, kind = np.concatenate(scores), np.concatenate(kind)
    bins = np.searchsorted(np.append(np.arange(0, 1, 0.001), 1.0), scores, side="right")
    precision, recall, total, last = [], [], kind.sum(), 0.0
    for b in sorted(set(bins.tolist()), reverse=True):
        chosen = bins >= b
        precision.append(kind[chosen].mean())
        recall.append(kind[chosen].sum() / total)
    expected = 0.0
    for p, r in zip(precision, recall, strict=True):
        expected, last = expected + p * (r - last), r
    found = scored(tree, f"--masks={tree / 'masks'}", "--metrics=pxap")["pxap"]
    assert found["value"] == pytest.approx(expected, abs=1e-9)
    assert found["interval"][0] < found["value"] < found["interval"][1]


def test_predictions_as_npz_and_as_text_agree(tree):
    rng = np.random.default_rng(2)
    values = rng.random((len(IDS), 7)).astype(np.float32)
    values[np.arange(len(IDS)), np.arange(len(IDS)) % 7] += 0.3
    order = rng.permutation(len(IDS))
    np.savez(tree / "p.npz", image_ids=np.array(IDS)[order], probabilities=values[order])
    ranked = np.argsort(-values, axis=1)[:, :5]
    lines = [f"{i},{','.join(map(str, r))}" for i, r in zip(IDS, ranked.tolist(), strict=True)]
    write_lines(tree / "p.csv", ["image_id,first,second", *lines])
    a = scored(tree, f"--predictions={tree / 'p.npz'}", "--threshold=0.3")
    assert a == scored(tree, f"--predictions={tree / 'p.csv'}", "--threshold=0.3")
    right = ranked == (np.arange(len(IDS)) % 7)[:, None]
    assert a["top1_acc"]["value"] == pytest.approx(right[:, 0].mean())
    assert a["top5_acc"]["value"] == pytest.approx(right.any(axis=1).mean())
    assert a["top1_loc"]["value"] <= min(a["top1_acc"]["value"], a["gt_known_loc"]["value"])
    assert a["top1_loc"]["value"] <= a["top5_loc"]["value"] <= a["gt_known_loc"]["value"]
    assert len(a["top5_loc"]["interval"]) == 2


def test_the_number_of_workers_changes_no_bit(tree):
    write_masks(tree, plain=True)
    assert scored(tree, f"--masks={tree / 'masks'}", "--workers=1") == scored(
        tree, f"--masks={tree / 'masks'}", "--workers=5"
    )


# ---- what is wrong with a map is said of that map ----


def bad_maps():
    good = np.full((224, 224), 0.5, np.float32)
    nan, infinite = good.copy(), good.copy()
    nan[3, 4], infinite[3, 4] = np.nan, np.inf
    return {
        "NaN": nan,
        "infinity": infinite,
        "(28, 28)": good[:28, :28],
        "(1, 224, 224)": good[None],
        "[0, 127.5]": np.linspace(0, 127.5, 224 * 224).reshape(224, 224),
        "complex": good.astype(complex),
        "<U1": np.full((224, 224), "a"),
    }


@pytest.mark.parametrize(
    "what", [*bad_maps(), "pickle", "truncated", "truncated within", "no .npy", "empty", "npz"]
)
def test_a_bad_map_is_named(tree, capsys, what):
    path = tree / "maps" / "plain.npy"
    if what in bad_maps():
        save(path, bad_maps()[what])
    elif what == "pickle":

        class Trap:
            def __reduce__(self):
                return (pathlib.Path(tree / "trapped").touch, ())

        np.save(path, np.array([Trap()], object), allow_pickle=True)
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "truncated within":
        path.write_bytes(path.read_bytes()[:50])
    elif what == "no .npy":
        path.write_bytes(b"hello, this is no array of numbers")
    elif what == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path.with_suffix(".npz"), a=1)
        path.with_suffix(".npz").replace(path)
    told = refused(capsys, words(tree))
    expected = "no .npy" if what == "npz" else what
    assert str(path) in told and expected in told and "line 4" in told and "--skip_bad" in told
    assert not (tree / "trapped").exists()
    found = scored(tree, "--skip_bad")
    shown = capsys.readouterr()
    assert found["max_box_acc"]["images"] == len(IDS) - 1 and found["max_box_acc"]["skipped"] == 1
    assert str(path) in shown.err and "skipped: 1" in shown.out
    assert not (tree / "trapped").exists()


def test_a_header_that_lies_about_its_size_takes_no_memory(tree, capsys):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    data = b"\x93NUMPY\x01\x00" + (119 - 1).to_bytes(2, "little") + header.ljust(117) + b"\n"
    (tree / "maps" / "plain.npy").write_bytes(data)
    assert "truncated" in refused(capsys, words(tree, "--resize"))
    assert "(1000000, 1000000)" in refused(capsys, words(tree))


def test_missing_maps_are_counted_before_any_work(tree, capsys):
    (tree / "maps" / "plain.npy").unlink()
    map_path(tree, IDS[1]).unlink()
    told = refused(capsys, words(tree))
    assert "2 of 36" in told and f"{IDS[1]}.npy" in told and "line 2" in told
    assert scored(tree, "--skip_bad")["max_box_acc"]["skipped"] == 2


def test_an_empty_folder_and_no_folder(tree, capsys):
    (tree / "empty").mkdir()
    rest = [f"--metadata={tree / 'metadata'}", "--skip_bad"]
    assert "none of the 36" in refused(capsys, [f"--scoremaps={tree / 'empty'}", *rest])
    assert "no such folder" in refused(capsys, [f"--scoremaps={tree / 'nowhere'}", *rest])
    maps = f"--scoremaps={tree / 'maps'}"
    assert "no such folder" in refused(capsys, [maps, f"--metadata={tree / 'nowhere'}"])
    assert "image_ids.txt" in refused(capsys, [maps, f"--metadata={tree / 'empty'}"])


def test_every_map_bad(tree, capsys):
    for path in (tree / "maps").rglob("*.npy"):
        path.write_bytes(b"")
    assert "every image is bad" in refused(capsys, words(tree, "--skip_bad"))


def test_other_number_types_and_orders_are_read(tree):
    before = scored(tree)
    for i, image_id in enumerate(IDS):
        path = map_path(tree, image_id)
        kinds = (np.float64, ">f4", np.float32, ">f8")
        value = np.load(path).astype(kinds[i % 4])
        np.save(path, np.asfortranarray(value) if i % 3 else value)
    assert scored(tree) == before


def test_resize_and_normalise_follow_the_definition(tree, capsys):
    rng = np.random.default_rng(3)
    small = {image_id: 9 * rng.random((14, 14)) - 4 for image_id in IDS}
    for image_id, value in small.items():
        save(map_path(tree, image_id), prepare_map(value))
    expected = scored(tree)
    for image_id, value in small.items():
        save(map_path(tree, image_id), value)
    assert scored(tree, "--resize") == expected
    for image_id, value in small.items():
        large = cv2.resize(value.astype(np.float32), (224, 224), interpolation=cv2.INTER_CUBIC)
        save(map_path(tree, image_id), large)
    assert "--normalise" in refused(capsys, words(tree))
    assert scored(tree, "--normalise") == expected


# ---- what is wrong with an id or a metadata file is said with its line ----


@pytest.mark.parametrize(
    "image_id",
    [
        "../x",
        "a/../../x",
        "..",
        "/etc/passwd",
        "C:\\x",
        "c:/x",
        "a\\..\\..\\x",
        "a\0b",
        "a/",
        "\\x",
    ],
)
def test_ids_that_leave_the_folder_are_refused(tree, capsys, image_id):
    write_lines(tree / "metadata" / "image_ids.txt", [*IDS[:2], image_id])
    told = refused(capsys, words(tree, "--skip_bad"))
    assert "image_ids.txt, line 3" in told and "refused" in told


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_folder_are_refused(tree, capsys, what):
    outside = tree / "outside" / "x.npy"
    save(outside, np.zeros((224, 224), np.float32))
    if what == "file":
        (tree / "maps" / "plain.npy").unlink()
        (tree / "maps" / "plain.npy").symlink_to(outside)
    else:
        (tree / "maps" / "out").symlink_to(outside.parent)
        write_lines(tree / "metadata" / "image_ids.txt", [*IDS[:3], "out/x.jpg"])
    told = refused(capsys, words(tree, "--skip_bad"))
    assert "line 4" in told and "link" in told


def test_a_link_to_the_folder_itself_is_no_escape(tree):
    before = scored(tree)
    (tree / "maps").rename(tree / "elsewhere")
    (tree / "maps").symlink_to(tree / "elsewhere")
    assert scored(tree) == before


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("image_ids", "plain", "already on line 4"),
        ("image_sizes", "plain,10", "ID,WIDTH,HEIGHT"),
        ("image_sizes", "plain,0,10", "from 1"),
        ("image_sizes", "plain,10.5,10", "whole pixels"),
        ("image_sizes", "plain,7,7", "another size"),
        ("class_labels", "plain", "ID,CLASS"),
        ("class_labels", "plain,dog", "class index"),
        ("localization", "plain,1,2,3", "ID,X0,Y0,X1,Y1"),
        ("localization", "plain,1,2,3,nan", "with numbers"),
        ("localization", "plain,9,2,3,4", "X0 <= X1"),
    ],
)
def test_a_malformed_line_is_named(tree, capsys, name, line, told):
    path = tree / "metadata" / f"{name}.txt"
    lines = path.read_text().split("\n")
    write_lines(path, [*lines, line])
    sentence = refused(capsys, words(tree))
    assert f"{path}, line {len(lines) + 1}" in sentence and told in sentence


def test_latin_1_is_named_and_crlf_and_a_byte_order_mark_are_read(tree, capsys):
    before = scored(tree)
    for path in (tree / "metadata").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert scored(tree) == before
    with (tree / "metadata" / "image_ids.txt").open("ab") as file:
        file.write(b"caf\xe9.jpg\n")
    assert "line 38: it is not UTF-8" in refused(capsys, words(tree))


def test_one_map_for_two_images_is_refused(tree, capsys):
    write_lines(tree / "metadata" / "image_ids.txt", [*IDS, "class 0/000.png"])
    assert "would serve" in refused(capsys, words(tree))


def test_images_without_a_box_are_counted(tree, capsys):
    path = tree / "metadata" / "localization.txt"
    lines = path.read_text().split("\n")
    write_lines(path, [x for x in lines if not x.startswith("plain,")])
    assert scored(tree)["max_box_acc"]["images"] == len(IDS) - 1
    assert "1 of 36 images have no box (first 'plain')" in capsys.readouterr().out


def test_a_size_that_is_missing_is_named(tree, capsys):
    path = tree / "metadata" / "image_sizes.txt"
    write_lines(path, [x for x in path.read_text().split("\n") if not x.startswith("plain,")])
    assert "image_sizes.txt: no row for 'plain'" in refused(capsys, words(tree))


# ---- what a metric lacks is said by flag ----


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--metrics=pxap"], "--masks=DIR"),
        (["--metrics=top1_acc"], "--predictions=FILE"),
        (["--metrics=top5_loc"], "--predictions=FILE"),
        (["--metrics=max_box"], "'max_box' is not one of"),
        (["--metrics="], "--metrics is empty"),
        (["--threshold=1"], "--threshold"),
        (["--threshold=x"], "--threshold"),
        (["--workers=0"], "--workers"),
        (["--store_maps=x"], "--workdir"),
        (["--workdir=x"], "either"),
        (["--skip"], "--help"),
        (["--masks=nowhere"], "no such folder"),
        (["--predictions=nowhere"], "no such file"),
    ],
)
def test_flags_that_do_not_fit(tree, capsys, flags, told):
    assert told in refused(capsys, words(tree, *flags))


def test_no_flags_at_all(capsys):
    assert "--scoremaps=DIR" in refused(capsys, [])
    assert "--metadata=DIR" in refused(capsys, ["--scoremaps=x"])


@pytest.mark.parametrize("name", ["image_sizes", "localization", "class_labels"])
def test_a_file_that_a_metric_needs(tree, capsys, name):
    (tree / "metadata" / f"{name}.txt").unlink()
    metric = "top1_acc" if name == "class_labels" else "max_box_acc"
    flags = [f"--metrics={metric}", "--predictions=p"]
    assert f"{name}.txt" in refused(capsys, words(tree, *flags))


def test_boxes_wanted_where_masks_are_listed(tree, capsys):
    rows, _ = write_masks(tree, plain=False)
    write_lines(tree / "metadata" / "localization.txt", rows)
    assert "it lists masks" in refused(capsys, words(tree, "--metrics=max_box_acc"))
    assert "--masks=DIR" in refused(capsys, words(tree, "--metrics=pxap"))
    assert "allows no metric" in refused(capsys, words(tree))


def test_bad_masks(tree, capsys):
    rows, _ = write_masks(tree, plain=False)
    flags = words(tree, f"--masks={tree / 'masks'}", "--metrics=pxap")
    path = tree / "masks" / "localization.txt"
    assert "neither localization.txt" in refused(capsys, flags)
    write_lines(path, [*rows, f"{IDS[0]},../x.png,"])
    assert "line 73" in refused(capsys, flags)
    write_lines(path, [*rows, f"{IDS[0]},none.png,"])
    assert "none.png is missing" in refused(capsys, flags)
    assert scored(tree, *flags[2:], "--skip_bad")["pxap"]["skipped"] == 1
    assert "none.png cannot be read: No such file" in capsys.readouterr().err
    write_lines(path, rows)
    (tree / "masks" / "3a.png").write_bytes(b"no image")
    assert "3a.png is no image" in refused(capsys, flags)
    assert scored(tree, *flags[2:], "--skip_bad")["pxap"]["skipped"] == 1


def test_masks_of_0_and_255_in_a_plain_folder(tree, capsys):
    write_masks(tree, plain=True)
    for path in (tree / "masks").rglob("*.png"):
        cv2.imwrite(str(path), 255 * (cv2.imread(str(path), -1) > 0).astype(np.uint8))
    flags = [f"--masks={tree / 'masks'}", "--metrics=pxap"]
    assert "no mask has foreground" in refused(capsys, words(tree, *flags))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["plain,1,2,3,4,5"], "no row for"),
        (["plain;1"], "line 1"),
        (["plain,1,1"], "line 1"),
        (["plain,1,2", "plain,2,1"], "line 2"),
        ([f"{i},1" for i in IDS], "Top-5 needs five"),
    ],
)
def test_bad_predictions(tree, capsys, lines, told):
    write_lines(tree / "p.csv", lines)
    assert told in refused(capsys, words(tree, f"--predictions={tree / 'p.csv'}"))


def test_predictions_of_too_few_classes_and_pickles(tree, capsys):
    path = tree / "p.npz"
    np.savez(path, image_ids=np.array(IDS), probabilities=np.ones((len(IDS), 6)))
    assert "6 classes" in refused(capsys, words(tree, f"--predictions={path}"))
    np.savez(path, image_ids=np.array(IDS, object), probabilities=np.ones((len(IDS), 7)))
    assert "expected an .npz" in refused(capsys, words(tree, f"--predictions={path}"))
    path.write_bytes(path.read_bytes()[:300])
    assert "expected an .npz" in refused(capsys, words(tree, f"--predictions={path}"))


# ---- as a process ----


def test_out_is_whole_or_absent(tree, capsys):
    assert "is a folder" in refused(capsys, words(tree, f"--out={tree}"))
    (tree / "maps" / "plain.npy").write_bytes(b"")
    refused(capsys, words(tree, f"--out={tree / 'new' / 'f.json'}"))
    assert list((tree / "new").iterdir()) == []


def run(arguments, **options):
    command = [sys.executable, "-m", "wsol_jax.evaluate.__main__", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_a_thousand_maps_stay_below_a_gigabyte(tmp_path):
    """Peak memory from the kernel's own account of the process; no jax on the way."""
    count = 1000
    ids = [f"{i % 10}/{i}.jpg" for i in range(count)]
    rng = np.random.default_rng(4)
    maps = [blob_map(rng, (60, 60, 160, 160), (224, 224)) for _ in range(10)]
    for i, image_id in enumerate(ids):
        save(tmp_path / "maps" / f"{image_id}.npy", maps[i % 10])
        mask = np.zeros((224, 224), np.uint8)
        mask[60:160, 60:160] = 1
        if i < 10:
            (tmp_path / "masks" / str(i)).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{image_id}.png"), mask)
    write_lines(tmp_path / "metadata" / "image_ids.txt", ids)
    write_lines(tmp_path / "metadata" / "image_sizes.txt", [f"{i},224,224" for i in ids])
    write_lines(tmp_path / "metadata" / "localization.txt", [f"{i},60,60,160,160" for i in ids])
    probe = (
        "import re, sys; from wsol_jax.evaluate import __main__ as evaluate;"
        "status = evaluate.main(sys.argv[1:]);"
        # Not getrusage: a child's account there begins with its parent's.
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1];"
        "print('peak', peak, 'jax' in sys.modules); sys.exit(status)"
    )
    arguments = words(tmp_path, f"--masks={tmp_path / 'masks'}", f"--out={tmp_path / 'f.json'}")
    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _, peak, has_jax = done.stdout.splitlines()[-1].split()
    assert int(peak) < 1_000_000 and has_jax == "False"  # kilobytes
    assert "1000/1000" in done.stderr  # progress, also where there is no terminal
    found = json.loads((tmp_path / "f.json").read_text())
    assert all(entry["images"] == count for entry in found.values()) and "pxap" in found


def test_the_command_itself(tree):
    done = run(words(tree))
    assert done.returncode == 0, done.stderr
    assert "max_box_acc_v2" in done.stdout and "36 images" in done.stdout
    done = run(words(tree, "--metrics=pxap"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: --metrics=pxap needs masks")
    assert "localization.txt" in run(["--help"]).stdout


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "images", "boxes"),
    [
        ("CUB/train", 5994, 5994),
        ("CUB/val", 1000, 1000),
        ("CUB/test", 5794, 5794),
        ("ILSVRC/val", 10_000, 18_532),
    ],
)
def test_the_published_metadata_loads(shared, folder, images, boxes):
    metadata = stored.read_metadata(shared / "data" / "wsol_metadata" / folder)
    assert len(metadata.ids) == images and sum(map(len, metadata.boxes.values())) == boxes
    everything = set(metadata.ids)
    for part in (metadata.labels, metadata.sizes, metadata.boxes):
        assert set(part) == everything
    assert len({c for labels in metadata.labels.values() for c in labels}) in (200, 1000)
