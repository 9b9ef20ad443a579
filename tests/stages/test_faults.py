"""Each thing that a user can get wrong, or a machine do to them: one sentence, status 2."""

import os
import pathlib
import shutil
import time

import numpy as np
import pytest
import tiny


@pytest.fixture
def root(tmp_path):
    """A copy of the data set to damage."""
    return pathlib.Path(shutil.copytree(tiny.data(), tmp_path / "data"))


def refused(words, *expected, **options):
    """The sentence, which must hold all of ``expected``."""
    sentence = tiny.error_sentence(tiny.run(words, **options))
    for text in map(str, expected):
        assert text in sentence, (text, sentence)
    return sentence


# Flags and configs: refused before jax is imported, so at once.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--workdir is missing"]),
        (["--workdir=W"], ["--config is missing", "configs/spg.py:embedded"]),
        (["--config=configs/cam.py:embedded"], ["--workdir is missing"]),
        (["--config=configs/cam.py:embeded", "--workdir=W"], ["'embeded'", "'embedded'"]),
        (["--config=configs/cam.py:embedded,bakbone=x", "--workdir=W"], ["bakbone", "'backbone'"]),
        (["--config=configs/cam.py:embedded,backbone=vgg17", "--workdir=W"], ["vgg17", "'vgg16'"]),
        (
            ["--config=configs/cam.py:embedded,epochs=few", "--workdir=W"],
            ["epochs=few", "a number"],
        ),
        (["--config=configs/cam.py:embedded,epochs", "--workdir=W"], ["'epochs'", "key=value"]),
        (
            [
                "--config=configs/cam.py:embedded",
                "--config.optimizer.backbon_lr=1",
                "--workdir=W",
            ],
            ["backbon_lr", "backbone_lr"],
        ),
        (
            ["--config=configs/cam.py:embedded", "--config.train.batch_size=1.5", "--workdir=W"],
            ["--config.train.batch_size=1.5", "whole number"],
        ),
        (
            ["--config=configs/cam.py:embedded", "--config.optimizer.momentum=x", "--workdir=W"],
            ["--config.optimizer.momentum=x", "expected a number"],
        ),
        (
            ["--config=configs/cam.py:embedded", "--config.train.epochs=inf", "--workdir=W"],
            ["train.epochs=inf", "expected a number above 0 to 100000"],
        ),
        (
            ["--config=configs/cam.py:embedded", f"--config.seed={10**20}", "--workdir=W"],
            [f"seed={10**20}", "expected a whole number from 0 to 4294967295"],
        ),
        (["--config=configs/com.py:embedded", "--workdir=W"], ["configs/com.py", "no such file"]),
        (["--config=configs/common.py", "--workdir=W"], ["configs/common.py", "get_config()"]),
        (["--config=configs/cam.py", "--wrkdir=W"], ["wrkdir", "workdir"]),
        (["--mode=trian", "--workdir=W"], ["--mode=trian", "train_and_evaluate"]),
        (["--workdir=W", "oops"], ["'oops'", "--name=value"]),
        (["--mode=evaluate", "--workdir=W"], ["W", "holds no run"]),
        (["--mode=evaluate", "--workdir=W", "--config.eval.size=9"], ["config.eval.size", "FILE"]),
        (["--mode=predict", "--workdir=W"], ["--images is missing"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_flags(words, expected):
    done = tiny.run_command(words)
    sentence = tiny.error_sentence(done)
    for text in expected:
        assert text in sentence, (text, sentence)


def test_flags_are_refused_at_once():
    begun = time.monotonic()
    tiny.run_command(["--config=configs/cam.py:embeded", "--workdir=W"])
    alone = time.monotonic() - begun
    begun = time.monotonic()
    tiny.run_command(["--mode=evaluate", "--workdir=W"])
    # Importing jax, orbax and grain takes several times as long as the rest.
    assert time.monotonic() - begun < 3 * alone + 1


# Data.


def test_missing_data_folder(tmp_path):
    refused(tiny.flags(tmp_path / "gone", tmp_path / "w"), tmp_path / "gone", "missing")
    assert not (tmp_path / "w").exists()


def test_no_data_folder_named(tmp_path):
    words = ["--config=configs/cam.py:folder", f"--workdir={tmp_path / 'w'}"]
    refused(words, "data.root is empty", "root=")


def test_empty_class(tmp_path, root):
    (root / "train" / "zebra").mkdir()
    refused(tiny.flags(root, tmp_path / "w"), root / "train" / "zebra", "no photo")


def test_class_that_training_lacks(tmp_path, root):
    (root / "test" / "ball").rename(root / "test" / "bal")
    refused(tiny.flags(root, tmp_path / "w"), root / "test" / "bal", "'ball'")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train/ball/00.jpg,1,2,30", "expected 5 values"),
        ("train/ball/00.jpg,1,2,3,x", "must be numbers"),
        ("train/ball/00.jpg,1,2,3,99", "48x48"),
        ("train/ball/99.jpg,1,2,3,4", "no photo"),
    ],
)
def test_boxes_file(tmp_path, root, line, expected):
    path = root / "boxes.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, line]) + "\n")
    refused(tiny.flags(root, tmp_path / "w"), f"{path}, line {len(lines) + 1}", expected)


