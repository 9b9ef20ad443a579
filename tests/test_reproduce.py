"""benchmarks/reproduce.py: tables of the page, commands that are taken, runs made once."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
from helpers import page_commands as pages
from helpers.page_commands import ROOT

from benchmarks import reproduce
from wsol_jax import compare
from wsol_jax.base.errors import UserError

GIVEN = ("--root=ROOT", "--weights=FILE")


def test_each_table_stands_on_the_page():
    heads = re.findall(r"^##+ (.*)$", (ROOT / "docs/results.md").read_text(), re.MULTILINE)
    assert {table.section for table in reproduce.TABLES.values()} <= set(heads)


def test_each_table_names_its_figures_and_their_revision():
    """Each file is there, and the revision is its runs', or else one that wrote it."""
    page = (ROOT / "docs/results.md").read_text()
    rows = re.findall(
        r"^\| (.+) \| (\S+\.json) \| ([0-9a-f]{7,}) \| [0-9-]+ \|$", page, re.MULTILINE
    )
    assert {f"`{name}`" for name in reproduce.TABLES} <= {name for name, _, _ in rows}
    results = ROOT / "benchmarks/results"
    assert {file for _, file, _ in rows} == {path.name for path in results.glob("*_3_seeds.json")}
    whole = _git("rev-parse", "--is-shallow-repository") == ["false"]
    for _, file, revision in rows:
        content = json.loads((results / file).read_text())
        made = [at for run in content.get("runs", {}).values() for at in run.get("made", [])]
        found = [at["git"]["revision"] for at in made]
        if not found and "revision" in content:
            found = [content["revision"]]
        elif not found and whole:
            found = _git("log", "--format=%H", "--", f"benchmarks/results/{file}")
        assert not found or any(one.startswith(revision) for one in found), file


def _git(*words):
    """Its lines; none where there is no git or no repository."""
    if not shutil.which("git"):
        return []
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.split()


def test_every_command_is_taken():
    lines = []
    for name in reproduce.TABLES:
        flags = reproduce.read_flags([name, *GIVEN])
        lines += [(words[1], words[2:]) for words in reproduce.trainings(flags).values()]
        for words in reproduce.comparisons(flags).values():
            assert len(compare._parser().parse_args(words[2:]).a.split(",")) == 3
    assert len(lines) == 3 * sum(len(table.runs) for table in reproduce.TABLES.values())
    assert set(pages.read_flags(lines)) == {""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photo"], "no table 'photo'; there are embedded,"),
        ([], "name a table; there are embedded,"),
        (["embedded", "--seeds=0,1,0"], "--seeds=0,1,0: one is there twice"),
        (["photos", "--root=R"], "--weights: table 'photos' needs it."),
        (["embedded", "--seeds=0,x"], "--seeds=0,x: expected numbers"),
    ],
)
def test_mistakes_are_told(words, said, capsys):
    assert reproduce.main(words) == 2
    assert said in capsys.readouterr().err


def test_runs_are_made_once_and_compared(tmp_path, monkeypatch):
    """A finished run is left alone; a failed one ends it, and the same command goes on."""
    called, fails = [], {"spg1"}

    def run(words):
        called.append(words[2:])
        path = pathlib.Path(words[-1].partition("=")[2])
        if words[1] == "wsol_jax.compare":
            path.write_text('{"test": {"b-a": 1}}')
            return
        revision["revision"] += "+"  # somebody commits while it runs
        if path.name in fails:
            raise UserError("it failed.")
        path.mkdir(parents=True)
        (path / "metrics.json").write_text("{}")

    revision = {"revision": "a"}
    monkeypatch.setattr(reproduce, "run", run)
    monkeypatch.setattr(reproduce.machine, "git", lambda folder: dict(revision))
    places = ["--root=/mine/voc", "--weights=/mine/w.h5"]
    words = ["photos", "--seeds=0,1", *places, f"--out={tmp_path}/runs"]
    assert reproduce.main(words) == 2
    out = tmp_path / "runs"
    assert not (out / "table.json").exists()
    before = len(called)
    assert before == 4
    fails.clear()
    (out / "cam0.made.json").unlink()  # made by hand
    assert reproduce.main(words) == 0
    made = [one[-1].rpartition("/")[2] for one in called[before:-2]]
    assert made == ["spg1", "cams2i0", "cams2i1"]
    assert called[-2][:2] == [f"{out}/cam0,{out}/cam1", f"{out}/spg0,{out}/spg1"]
    found = json.loads((out / "table.json").read_text())
    of = {
        name: [at["git"]["revision"] for at in one["made"]] for name, one in found["runs"].items()
    }
    assert of == {
        "cam0": [],
        "cam1": ["a+"],
        "spg0": ["a++"],
        "spg1": ["a+++", "a++++"],
        "cams2i0": ["a+++++"],
        "cams2i1": ["a++++++"],
    }
    assert found["comparisons"]["spg against cam"] == {"test": {"b-a": 1}}
    command = found["runs"]["cam1"]["command"]
    assert "root=ROOT,train=" in command and "weights=FILE,seed=1" in command
    assert command.endswith("--workdir=runs/cam1") and "mine" not in json.dumps(found["runs"])


def test_the_commands_are_printed_without_the_places(capsys):
    assert reproduce.main(["photos", "--print-only"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 11 and "root=ROOT," in printed[0] and "weights=FILE," in printed[0]
