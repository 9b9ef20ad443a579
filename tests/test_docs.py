"""The pages: their commands are what the code takes, their links and names lead somewhere."""

import importlib
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import cv2
import numpy as np
import pytest
import tiny
from helpers import page_commands as pages
from helpers.page_commands import ROOT, Command

from wsol_jax import crf
from wsol_jax.evaluate import __main__ as evaluate

COMMANDS = pages.all_commands()
# For fields that a page names in a sentence: one of these configs has each of them.
CONFIGS = (
    "two_phase.py:voc,root=ROOT,segment=true",
    "spg.py:embedded",
    "cams2i.py:embedded",
    "hide_and_seek.py:voc,root=ROOT",
    "mcof.py:voc,root=ROOT",
    "ccnn.py:voc,root=ROOT",
)
LINES = tuple(dict.fromkeys(command.words for command in COMMANDS))
# Commands on a finished run, for which any can stand in, and the one that needs none.
RUNS = ("W", "runs/a", "runs/b", "runs/a0", "runs/a1", "runs/b0", "runs/b1")
ON_RUNS = [
    words
    for words in LINES
    if {"--workdir=W", "runs/a", "runs/a0,runs/a1"} & set(words)
    and ("--mode=describe" in words or not any(word.startswith("--config=") for word in words))
]
# What a config needs beside a budget that is cut to a few batches.
CUT = {"hide_and_seek": ("--config.hide_and_seek.early_steps=1",)}
# Commands that train on the embedded data, by their workdirs.
TRAININGS: dict[str, list[tuple[str, ...]]] = {}
for words in LINES:
    if any(word.startswith("--config=") and word.endswith(":embedded") for word in words):
        (workdir,) = (word for word in words if word.startswith("--workdir="))
        TRAININGS.setdefault(workdir.partition("=")[2], []).append(words)


def test_the_pages_have_commands():
    assert all(page.is_file() for page in pages.PAGES)
    assert len(COMMANDS) > 40
    assert {"wsol_jax.main", "wsol_jax.evaluate", "wsol_jax.compare", "wsol_jax.report"} <= {
        command.module for command in COMMANDS
    }


@pytest.fixture(scope="module")
def refusals():
    """What is refused of each command that absl reads, by command; "" for nothing."""
    read = {c: found for c in COMMANDS if (found := pages.absl_words(c))}
    return dict(zip(read, pages.read_flags(list(read.values())), strict=True))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_taken(command, refusals):
    pages.dry_run(command)
    if command in refusals:
        assert refusals[command] == ""
    else:
        pages.read(command)


WRONG = (
    "python -m wsol_jax.main --config=configs/spg.py:embedded --workdir=W --config.spg.chanels=3",
    "python -m wsol_jax.main --config=configs/spg.py:embeded --workdir=W",
    "python -m wsol_jax.main --config=configs/spg.py:voc,rot=VOC2012 --workdir=W",
    "python -m wsol_jax.main --config=configs/sgp.py:embedded --workdir=W",
    "python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=W --config.recipe=paper",
    "python -m wsol_jax.main --config=configs/cam.py:embedded",
    "python -m wsol_jax.main --config=configs/cam.py:embedded --workdr=W",
    "python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=W --stages=evaluate",
    "python -m wsol_jax.main --config=configs/two_phase.py:embedded --workdir=W --stages=third",
    "python -m wsol_jax.main --config=configs/cam.py:embedded --workdir=W --config.seed=one",
    "python -m wsol_jax.main --mode=predict --workdir=W --images=photos",
    "./launch/local.sh --config=configs/spg.py:folder,rot=photos --workdir=W",
    "sbatch --nodes=2 launch/slurm.sbatch --config=configs/spg.py:folder,rot=photos --workdir=W",
    "./launch/tpu.sh run --name=t --zone=z --config=configs/spg.py:embedded --workdr=W",
)
WRONG_ELSEWHERE = (
    "python -m wsol_jax.crf IMAGE PROBS.npy --ot=OUT.npy",
    "python -m wsol_jax.evaluate --scoremap=gauss --metadata=M",
    "python -m wsol_jax.report runs/a --otu=both.html",
    "python -m wsol_jax.nothing runs/a",
    "python benchmarks/train_step.py --network=cam-vgg19",
    "python benchmarks/nothing.py",
    "./launch/nothing.sh",
    "./launch/tpu.sh stats --name=t --zone=z",
    "sbatch launch/slurm.sbatch --max_restarts=x --workdir=W",
    "python launch/xm_launch.py --config=configs/spg.py:embedded",
    "./launch/to_onnx.sh",
    "python exported/run.py --size=3 dog.jpg",
    "python exported/run.py",
    "pip install -e .[troch]",
    "pip install jax numpy pillow safetensors",
    "ruff chek .",
    "python -m pytest tests/nothing -q",
    "wget photos",
)


def test_a_wrong_command_is_refused():
    commands = [Command("here", tuple(line.split())) for line in WRONG]
    found = pages.read_flags([pages.absl_words(command) for command in commands])
    for command, refusal in zip(commands, found, strict=True):
        assert "error: " in refusal, command
        assert "Traceback" not in refusal