def test_label_out_of_range(tmp_path, root):
    path = root / "boxes.csv"
    path.write_text("image,x0,y0,x1,y1,class\ntrain/ball/00.jpg,1,2,3,4,7\n")
    refused(tiny.flags(root, tmp_path / "w"), f"{path}, line 2", "'7' is no class", "ball")


def test_missing_list(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path / "w", "--config.data.test=tst")
    refused(words, tiny.data() / "tst", "'test'")


def test_no_test_list(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path / "w", "--config.data.test=")
    refused(words, "data.test")


def test_bad_numbers(tmp_path):
    def words(*more):
        return tiny.flags(tiny.data(), tmp_path / "w", *more)

    refused(words("--config.train.batch_size=0"), "train.batch_size=0", "from 1 to 65536")
    refused(words("--config.train.devices=9"), "train.devices", "9", "there are 1")
    refused(words("--config.train.devices=-1"), "train.devices", "-1")
    refused(words("--config.eval.checkpoint=bset"), "eval.checkpoint", "'bset'", "'best'")
    refused(words("--config.optimizer.schedule=cos"), "optimizer.schedule", "'cos'", "'cosine'")


def truncate(root, names):
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:200])


def test_truncated_images_are_named_and_skipped(tmp_path, root):
    names = ["train/ball/00.jpg", "train/bar/01.jpg", "test/ball/00.jpg", "tune/ball/00.jpg"]
    truncate(root, names)
    words = tiny.flags(root, tmp_path / "w", "--config.data.max_corrupt=2")
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    for name in names:
        # Once for the training list; the tune list is read at each evaluation.
        lines = [line for line in done.stderr.splitlines() if "skipped" in line and name in line]
        assert len(lines) >= 1, done.stderr
        assert "truncated" in lines[0]
    assert tiny.metrics(tmp_path / "w")["test"]["test"]["images"] == 3
    words = tiny.flags(root, tmp_path / "w2", "--config.data.max_corrupt=1")
    sentence = refused(words, "data.max_corrupt=1", "'train'", "truncated")
    assert any(name in sentence for name in names[:2])


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_list_of_unreadable_images_is_no_run(tmp_path, root, name):
    truncate(root, [str(path.relative_to(root)) for path in (root / name).rglob("*.jpg")])
    words = tiny.flags(root, tmp_path / "w", "--config.data.max_corrupt=100")
    refused(words, f"images of list '{name}' cannot be read", "truncated")
    assert not (tmp_path / "w" / "metrics.json").exists()


# Weights.


def test_missing_weights(tmp_path):
    path = tmp_path / "gone.npz"
    words = tiny.flags(tiny.data(), tmp_path / "w", f"--config.model.weights={path}")
    refused(words, path, "does not exist")


