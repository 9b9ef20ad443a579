"""`python -m wsol_jax.crf` as a user runs it."""

import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from wsol_jax import crf
from wsol_jax.ops.crf import dense_crf

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (4, 5, 3)).astype(np.float32), (24, 18))
    image = image.astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    scores = np.exp(rng.normal(size=(18, 24, 4)) * 2)
    probabilities = (scores / scores.sum(-1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "probs.npy", probabilities)
    return tmp_path, image, probabilities


def run(folder, *flags):
    return subprocess.run(
        [sys.executable, "-m", "wsol_jax.crf", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_writes_what_the_function_gives(files, capsys):
    folder, image, probabilities = files
    names = [str(folder / name) for name in ("photo.png", "probs.npy")]
    outputs = [f"--out={folder / 'new/crf.npy'}", f"--labels={folder / 'labels.png'}"]
    assert crf.main([*names, *outputs]) == 0, capsys.readouterr().err
    assert "18x24 pixels, 4 classes" in capsys.readouterr().out
    found = np.load(folder / "new/crf.npy")
    unary = -np.log(np.clip(probabilities, 1e-5, 1))
    expected = dense_crf(unary, image, method="lattice")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    labels = cv2.imread(str(folder / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, found.argmax(-1))


def test_flags_reach_the_function_from_a_shell(files):
    folder, image, probabilities = files
    np.save(folder / "half.npy", probabilities.astype(np.float16))
    flags = ["--bilateral=4,20,30", "--spatial=0,1", "--iterations=3", "--method=exact"]
    done = run(folder, "photo.png", "half.npy", "--out=crf.npy", *flags)
    assert done.returncode == 0, done.stderr
    unary = -np.log(np.clip(probabilities.astype(np.float16).astype(np.float32), 1e-5, 1))
    expected = dense_crf(unary, image, bilateral=(4, 20, 30), spatial=(0, 1), iterations=3)
    np.testing.assert_allclose(np.load(folder / "crf.npy"), expected, atol=1e-5)


def change(folder, name, values):
    np.save(folder / name, values)
    return name


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda d, p: ["absent.png", "probs.npy"], "absent.png"),
        (lambda d, p: ["photo.png", "absent.npy"], "absent.npy: No such file"),
        (lambda d, p: ["probs.npy", "probs.npy"], "probs.npy"),
        (lambda d, p: ["photo.png", "photo.png"], "no .npy file"),
        (lambda d, p: ["photo.png", "."], ".: Is a directory"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p.transpose(2, 0, 1))], "classes first"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p[1:])], "18 rows and 24 columns"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p[..., 0])], "expected (H, W, C)"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p * 3 - 1)], "probabilities in 0..1"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p / 2)], "sum to 0.5"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p * np.nan)], "NaN"),
        (lambda d, p: ["photo.png", change(d, "a.npy", p > 0.5)], "floating-point"),
        (lambda d, p: ["photo.png", "probs.npy", "--bilateral=10,80"], "W,SXY,SRGB"),
        (lambda d, p: ["photo.png", "probs.npy", "--bilateral=10,a,13"], "3 numbers"),
        (lambda d, p: ["photo.png", "probs.npy", "--spatial=3,0"], "the others from 0.001"),
        (lambda d, p: ["photo.png", "probs.npy", "--bilateral=10,1e-3,1e-3"], "too small"),
        (lambda d, p: ["photo.png", "probs.npy", "--iterations=-1"], "0 to 1000"),
        (lambda d, p: ["photo.png", "probs.npy", f"--iterations={10**20}"], "0 to 1000"),
        (lambda d, p: ["photo.png", "probs.npy", "--bilateral=1e30,80,13"], "W from 0"),
        (lambda d, p: ["photo.png", "probs.npy", "--method=brute"], "--method"),
        (lambda d, p: ["photo.png", "probs.npy", "--output=x"], "unrecognized"),
        (lambda d, p: ["photo.png"], "PROBS.npy"),
        (lambda d, p: ["photo.png", "probs.npy", "--out=."], "it is a folder"),
    ],
)
def test_bad_input_is_one_sentence(files, capsys, monkeypatch, spoil, text):
    folder, _, probabilities = files
    monkeypatch.chdir(folder)
    flags = spoil(folder, probabilities)
    if not any(flag.startswith("--out=") for flag in flags):
        flags.append("--out=crf.npy")
    assert crf.main(flags) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert captured.out == "" and not (folder / "crf.npy").exists()


def test_names_an_output(files, capsys):
    assert crf.main([str(files[0] / "photo.png"), str(files[0] / "probs.npy")]) == 2
    assert "--out=OUT.npy, --labels=OUT.png or both" in capsys.readouterr().err


def test_exact_is_for_small_images(files, capsys, monkeypatch):
    monkeypatch.setattr(crf, "_MAX_EXACT", 100)
    names = [str(files[0] / name) for name in ("photo.png", "probs.npy")]
    assert crf.main([*names, "--out=x.npy", "--method=exact"]) == 2
    assert "432 pixels" in capsys.readouterr().err
