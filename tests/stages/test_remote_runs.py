"""Runs in a remote folder, in processes of their own: killed, stopped, shared, cut off."""

import json
import os
import random
import signal
import socket
import time

import numpy as np
import pytest
import tiny
from helpers import fake_store
from helpers.runs import LAST, figures_of, saved
from helpers.sec_runs import words as sec_words
from helpers.voc import write_voc

pytestmark = pytest.mark.slow

URL = "fake://bucket/runs/cam"


@pytest.fixture
def store(tmp_path):
    """The folder of a store with one bucket."""
    (tmp_path / "store/bucket").mkdir(parents=True)
    return tmp_path / "store"


@pytest.fixture
def machine(store, tmp_path):
    """Makes machines with empty caches."""
    made = []

    def make():
        made.append(fake_store.Machine(store, tmp_path / f"cache{len(made)}"))
        return made[-1]

    return make


def index_of(run):
    """The names of an index; none without one."""
    path = run / ".wsol_jax_index.json"
    return json.loads(path.read_text())["files"].keys() if path.is_file() else set()


def steps_of(run):
    names = (name.split("/") for name in index_of(run) if name.startswith("checkpoints/"))
    return sorted({int(parts[1]) for parts in names if parts[1].isdecimal()})


def assert_as_unbroken(run):
    """What a store holds is what a local run that nothing disturbed left, to the bit."""
    whole = tiny.finished()
    assert steps_of(run) == saved(whole)
    expected, found = tiny.arrays(whole, LAST), tiny.arrays(run, LAST)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert tiny.history(run) == tiny.history(whole)
    assert figures_of(run) == figures_of(whole)
    named = {name for name in index_of(run) if not name.startswith("tensorboard/")}
    there = {
        path.relative_to(run).as_posix()
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(".wsol_jax")
    }
    assert named == {name for name in there if not name.startswith("tensorboard/")}


def test_kills_on_machine_after_machine(store, machine):
    run, words = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL)
    rng, reached = random.Random(0), []
    for number in range(4):
        fake_store.set_faults(store, slow=0.02)
        started = machine().start(words)
        least = 2 * number + 2  # the run gets on between two kills
        started.until(lambda least=least: max(steps_of(run), default=0) >= least)
        time.sleep(rng.uniform(0, 0.5))
        started.send(signal.SIGKILL)
        started.process.join()
        reached.append(max(steps_of(run)))
    fake_store.set_faults(store)
    done = machine().run(words)
    assert done.returncode == 0, done.stderr
    assert f"goes on at step {reached[-1]} of {LAST}" in done.stderr or reached[-1] == LAST
    assert "has not given it back" in done.stderr
    assert_as_unbroken(run)


def test_the_same_machine_goes_on_at_its_own_step(store, machine):
    run, words, here = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL), machine()
    fake_store.set_faults(store, pace=0.7)
    started = here.start(words)
    started.until(lambda: steps_of(run))
    fake_store.set_faults(store, pace=0.7, down=True)
    mirror = next((here.cache / "remote/runs").iterdir()) / "cam"
    started.until(lambda: max(saved(mirror), default=0) > max(steps_of(run)) + 1)
    started.send(signal.SIGKILL)
    started.process.join()
    fake_store.set_faults(store)
    mine = max(saved(mirror))
    assert mine > max(steps_of(run))
    done = here.run(words)
    assert done.returncode == 0, done.stderr
    assert f"goes on at step {mine} of {LAST}" in done.stderr or mine == LAST
    assert "sign of life" not in done.stderr  # nobody else can hold this mirror
    assert_as_unbroken(run)


def test_sigterm_uploads_what_it_saved(store, machine):
    run, words = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL)
    fake_store.set_faults(store, pace=0.7)
    started = machine().start(words)
    started.until(lambda: steps_of(run))
    started.send(signal.SIGTERM)
    done = started.wait()
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    step = max(steps_of(run))
    assert f"stopped by SIGTERM after step {step}, which is saved" in done.stderr
    assert not (run / ".wsol_jax_writer.json").exists()
    done = machine().run(words)
    assert done.returncode == 0, done.stderr
    assert f"goes on at step {step} of {LAST}" in done.stderr
    assert_as_unbroken(run)


def test_a_second_machine_is_refused(store, machine):
    run, words = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL)
    fake_store.set_faults(store, pace=1.0)
    started = machine().start(words)
    started.until(lambda: steps_of(run))
    sentence = tiny.error_sentence(machine().run(words))
    holder = f"process {started.process.pid} on {os.uname().nodename}, since "
    assert f"--workdir={URL} is in use: {holder}" in sentence
    done = started.wait()
    assert done.returncode == 0, done.stderr
    assert_as_unbroken(run)


