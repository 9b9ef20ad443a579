"""The command that scores maps on disk, as a user runs it: its flags, files and memory."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers.stored import (
    IDS,
    ROOT,
    blob_map,
    refused,
    save,
    scored,
    words,
    write_lines,
    write_masks,
)

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
    assert "3a.png cannot be read: no image" in refused(capsys, flags)
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
    command = [sys.executable, "-m", "wsol_jax.evaluate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.slow
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
