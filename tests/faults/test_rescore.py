"""``wsol_jax.evaluate --workdir``: its flags, and where it writes."""

import pytest

from faults.damage import closed, cut, edit, fifo, flip, folder, remove, write
from faults.rows import EITHER, Row, check, table

pytestmark = pytest.mark.slow
WORDS = ["--workdir=run"]
CONFIG, STEP = "run/config.json", "run/checkpoints/5"


def flags(*more, expected, **options):
    return Row(f"flags {' '.join(more)[:60]}", [*WORDS, *more], expected.split(), **options)


def row(what, spoil, *expected, more=(), **options):
    return Row(what, [*WORDS, *more], expected, spoil, **options)


ROWS = [
    Row("no such run", ["--workdir=nowhere"], ["nowhere"]),
    Row("a run that is a file", ["--workdir=data/boxes.csv"], ["boxes.csv"]),
    Row("a run that is the data", ["--workdir=data"], ["data"]),
    Row("a run of segments", ["--workdir=staged"], ["staged"], needs=["staged", "voc"]),
    flags("--scoremaps=x", expected="--scoremaps"),
    flags("--masks=x", expected="--masks"),
    flags("--checkpoint=bset", expected="best"),
    flags("--lists=tst", expected="tst"),
    flags("--lists=,", expected="lists", status=EITHER),
    flags("--lists=../../etc", expected=".."),
    flags("--lists=test,test", expected="test"),
    flags("--threshold=2", expected="--threshold"),
    flags("--metrics=pxap", expected="pxap"),
    flags("--metrics=griffin", expected="griffin"),
    flags("--map_dtype=float16", expected="--store_maps"),
    flags("--store_maps=data/boxes.csv", expected="boxes.csv"),
    flags("--store_maps=/proc/x", expected="/proc/x"),
    flags("--out=data", expected="--out"),
    flags("--out=data/boxes.csv/x.json", expected="--out"),
    row(
        "a store that may not be written",
        lambda here: (here / "s").mkdir(mode=0o500),
        "s",
        more=["--store_maps=s"],
    ),
    row(
        "a store whose maps are a file",
        write("s/test/scoremaps"),
        "s/test",
        more=["--store_maps=s"],
    ),
    row("a store whose list is a pipe", fifo("s/test"), "s/test", more=["--store_maps=s"]),
    row("no checkpoint", remove("run/checkpoints"), "checkpoint"),
    row("a checkpoint that is cut", cut(f"{STEP}/state/**/d/*"), "checkpoints/5"),
    row("a checkpoint with a flipped byte", flip(f"{STEP}/state/**/d/*"), "checkpoints/5"),
    row("a config.json that is cut", cut(CONFIG), "config.json"),
    row("a config.json that may not be read", closed(CONFIG), "config.json"),
    row("a config.json of another crop", edit(CONFIG, "config/data/crop", 0), "crop"),
    row("photos that have gone", remove("data/test"), "test"),
    row(
        "photos that are empty",
        lambda here: [p.write_bytes(b"") for p in (here / "data/test").rglob("*.jpg")],
        "test",
    ),
    row("boxes that have gone", remove("data/boxes.csv"), "boxes.csv"),
    row("boxes that are a folder", folder("data/boxes.csv"), "boxes.csv"),
]


@table(ROWS)
def test_a_bad_scoring_of_a_run_is_refused(kit, here, row):
    check(kit, "evaluate", row, here, ["run", "data"])
