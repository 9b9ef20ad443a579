"""One process of several ends: the others end too, soon, and say why."""

import signal
import time

import pytest
import tiny
from helpers import sec_runs
from helpers.runs import saved, start_several
from helpers.voc import write_voc

pytestmark = pytest.mark.slow

SOON = 30.0  # seconds
ABORTED = "JAX distributed service detected fatal errors"  # where process 0 is killed
KEPT = "is whole and kept; the same command goes on from there."


def ends_of(runs, seconds=120.0):
    """How the runs ended, and how many seconds after this call."""
    start, found = time.monotonic(), {}
    for index, run in enumerate(runs):
        found[index] = run.wait(seconds), time.monotonic() - start
    return found


def errors(done):
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def assert_told(found, first, words, kept=True):
    """Every process but the first one names it, and ended in time."""
    for index, (done, seconds) in found.items():
        assert done.returncode != 0
        assert seconds < SOON, (index, seconds, done.stderr)
        if index == first:
            continue
        if first == 0 and "is gone" in words and ABORTED in done.stderr and not errors(done):
            continue  # its abort came before the sentence
        (line,) = errors(done)
        assert f"process {first} of {len(found)}" in line and words in line, done.stderr
        assert (KEPT in line) == kept, line
        assert "Traceback" not in done.stderr.partition("error: ")[2]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("first", [0, 1])
def test_an_error_in_training(tmp_path, first, count):
    words = tiny.flags(tiny.data(), tmp_path, epochs=200)
    patches = {first: "helpers.patches:fail_in_training"}
    runs = start_several(words, count, patches=patches)
    runs[first].process.join(300)
    found = ends_of(runs)
    assert errors(found[first][0]) == ["error: the photos of this machine are gone."]
    assert_told(found, first, "ended: the photos of this machine are gone.")
    assert saved(tmp_path)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("first", [0, 1])
def test_a_kill_in_training(tmp_path, first, count):
    runs = start_several(tiny.flags(tiny.data(), tmp_path, epochs=2000), count)
    runs[0].until(lambda: len(saved(tmp_path)) > 1)
    runs[first].send(signal.SIGKILL)
    found = ends_of(runs)
    assert_told(found, first, "is gone" if first == 0 else "no sign of life")


@pytest.mark.parametrize("first", [0, 1])
def test_an_error_in_evaluation(tmp_path, first):
    words = tiny.flags(tiny.data(), tmp_path, epochs=1)
    runs = start_several(words, 2, patches={first: "helpers.patches:fail_in_evaluation"})
    runs[first].process.join(300)
    assert_told(ends_of(runs), first, "the photos of this machine are gone.")


@pytest.mark.parametrize("first", [0, 1])
def test_a_kill_in_evaluation(tmp_path, first):
    words = tiny.flags(tiny.data(), tmp_path, epochs=1)
    runs = start_several(words, 2, patches={first: "helpers.patches:wait_in_evaluation"})
    runs[0].until(lambda: 3 in saved(tmp_path))
    time.sleep(5)
    runs[first].send(signal.SIGKILL)
    assert_told(ends_of(runs), first, "is gone" if first == 0 else "no sign of life")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["fail", "wait"])
def test_an_error_and_a_kill_among_labels(tmp_path, first, how):
    words = sec_runs.words(write_voc(tmp_path / "voc"), tmp_path / "w", "--stages=first,cues")
    runs = start_several(words, 2, patches={first: f"helpers.patches:{how}_in_labels"})
    if how == "wait":
        runs[0].until(lambda: (tmp_path / "w/cues/inputs.json").is_file())
        time.sleep(10)
        runs[first].send(signal.SIGKILL)
    else:
        runs[first].process.join(300)
    expected = "photos of this machine" if how == "fail" else "is gone" if not first else "no sign"
    assert_told(ends_of(runs), first, expected)


def test_ctrl_c_to_one(tmp_path):
    """SIGTERM stops all at one step (test_devices); SIGINT ends one, and so the others."""
    runs = start_several(tiny.flags(tiny.data(), tmp_path, epochs=2000), 2)
    runs[0].until(lambda: len(saved(tmp_path)) > 1)
    runs[1].send(signal.SIGINT)
    found = ends_of(runs)
    assert_told(found, 1, "ended: KeyboardInterrupt")
    assert "stopped by SIGINT" in found[1][0].stderr


def test_a_missing_folder_on_one_machine(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path / "w", epochs=2)
    gone = [word.replace(f"root={tiny.data()}", f"root={tmp_path}/gone") for word in words]
    found = ends_of(start_several(words, 2, others={1: gone}), 200)
    (line,) = errors(found[1][0])
    assert f"{tmp_path}/gone" in line
    assert_told(found, 1, f"{tmp_path}/gone", kept=False)


def test_a_folder_in_use_refuses_all_processes_of_a_second_run(tmp_path):
    words = tiny.flags(tiny.data(), tmp_path, epochs=2000)
    first = tiny.Run(words)
    first.until(lambda: (tmp_path / "config.json").is_file())
    found = ends_of(start_several(words, 2), 200)
    assert f"--workdir={tmp_path} is in use" in errors(found[0][0])[0]
    (line,) = errors(found[1][0])
    assert "process 0 of 2 ended: --workdir=" in line
    first.send(signal.SIGTERM)
    assert first.wait().returncode == 143
