"""``--mode=export``: its run and its place."""

import pytest

from faults.damage import both, closed, cut, folder, remove, write
from faults.places import CONFIG, STEP
from faults.rows import Row, check, table

pytestmark = pytest.mark.slow


def words(out="out", workdir="run"):
    return ["--mode=export", f"--workdir={workdir}", f"--out={out}"]


def row(what, spoil, *expected, given=None, **more):
    return Row(what, words() if given is None else given, expected, spoil, **more)


MODEL = '{"format": "wsol_jax export, version 1"}'
ROWS = [
    row("no workdir", None, "--workdir", given=words()[:1]),
    row("no out", None, "--out", given=words()[:2]),
    row("a workdir that is not there", None, "nowhere", given=words(workdir="nowhere")),
    row("a workdir that is a file", write("f"), "f", given=words(workdir="f")),
    row("a run without a checkpoint", remove("run/checkpoints"), "no checkpoint"),
    row("a checkpoint that is cut", both(remove(f"{STEP}/state"), folder(f"{STEP}/state")), STEP),
    row("config.json cut", cut(CONFIG), "config.json"),
    row("out is a file", write("out"), "--out", "file"),
    row("out is another folder", write("out/notes.txt", "x"), "notes.txt", "no export"),
    row("out is the run", None, "run", "no export", given=words(out="run")),
    row("out has another model.json", write("out/model.json", "{}"), status=0),
    row(
        "out has another model.json and more",
        both(write("out/model.json", "{}"), write("out/x", "x")),
        "no export",
    ),
    row(
        "out is an export with a file beside",
        both(write("out/model.json", MODEL), write("out/x", "x")),
        status=0,
    ),
    row("out may not be written", both(folder("out"), closed("out")), "--out"),
    row("a threshold", None, "--threshold", given=[*words(), "--threshold=0.5"]),
    row("stages", None, "--stages", given=[*words(), "--stages=second"]),
    row("a checkpoint that is none", None, "checkpoint", given=[*words(), "--checkpoint=bset"]),
]


@table(ROWS)
def test_a_bad_export_is_refused(kit, here, row):
    check(kit, "main", row, here, ["run"])