def test_misshapen_weights(tmp_path):
    path = tmp_path / "wrong.npz"
    np.savez(path, **{"Conv1/kernel": np.zeros((3, 3, 3, 5), np.float32)})
    words = tiny.flags(tiny.data(), tmp_path / "w", f"--config.model.weights={path}")
    refused(words, path, "Conv1/kernel (3, 3, 3, 5)", "missing")
    # Nothing was trained: the folder is free for another config.
    words = tiny.flags(tiny.data(), tmp_path / "w", "--config.model.freeze_until=nowhere")
    refused(words, "model.freeze_until", "nowhere")


def test_no_weights_but_text(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("no weights")
    words = tiny.flags(tiny.data(), tmp_path / "w", f"--config.model.weights={path}")
    refused(words, path)


# Workdir.


def test_workdir_of_another_config(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "w")
    before = (workdir / "config.json").read_text()
    words = tiny.flags(tiny.data(), workdir, "--config.optimizer.head_lr=0.5")
    refused(words, f"--workdir={workdir}", "optimizer.head_lr=0.02", "0.5")
    assert (workdir / "config.json").read_text() == before
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["10", "11"]


def test_workdir_on_other_data(tmp_path, root):
    workdir = tiny.copy_finished(tmp_path / "w")
    (root / "train" / "ball").rename(root / "train" / "sphere")
    shutil.rmtree(root / "test" / "ball")
    shutil.rmtree(root / "tune" / "ball")
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\n")
    refused(tiny.flags(root, workdir), workdir, "'train'", "other images, or other labels")


def test_workdir_whose_config_is_damaged(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "w")
    (workdir / "config.json").write_text("[]")
    refused(tiny.flags(tiny.data(), workdir), workdir / "config.json", "not a run's config")


def test_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    words = tiny.flags(tiny.data(), tmp_path / "file" / "w")
    refused(words, f"--workdir={tmp_path / 'file' / 'w'}", "cannot be written")
    if os.getuid():  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        refused(tiny.flags(tiny.data(), tmp_path / "closed" / "w"), "cannot be written")


def test_evaluate_without_a_checkpoint(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "w")
    shutil.rmtree(workdir / "checkpoints")
    refused(["--mode=evaluate", f"--workdir={workdir}"], workdir / "checkpoints", "no checkpoint")


def test_damaged_checkpoint(tmp_path):
    workdir = tiny.copy_finished(tmp_path / "w")
    for path in (workdir / "checkpoints" / "11" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(["--mode=evaluate", f"--workdir={workdir}"], workdir / "checkpoints" / "11")


# The machine.


@pytest.mark.slow
def test_full_disk_at_a_save(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path)
    done = tiny.run(words, patch="helpers.patches:fill_disk_after_two_saves")
    sentence = tiny.error_sentence(done)
    assert "checkpoint could not be written" in sentence and "File too large" in sentence
    assert "step 3 is whole and kept" in sentence
    done = tiny.run(words)
    assert done.returncode == 0, done.stderr
    assert "goes on at step 3" in done.stderr
    expected, found = tiny.arrays(tiny.finished(), 11), tiny.arrays(tmp_path, 11)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_full_disk_from_the_start(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path / "w")
    refused(words, tmp_path / "w", "cannot be written", patch="helpers.patches:fill_disk_for_claim")


def test_absurd_learning_rate(tmp_path):
    rate = "--config.optimizer.backbone_lr=1000", "--config.optimizer.head_lr=1000"
    words = tiny.flags(tiny.data(), tmp_path, *rate, "--config.optimizer.warmup_steps=0")
    sentence = refused(words, "learning rate")
    assert "nan" in sentence or "inf" in sentence
    folder = tmp_path / "checkpoints"
    for path in folder.iterdir() if folder.is_dir() else ():
        for name, value in tiny.arrays(tmp_path, int(path.name)).items():
            assert np.isfinite(value).all(), (path, name)
