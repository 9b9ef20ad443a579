"""``wsol_jax.report``: what finished runs left, damaged."""

import numpy as np
import pytest

from faults.archives import damaged
from faults.damage import (
    arrays,
    both,
    cut,
    edit,
    fifo,
    remove,
    write,
)
from faults.places import CONFIG, DATA, MAPS, PAGE, SCORES, SIDES
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow


REPORTED = [
    Row("no flags", [], ["--help"]),
    Row("no out", SIDES, ["--out"]),
    Row("no such run", ["run", "nowhere", "--out=o.html"], ["nowhere"]),
    Row("a run that is a file", ["run/config.json", "--out=o.html"], ["config.json"]),
    Row("two runs of one name", ["a=run", "a=other", "--out=o.html"], ["a"]),
    Row("out is a folder", [*SIDES, "--out=data"], ["--out"]),
    Row("out is below a file", [*SIDES, "--out=run/config.json/o.html"], ["--out"]),
    Row(
        "out may not be written",
        [*SIDES, "--out=closed/o.html"],
        ["--out"],
        lambda here: (here / "closed").mkdir(mode=0o500),
    ),
    Row(
        "a name with an escape code", ["\x1b[2J=run", "other", "--out=o.html"], ["report"], status=0
    ),
    Row("no report_data.npz", PAGE, ["report_data.npz"], remove(DATA)),
    *damaged(DATA, PAGE),
    *damaged(SCORES, PAGE, optional=True),
    *damaged(MAPS, PAGE, optional=True),
    *(
        Row(
            f"report data: {what}",
            PAGE,
            ["report_data.npz"],
            arrays(DATA, meta=np.frombuffer(text, np.uint8)),
        )
        for what, text in {
            "no JSON": b"none",
            "a list": b"[]",
            "a number": b"7",
            "of another version": b'{"version": 99}',
            "no more than a version": b'{"version": 1}',
            "deep": b'{"version": 1, "examples": ' + b"[" * 100_000,
            "examples that are a number": b'{"version": 1, "examples": 5}',
            "examples of numbers": b'{"version": 1, "examples": [5]}',
        }.items()
    ),
    Row(
        "report data without a photo", PAGE, ["report_data.npz"], arrays(DATA, **{"0__image": None})
    ),
    Row(
        "report data whose photo is none",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, **{"0__image": np.zeros(9, np.uint8)}),
    ),
    Row(
        "report data whose photo is words",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, **{"0__image": np.array(["a"])}),
    ),
    Row(
        "report data whose map is words",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, **{"0__score_map": np.array(["a"])}),
    ),
    Row(
        "report data whose boxes are words",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, **{"0__true_boxes": np.array(["a"])}),
    ),
    Row(
        "report data whose boxes are one",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, **{"0__true_boxes": np.zeros(3)}),
    ),
    Row(
        "report data whose meta is floats",
        PAGE,
        ["report_data.npz"],
        arrays(DATA, meta=np.zeros(9)),
    ),
    Row("maps without ids", PAGE, ["maps/test.npz"], arrays(MAPS, ids=None)),
    Row("maps with an id too few", PAGE, ["maps/test.npz"], arrays(MAPS, ids=lambda ids: ids[1:])),
    Row("maps of words", PAGE, ["maps/test.npz"], arrays(MAPS, rows=np.full((4, 4, 4), "a"))),
    Row(
        "maps of no cells",
        PAGE,
        ["maps/test.npz"],
        arrays(MAPS, rows=np.zeros((4, 0, 4), np.float16)),
    ),
    Row("maps of one axis", PAGE, ["maps/test.npz"], arrays(MAPS, rows=np.zeros(4, np.float16))),
    Row("photos that have gone", PAGE, ["report"], remove("data"), status=0),
    Row(
        "photos that are pipes",
        PAGE,
        ["report"],
        lambda here: [
            fifo(str(p.relative_to(here)))(here) for p in (here / "data/test").rglob("*.jpg")
        ],
        status=0,
    ),
    Row("a config.json that has gone", PAGE, ["report"], remove(CONFIG), status=0),
    Row(
        "a config.json of another shape",
        PAGE,
        ["config.json"],
        write(CONFIG, "[]"),
        status=EITHER,
    ),
    Row(
        "a config.json of a data set that is none",
        PAGE,
        ["config.json"],
        edit(CONFIG, "config/data/name", "griffin"),
        status=EITHER,
    ),
    Row(
        "a config.json without data",
        PAGE,
        ["config.json"],
        edit(CONFIG, "config/data"),
        status=EITHER,
    ),
    Row(
        "a config.json of a root of numbers",
        PAGE,
        ["config.json"],
        edit(CONFIG, "config/data/root", 5),
        status=EITHER,
    ),
    Row(
        "both runs damaged",
        PAGE,
        ["report_data.npz"],
        both(cut(DATA), cut("other/report_data.npz")),
    ),
]


@table(REPORTED)
def test_a_bad_page_is_refused(kit, here, row):
    check(kit, "report", row, here, ["run", "other", "data"])
