"""A finished run's own files, damaged or edited: one sentence, or the figures that they had."""

import contextlib
import io
import json
import random
import shutil

import numpy as np
import pytest
from helpers import products

from wsol_jax import compare
from wsol_jax.api.model import run_threshold
from wsol_jax.base.errors import UserError
from wsol_jax.data.pseudo_labels import open_labels, read_summary
from wsol_jax.report import __main__ as report
from wsol_jax.runs import history, workdirs
from wsol_jax.stages import product

# The files of a run, and which of READERS read them.
FILES = {
    "metrics.json": ("compare", "threshold"),
    "config.json": ("config", "report"),
    "history.jsonl": ("curves",),
    "report_data.npz": ("report",),
    "scores/list.npz": ("compare", "report"),
    "maps/list.npz": ("report",),
    "regions/metrics.json": ("figures",),
    "regions/inputs.json": ("inputs",),
    "regions/regions.json": ("summary", "labels"),
    "regions/part/p.npz": ("labels",),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run to damage copies of, another to compare with, and what the first one says."""
    folder = tmp_path_factory.mktemp("runs")
    whole, other = (products.write_run(folder / n, c) for n, c in (("whole", 0.5), ("other", 0.3)))
    said = {name: read(whole, other) for name, read in READERS.items()}
    assert not any(isinstance(value, UserError) for value in said.values()), said
    return whole, other, said


def _command(main, words):
    """A command's text; a UserError where it ends with a sentence. Nothing else may come out."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    if status:
        lines = err.getvalue().splitlines()
        assert status == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
        return UserError(lines[0])
    return out.getvalue()


def _report(run, other):
    page = run.parent / "page.html"
    said = _command(report.main, [f"a={run}", f"b={other}", f"--out={page}"])
    return said if isinstance(said, UserError) else said.split("\nreport:")[0]


def _labels(run, other):
    return {name: open_labels(run / "regions").read(name).tolist() for name in products.IDS}


# Each command or reader -> what it finds, to compare with what it found of the whole run.
READERS = {
    "compare": lambda run, other: _command(compare.main, [run, other]),
    "report": _report,
    "threshold": lambda run, other: run_threshold(None, run),
    "labels": _labels,
    "figures": lambda run, other: product.read_figures(run / "regions"),
    "config": lambda run, other: workdirs.load(run)[0].to_json(),
    "curves": lambda run, other: history.curves(run),
    "inputs": lambda run, other: product.read_inputs(run / "regions"),
    "summary": lambda run, other: read_summary(run / "regions"),
}
# By design these give what the file says: another config is another run (its hash is in the
# checkpoints), curves are drawn and no figure, inputs and sums are compared by whoever asks.
OPEN = ("config", "curves", "inputs", "summary")


def _check(run, other, said, changed, free, names):
    """Every reader says what it said, or one sentence; ``free``: the edit may change that."""
    for name in names:
        try:
            found = READERS[name](run, other)
        except UserError as error:
            found = error
        if isinstance(found, UserError):
            text = str(found)
            assert "\n" not in text and len(text) < 1200, (changed, name, text)
        elif name not in OPEN and not free:
            assert found == said[name], (changed, name)


def _mutate(draw, run):
    """Changes one file of a run: (its name and the kind, whether a user could have meant it)."""
    name = draw.choice(list(FILES))
    path = run / name
    content = path.read_bytes()
    kind = draw.choice(("damage", "edit"))
    if kind == "damage" or path.suffix == ".jsonl":
        path.write_bytes(products.damage(draw, content))
        return f"{name} damage", False
    if path.suffix == ".npz":
        path.write_bytes(products.edit_arrays(draw, content))
        return f"{name} arrays", True
    path.write_text(json.dumps(products.edit(draw, json.loads(content))))
    seal = path.with_name(f"{path.name}.sha256")
    unsealed = not seal.is_file() or draw.random() < 0.8
    if unsealed:
        seal.unlink(missing_ok=True)
    return f"{name} edit, {'un' * unsealed}sealed", unsealed


def fuzz(runs, tmp_path, seeds):
    whole, other, said = runs
    for seed in seeds:
        draw = random.Random(seed)
        run = shutil.copytree(whole, tmp_path / "run" / whole.name)
        changed, free = _mutate(draw, run)
        try:
            names = FILES[changed.partition(" ")[0]]
            _check(run, other, said, f"seed {seed}: {changed}", free, names)
        except UserError:
            raise
        except Exception as error:
            raise AssertionError(f"seed {seed}: {changed}: {error!r}") from error
        shutil.rmtree(tmp_path / "run")


def test_forty_mutations(runs, tmp_path):
    fuzz(runs, tmp_path, range(40))


@pytest.mark.slow
def test_five_hundred_mutations(runs, tmp_path):
    fuzz(runs, tmp_path, range(1000, 1500))


def test_another_byte_of_the_figures_is_noticed(runs, tmp_path):
    """One digit of metrics.json, which is whole JSON after it."""
    run = shutil.copytree(runs[0], tmp_path / "run")
    path = run / "metrics.json"
    text = path.read_text()
    figures = json.loads(text)["test"]["list"]
    at = text.index(repr(figures["pxap"])) + 2
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    assert json.loads(path.read_text())["test"]["list"]["pxap"] != figures["pxap"]
    found = str(_command(compare.main, [run, runs[1]]))
    assert "metrics.json was changed since it was written" in found and "--mode=evaluate" in found
    (run / "metrics.json.sha256").unlink()  # as runs of earlier days
    assert "error" not in _command(compare.main, [run, runs[1]])


SENTENCES = {
    "scores/list.npz": (b"PK\3\4 cut off", "scores/list.npz is damaged", "--mode=evaluate"),
    "metrics.json": (b'{"test": {}', "metrics.json was changed", "--mode=evaluate"),
    "report_data.npz": (b"", "report_data.npz is damaged", "--mode=evaluate"),
    "maps/list.npz": (b"\0" * 90, "maps/list.npz is damaged", "--mode=evaluate"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_sentence_names_the_file_and_what_makes_it_again(runs, tmp_path, name):
    content, *words = SENTENCES[name]
    run = shutil.copytree(runs[0], tmp_path / "run")
    (run / name).write_bytes(content)
    found = [str(READERS[reader](run, runs[1])) for reader in ("compare", "report")]
    assert any(all(word in text for word in words) for text in found), found


@pytest.mark.parametrize(
    "field, value, words",
    [
        (("threshold",), 0.12345, "metrics.json: threshold: expected one of the 1000"),
        (("threshold",), "high", "metrics.json: threshold: expected one of"),
        (("test",), [1], "metrics.json: test: expected sections by name"),
        (("test", "list", "pxap"), "much", "metrics.json: test.list.pxap: expected a number"),
        (("test", "list"), 5, "metrics.json: test.list.expected figures by name"),
        (("seconds",), [], "metrics.json: seconds: expected a number"),
        (("test",), {"../../x": {}}, "leads out of"),
    ],
)
def test_an_edited_field_of_the_figures_is_named(runs, tmp_path, field, value, words):
    run = shutil.copytree(runs[0], tmp_path / "run")
    figures = json.loads((run / "metrics.json").read_text())
    owner = figures
    for name in field[:-1]:
        owner = owner[name]
    owner[field[-1]] = value
    (run / "metrics.json").write_text(json.dumps(figures))
    (run / "metrics.json.sha256").unlink()
    found = str(_command(compare.main, [run, runs[1]]))
    assert words in found or ("leads out of its folder" in found and "../../x" in str(value)), found


def test_a_damaged_line_of_the_history_is_named_and_left_out(runs, tmp_path, caplog):
    run = shutil.copytree(runs[0], tmp_path / "run")
    path = run / "history.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "}{", *lines[2:], '{"step": 4, "tra']))
    with caplog.at_level("WARNING", logger="absl"):
        assert [step for step, _ in history.curves(run)["train/loss"]] == [1, 3]
    assert "history.jsonl, line 2 is damaged" in caplog.text and "line 4" not in caplog.text


def test_arrays_come_back_with_their_dtypes(tmp_path):
    from wsol_jax.base.files import write_arrays
    from wsol_jax.base.stored import read_arrays

    given = {"a": np.arange(6).reshape(2, 3).T, "part/b": np.zeros((0, 4), np.float16)}
    given["c"] = np.array(["x", "yz"])
    write_arrays(tmp_path / "x.npz", given)
    found = read_arrays(tmp_path / "x.npz", "")
    assert found.keys() == given.keys()
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    objects = io.BytesIO()
    np.savez(objects, a=np.array([print], object))
    (tmp_path / "y.npz").write_bytes(objects.getvalue())
    with pytest.raises(UserError, match=r"y\.npz is damaged .*: make it again"):
        read_arrays(tmp_path / "y.npz", "make it again")