@pytest.mark.parametrize("line", WRONG_ELSEWHERE)
def test_a_wrong_flag_of_another_command_is_refused(line):
    with pytest.raises((AssertionError, SystemExit, OSError)):
        pages.dry_run(Command("here", tuple(line.split())))
        pages.read(Command("here", tuple(line.split())))


def test_fields_in_sentences_are_fields():
    named = sorted({code for _, code in pages.inline_code() if code.startswith("--config.")})
    assert len(named) > 10
    tries = [
        ("wsol_jax.main", [f"--config=configs/{config}", "--workdir=W", code.replace('"', "")])
        for code, config in itertools.product(named, CONFIGS)
    ]
    found = pages.read_flags(tries)
    count = len(CONFIGS)
    refused = {c: found[i * count : (i + 1) * count] for i, c in enumerate(named)}
    assert not {code: own for code, own in refused.items() if "" not in own}


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    if importlib.util.find_spec(name) is not None:
        return True
    module, _, last = name.rpartition(".")
    return hasattr(importlib.import_module(module), last)


def test_files_and_modules_in_sentences_exist():
    places = r"(?:wsol_jax|configs|tests|launch|benchmarks|docs)"
    for page, code in pages.inline_code():
        words = code.split()
        for word in words:
            if re.fullmatch(rf"(?:\./)?{places}/[\w./]*", word) and "NAME" not in word:
                assert (ROOT / word).exists(), f"{page}: {word}"
        if re.fullmatch(r"wsol_jax(?:\.[A-Za-z_]+)+", code):
            assert _exists(code), f"{page}: {code}"


def _anchors(page: pathlib.Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        if anchor:
            assert anchor in _anchors(place), f"{target}#{anchor}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_dependency_has_its_line_in_the_readme():
    section = (ROOT / "README.md").read_text().partition("\n## Dependencies\n")[2]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("|")]
    listed = {word for row in rows for word in re.split(r"[\s,()]+", row)}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines()]
    lines += [line for extra in extras["optional-dependencies"].values() for line in extra]
    for line in lines:
        if line and not line.startswith("#"):
            name = re.match(r"[\w.-]+", line)[0]
            assert name in listed, name


@pytest.mark.slow
def test_the_crf_command_runs_as_written(tmp_path, monkeypatch, capsys):
    (command,) = (c for c in COMMANDS if c.module == "wsol_jax.crf")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)
    (tmp_path / "IMAGE").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    scores = rng.random((18, 24, 3), dtype=np.float32)
    np.save("PROBS.npy", scores / scores.sum(-1, keepdims=True))
    assert crf.main(list(command.words[3:])) == 0, capsys.readouterr().err
    assert np.load("OUT.npy").shape == (18, 24, 3)
    assert cv2.imread("OUT.png", cv2.IMREAD_UNCHANGED).shape == (18, 24)


def test_scoring_stored_maps_runs_as_written(tmp_path, monkeypatch, capsys):
    (command,) = (c for c in COMMANDS if any(w.startswith("--scoremaps") for w in c.words))
    monkeypatch.chdir(tmp_path)
    for name, lines in {
        "image_ids": ("one", "two"),
        "class_labels": ("one,0", "two,1"),
        "image_sizes": ("one,224,224", "two,224,224"),
        "localization": ("one,20,20,99,99", "two,100,50,199,149"),
    }.items():
        path = tmp_path / f"metadata/CUB/test/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    (tmp_path / "gauss").mkdir()
    for name in ("one", "two"):
        score_map = np.zeros((224, 224), np.float32)
        score_map[20:100, 20:100] = 1  # image "one" is found, image "two" is not
        np.save(tmp_path / f"gauss/{name}.npy", score_map)
    assert evaluate.main(list(command.words[3:])) == 0, capsys.readouterr().err
    assert re.search(r"^max_box_acc +50\.00 ", capsys.readouterr().out, re.MULTILINE)
    assert (tmp_path / "figures.json").is_file()


def _run(words, folder):
    """The command in a process of its own, in a folder where its relative paths lead somewhere."""
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("words", ON_RUNS, ids=" ".join)
def test_commands_on_runs_run_as_written(words, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "photos").symlink_to(tiny.data() / "test")
    for name in () if "--mode=describe" in words else RUNS:
        tiny.copy_finished(tmp_path / name)
    _run(words, tmp_path)
    written = [word.partition("=")[2] for word in words if re.match("--(out|store_maps)=", word)]
    assert all((tmp_path / name).exists() for name in written)


@pytest.mark.slow
@pytest.mark.parametrize("workdir", TRAININGS)
def test_trainings_on_the_embedded_data_run_as_written(workdir, tmp_path):
    """With a budget that is cut to a few batches: what is written first, then what goes on."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for words in TRAININGS[workdir]:
        method = re.search(r"configs/(\w+)\.py", " ".join(words))[1]
        cut = ("--config.train.epochs=0.1", "--config.eval.gallery=2", *CUT.get(method, ()))
        _run((*words, *cut), tmp_path)
    assert (tmp_path / workdir / "metrics.json").is_file()