def test_a_store_that_fails_for_a_while_stops_no_step(store, machine):
    run, words = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL)
    fake_store.set_faults(store, pace=0.5)
    started = machine().start(words)
    started.until(lambda: steps_of(run))
    fake_store.set_faults(store, torn=3, fail=8, pace=0.5)
    done = started.wait()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written just now") == 1
    assert_as_unbroken(run)


def test_a_store_that_stays_away_is_told_in_the_end(store, machine):
    run, words, here = store / "bucket/runs/cam", tiny.flags(tiny.data(), URL), machine()
    started = here.start(words)
    started.until(lambda: steps_of(run))
    fake_store.set_faults(store, down=True)
    sentence = tiny.error_sentence(started.wait())
    assert f"--workdir={URL} cannot be written (503 service unavailable)" in sentence
    assert f"the run is whole in {here.cache}/remote/runs/" in sentence
    fake_store.set_faults(store)
    done = here.run(words)
    assert done.returncode == 0, done.stderr
    assert_as_unbroken(run)


def test_what_nobody_may_write_is_told_first(store, machine):
    fake_store.set_faults(store, denied=True)
    sentence = tiny.error_sentence(machine().run(tiny.flags(tiny.data(), URL)))
    assert f"--workdir={URL} cannot be written, you may not (403 forbidden)" in sentence
    fake_store.set_faults(store)
    elsewhere = "fake://no-bucket/run"
    sentence = tiny.error_sentence(machine().run(tiny.flags(tiny.data(), elsewhere)))
    assert f"--workdir={elsewhere} cannot be written: there is no such bucket" in sentence


def start_pair(*machines):
    """Two processes of one run, on loopback."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = tiny.flags(tiny.data(), URL, f"--coordinator_address=127.0.0.1:{port}")
    words += ["--num_processes=2"]
    return [each.start([*words, f"--process_id={i}"]) for i, each in enumerate(machines)]


def test_what_the_first_process_is_refused_ends_both(store, machine):
    fake_store.set_faults(store, denied=True)
    here = machine()
    for each in start_pair(here, here):
        done = each.wait()
        assert done.returncode == 2, done.stderr
        assert "cannot be written, you may not (403 forbidden)" in done.stderr


def test_two_processes_share_the_mirror(store, machine):
    here = machine()
    for each in start_pair(here, here):
        done = each.wait()
        assert done.returncode == 0, done.stderr
    run = store / "bucket/runs/cam"
    assert LAST in steps_of(run)
    assert "metrics.json" in index_of(run)


def test_sigterm_of_two_processes_uploads_what_they_saved(store, machine):
    run, here = store / "bucket/runs/cam", machine()
    fake_store.set_faults(store, pace=0.7)
    pair = start_pair(here, here)
    pair[0].until(lambda: steps_of(run))
    for each in pair:
        each.send(signal.SIGTERM)
    for each in pair:
        done = each.wait()
        assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert f"after step {max(steps_of(run))}, which is saved" in done.stderr
    assert not (run / ".wsol_jax_writer.json").exists()


def test_several_machines_need_one_folder(store, machine):
    for each in start_pair(machine(), machine()):
        done = each.wait()
        assert done.returncode == 2, done.stderr
        assert "process 1 does not see process 0's copy of it in the cache" in done.stderr
        assert "mount the bucket (gcsfuse)" in done.stderr


def test_a_run_in_stages_goes_on_anywhere(store, machine, tmp_path):
    photos, url = write_voc(tmp_path / "voc"), "fake://bucket/runs/sec"
    run, whole = store / "bucket/runs/sec", tmp_path / "whole"
    done = tiny.run(sec_words(photos, whole))
    assert done.returncode == 0, done.stderr
    fake_store.set_faults(store, slow=0.02)
    marks = ("first/metrics.json", "cues/cues.json", "segment/inputs.json")
    for mark in marks:
        started = machine().start(sec_words(photos, url))
        started.until(lambda mark=mark: mark in index_of(run))
        started.send(signal.SIGKILL)
        started.process.join()
    fake_store.set_faults(store)
    done = machine().run(sec_words(photos, url))
    assert done.returncode == 0, done.stderr
    for name in ("first", "segment"):
        last = max(saved(whole / name))
        expected, found = tiny.arrays(whole / name, last), tiny.arrays(run / name, last)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")
    for path in (whole / "cues").rglob("*.png"):
        other = run / "cues" / path.relative_to(whole / "cues")
        assert path.read_bytes() == other.read_bytes(), path
    assert figures_of(run) == figures_of(whole)
