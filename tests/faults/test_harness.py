"""The harness itself: a table that nothing can fail would be worth nothing."""

import pytest

from faults.kit import train
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


def test_a_command_that_is_right_ends_with_0(kit, here):
    kit.copy("data", here)
    kit.get("run")  # what it compiles is kept
    done = kit.run("main", train(), here)
    assert done.status == 0 and not done.killed, done.stderr
    assert (here / "w" / "metrics.json").is_file()
    assert 100 << 10 < done.kilobytes < 2 << 20


def test_what_does_not_end_is_killed(kit, here):
    done = kit.run("report", ["w", "--out=o.html"], here, seconds=0.0)
    assert done.killed == "time" and done.status == -9


def test_root_is_bound_by_permissions_as_users_are(kit, here):
    (here / "closed").mkdir(mode=0o500)
    done = kit.run("crf", ["a.png", "p.npy", "--out=closed/o.npy"], here)
    assert done.status == 2
    assert not (here / "closed" / "o.npy").exists()
