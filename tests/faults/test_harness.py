"""The harness itself: a table that nothing can fail would be worth nothing."""

import pytest

from faults.kit import on, pretrained, staged, train, voc
from faults.rows import Row, problems
from faults.server import Done

pytestmark = pytest.mark.slow
ROW = Row("a row", [], ["data/boxes.csv", "line 3"])


def ended(status=2, stderr="error: data/boxes.csv, line 3: odd.\n", **changes):
    return Done(
        **{"status": status, "killed": "", "seconds": 1.0, "kilobytes": 9, **changes}, stderr=stderr
    )


def test_what_is_wrong_is_found():
    assert problems(ROW, ended()) == []
    frame = '  File "/x/wsol_jax/main.py", line 7, in _main'
    trace = f"Traceback (most recent call last):\n{frame}\nValueError: 5\n"
    for text, done in {
        "a traceback in wsol_jax/main.py:7 _main: ValueError: 5": ended(1, trace),
        "0 lines of 'error: '": ended(stderr="oops\n"),
        "2 lines of 'error: '": ended(stderr="error: data/boxes.csv\nerror: line 3\n"),
        "lacks 'line 3'": ended(stderr="error: data/boxes.csv\n"),
        "status 0": ended(0),
        "ended by signal 6": ended(-6),
        "killed for its time": ended(-9, killed="time"),
        "killed for its memory": ended(-9, killed="memory"),
        "control characters": ended(stderr="error: data/boxes.csv, line 3: \x1b[2J\n"),
    }.items():
        assert any(text in problem for problem in problems(ROW, done)), (text, problems(ROW, done))
    assert "Ghostscript was started" in problems(ROW, ended(), started_gs=True)


SOUND = {
    "train": ("main", train(), "data"),
    "voc": ("main", voc(), "voc"),
    "cub": ("main", on("cub", "cub"), "cub"),
    "ilsvrc": ("main", on("ilsvrc", "ilsvrc"), "ilsvrc"),
    "npz": ("main", pretrained("weights/vgg.npz"), "data weights"),
    "h5": ("main", pretrained("weights/vgg.h5"), "data weights"),
    "safetensors": ("main", pretrained("weights/vgg.safetensors"), "data weights"),
    "again": ("main", train(workdir="run"), "data run"),
    "evaluate": ("main", ["--mode=evaluate", "--workdir=run"], "data run"),
    "predict": (
        "main",
        ["--mode=predict", "--workdir=run", "--images=photos", "--out=out"],
        "photos run",
    ),
    "stages": ("main", staged(), "voc staged"),
    "segment": ("main", staged("--stages=segment"), "voc staged"),
    "rescore": ("evaluate", ["--workdir=run"], "data run"),
    "stored": (
        "evaluate",
        ["--scoremaps=stored/maps", "--metadata=stored/metadata", "--predictions=stored/p.npz"],
        "stored",
    ),
    "open": (
        "evaluate",
        ["--scoremaps=stored/maps", "--metadata=stored/metadata", "--masks=stored/open/masks"],
        "stored",
    ),
    "compare": ("compare", ["run", "other"], "run other"),
    "report": ("report", ["run", "other", "--out=o.html"], "run other data"),
    "crf": ("crf", ["crf/photo.png", "crf/p.npy", "--out=o.npy"], "crf"),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_the_tables_spoil_is_sound_before(kit, here, name):
    """Else a row would be refused for another fault than its own."""
    command, words, needs = SOUND[name]
    for each in needs.split():
        kit.copy(each, here)
    done = kit.run(command, words, here, seconds=200)
    assert problems(Row(name, words, [], status=0), done) == [], done.stderr
    assert done.kilobytes > 50 << 10


def test_what_does_not_end_is_killed(kit, here):
    done = kit.run("report", ["w", "--out=o.html"], here, seconds=0.0)
    assert done.killed == "time" and done.status == -9


def test_root_is_bound_by_permissions_as_users_are(kit, here):
    (here / "closed").mkdir(mode=0o500)
    done = kit.run("crf", ["a.png", "p.npy", "--out=closed/o.npy"], here)
    assert done.status == 2
    assert not (here / "closed" / "o.npy").exists()
