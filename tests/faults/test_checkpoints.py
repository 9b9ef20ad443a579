"""A run's checkpoints, damaged: scored again, and gone on from."""

import pytest

from faults.damage import (
    both,
    closed,
    cut,
    edit,
    fifo,
    flip,
    remove,
    write,
)
from faults.kit import train
from faults.places import STEP
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow
AGAIN = train(workdir="run")
SCORE = ["--mode=evaluate", "--workdir=run"]
MEASURED = f"{STEP}/metrics/metrics"
BEST = edit("run/config.json", "config/eval/checkpoint", "best")


def row(what, words, spoil, *expected, **more):
    return Row(what, words, expected, spoil, **more)


def pairs(words, name):
    """Rows of a checkpoint that is damaged, read by one of the modes."""
    state = f"{STEP}/state"
    for what, spoil in {
        "without a state": remove(state),
        "without its data": remove(f"{STEP}/data"),
        "with a shard missing": remove(f"{state}/**/d/*"),
        "with a shard cut": cut(f"{state}/**/d/*"),
        "with a shard empty": cut(f"{state}/**/d/*", 0),
        "with a byte flipped": flip(f"{state}/**/d/*", 0.4),
        "with a late byte flipped": flip(f"{state}/**/d/*", 0.95),
        "with all bytes of a shard flipped": flip(f"{state}/**/d/*", 0, 1 << 20),
        "with a manifest cut": cut(f"{state}/manifest.ocdbt"),
        "with a manifest flipped": flip(f"{state}/manifest.ocdbt", 0.7),
        "with a tree that is no JSON": write(f"{state}/_METADATA", "none"),
        "with a tree of another shape": write(f"{state}/_METADATA", "{}"),
        "with a shard that is a pipe": lambda here: fifo(_shard(here))(here),
        "that may not be read": closed(f"{STEP}/state"),
        "with data that is no JSON": write(f"{STEP}/data/metadata", "none"),
        "with data of another shape": write(f"{STEP}/data/metadata", "[]"),
        "without its metadata": remove(f"{STEP}/_CHECKPOINT_METADATA"),
    }.items():
        # Bytes that hold no array are not read; those that do are known by their hash.
        unread = ("without its metadata", "with a late byte flipped")
        unread += ("with data of another shape",) * (words is SCORE)
        status = EITHER if what in unread else None
        yield row(f"{name}: a checkpoint {what}", words, spoil, "checkpoints/5", status=status)


def _shard(here):
    found = (p for p in (here / STEP / "state").glob("**/d/*"))
    return str(max(found, key=lambda p: (p.stat().st_size, p.name)).relative_to(here))


ROWS = [
    *pairs(SCORE, "evaluate"),
    *pairs(AGAIN, "train"),
    row(
        "the checkpoints of another run",
        AGAIN,
        both(
            remove("run/checkpoints"),
            lambda h: (h / "other/checkpoints").rename(h / "run/checkpoints"),
        ),
        "checkpoint",
        needs=["other"],
    ),
    row(
        "the checkpoints of another run, scored",
        SCORE,
        both(
            remove("run/checkpoints"),
            lambda h: (h / "other/checkpoints").rename(h / "run/checkpoints"),
        ),
        "checkpoint",
        needs=["other"],
    ),
    *(
        row(f"the best one by metrics of {what}", SCORE, both(BEST, write(MEASURED, text)), "/5")
        for what, text in {
            "no JSON": "none",
            "a list": "[]",
            "nothing": "{}",
            "words": '{"best": "high"}',
            "100000 lists": "[" * 100_000,
        }.items()
    ),
]


@table(ROWS)
def test_a_bad_checkpoint_is_refused(kit, here, row):
    check(kit, "main", row, here, ["data", "run"])
