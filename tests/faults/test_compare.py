"""``wsol_jax.compare``: what finished runs left, damaged."""

import numpy as np
import pytest

from faults.archives import damaged
from faults.damage import (
    arrays,
    closed,
    cut,
    edit,
    fifo,
    folder,
    link,
    npy_header,
    remove,
    swap,
    write,
    zip_bomb,
)
from faults.places import METRICS, SCORES, SIDES
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow


def figures(what, spoil, *expected, **more):
    """A row of each command that reads metrics.json or its copy."""
    return Row(f"metrics.json {what}", SIDES, expected or ("metrics.json",), spoil, **more)


def scores(what, status=None, **changes):
    return Row(f"scores {what}", SIDES, ["test.npz"], arrays(SCORES, **changes), status=status)


def wrong(key, value, **more):
    text = str(value) if len(str(value)) < 30 else str(value)[:20]
    return figures(f"with {key}={text}", edit(METRICS, key, value), **more)


COMPARED = [
    Row("no flags", [], ["--help"]),
    Row("one side", ["run"], ["--help"]),
    Row("three sides", ["run", "other", "run"], ["--help"]),
    Row("a side of nothing", ["run", ""], ["run"], doubt="the words"),
    Row("a side of commas", ["run", ",,"], ["run"], doubt="the words"),
    Row("no such run", ["run", "nowhere"], ["nowhere"]),
    Row("a run that is a file", ["run", "run/config.json"], ["config.json"]),
    Row("a run that is the data", ["run", "data"], ["data"]),
    Row("no such part", ["run", "other:griffin"], ["griffin"]),
    Row("a part that leads out", ["run", "other:../.."], [".."]),
    Row("out is a folder", [*SIDES, "--out=data"], ["--out"]),
    Row("out is below a file", [*SIDES, "--out=run/config.json/o.json"], ["--out"]),
    Row(
        "out may not be written",
        [*SIDES, "--out=closed/o.json"],
        ["--out"],
        lambda here: (here / "closed").mkdir(mode=0o500),
    ),
    Row("out in /proc", [*SIDES, "--out=/proc/o.json"], ["--out"]),
    figures("is missing", remove(METRICS)),
    figures("is empty", write(METRICS)),
    figures("is cut", cut(METRICS)),
    figures("is a folder", folder(METRICS)),
    figures("is a pipe", fifo(METRICS)),
    figures("is a device without end", link(METRICS, "/dev/zero")),
    figures("may not be read", closed(METRICS)),
    figures("is no UTF-8", write(METRICS, b'{"test": "\xff"}')),
    figures("is a list", write(METRICS, "[]")),
    figures("is a number", write(METRICS, "7")),
    figures("is null", write(METRICS, "null")),
    figures("is 100000 deep", write(METRICS, "[" * 100_000 + "]" * 100_000)),
    figures("is an object 100000 deep", write(METRICS, '{"a":' * 100_000 + "1" + "}" * 100_000)),
    figures(
        "has a number of 5000 digits",
        swap(METRICS, '"threshold": ', f'"x": {"9" * 5000}, "threshold": '),
    ),
    figures("has no test lists", edit(METRICS, "test")),
    figures("has no threshold", edit(METRICS, "threshold")),
    figures("has a threshold of NaN", swap(METRICS, '"threshold": ', '"threshold": NaN, "x": ')),
    wrong("test", []),
    wrong("test", 5),
    wrong("test", {"test": 5}),
    wrong("test", {"test": []}),
    wrong("test", {"../../x": {}}),
    wrong("test", {"a\u001b[31m": {}}),
    wrong("threshold", "high"),
    wrong("threshold", 7),
    wrong("threshold", -1),
    wrong("threshold", 0.49951),
    wrong("threshold", None),
    wrong("threshold", [0.5]),
    wrong("threshold", 1e300),
    wrong("test/test/max_box_acc", "high"),
    wrong("test/test/max_box_acc", []),
    wrong("test/test/max_box_acc", 1e300, status=EITHER),
    wrong("test/test/max_box_acc", -3, status=EITHER),
    wrong("test/test/top1_acc", True, status=EITHER),
    wrong("parts", 5, status=EITHER),
    *damaged(SCORES, SIDES),
    Row("scores are missing", SIDES, ["test.npz"], remove(SCORES)),
    scores("without names", class_names=None),
    scores("without ids", boxes__ids=None),
    scores("without rows", boxes__rows=None),
    scores("with ids of numbers", boxes__ids=np.arange(4)),
    scores("with an id too few", boxes__ids=lambda ids: ids[1:]),
    scores("with an id twice", boxes__ids=lambda ids: np.array([ids[0], *ids[:-1]])),
    scores("with rows of words", boxes__rows=np.full((4, 750), "a")),
    scores("with rows of floats", boxes__rows=np.full((4, 750), np.nan)),
    scores("with rows too short", boxes__rows=lambda rows: rows[:, :7]),
    scores("with one row", boxes__rows=lambda rows: rows[0]),
    scores("with other thresholds", boxes__thresholds=np.arange(9.0)),
    scores("with thresholds of words", boxes__thresholds=np.array(["a"])),
    scores("with names of numbers", hits__names=np.arange(5)),
    scores("with names too few", hits__names=lambda names: names[:2]),
    scores("with hits of 77", EITHER, hits__rows=lambda rows: rows * 0 + 77),
    scores("with negative lengths", EITHER, truth__lengths=lambda x: -x),
    scores("with lengths too long", EITHER, truth__lengths=lambda x: x * 0 + 10**9),
    scores("with IoUs of NaN and words", EITHER, ious__rows=np.array(["nan"] * 4)),
    scores("with classes beyond the names", classes__rows=lambda rows: rows * 0 + 99),
    Row(
        "scores that unpack to gigabytes",
        SIDES,
        ["test.npz"],
        lambda here: write(SCORES, zip_bomb("boxes/rows.npy", npy_header("(8388608, 750)", "|u1")))(
            here
        ),
    ),
    Row(
        "scores of other images",
        SIDES,
        ["test"],
        lambda here: [
            arrays(
                SCORES,
                **{
                    f"{k}__ids": lambda ids: np.char.add("x", ids)
                    for k in ("boxes", "hits", "central", "classes", "ious", "truth")
                },
            )(here)
        ],
    ),
    Row("a run of segments and one of boxes", ["run", "staged"], ["test"], needs=["staged"]),
]


@table(COMPARED)
def test_a_bad_comparison_is_refused(kit, here, row):
    check(kit, "compare", row, here, ["run", "other", "data"])
