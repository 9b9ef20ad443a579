"""What the processes of a run tell each other, over a store that stands for jax.distributed's."""

import threading

import pytest

from wsol_jax.base import processes


class Store:
    """A key-value store; ``dead`` says that the process that held it is gone."""

    def __init__(self):
        self.values, self.changed, self.dead = {}, threading.Condition(), False

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            if self.dead or (key in self.values and not allow_overwrite):
                raise RuntimeError("UNAVAILABLE" if self.dead else "ALREADY_EXISTS")
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get(self, key, timeout_ms):
        with self.changed:
            self.changed.wait_for(lambda: key in self.values or self.dead, timeout_ms / 1000)
            if self.dead:
                raise RuntimeError("UNAVAILABLE")
            if key not in self.values:
                raise RuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")
            return self.values[key]

    def key_value_dir_get(self, prefix):
        with self.changed:
            if self.dead:
                raise RuntimeError("UNAVAILABLE")
            return [(k, v) for k, v in self.values.items() if k.startswith(prefix)]

    def die(self):
        with self.changed:
            self.dead = True
            self.changed.notify_all()


class Ends:
    """The statuses that processes ended with, by index."""

    def __init__(self):
        self.found, self.changed = {}, threading.Condition()

    def of(self, index):
        def end(status):
            with self.changed:
                self.found[index] = status
                self.changed.notify_all()

        return end

    def wait(self, indices, seconds=10.0):
        with self.changed:
            assert self.changed.wait_for(lambda: set(indices) <= set(self.found), seconds)


@pytest.fixture
def run(monkeypatch):
    """Starts the watch of the named ones of ``count`` processes, on one store."""
    monkeypatch.setattr(processes, "BEAT", 0.05)
    started = []

    def start(count, indices=None):
        store, ends = Store(), Ends()
        fellows = {
            i: processes.Fellows(store, i, count, lambda: "Step 6 is kept.", ends.of(i))
            for i in (range(count) if indices is None else indices)
        }
        started.extend(fellows.values())
        return fellows, store, ends

    yield start
    for fellow in started:
        fellow.leave()


@pytest.mark.parametrize("who", [0, 1, 2])
def test_all_hear_the_first_failure(run, who, capsys):
    fellows, _, ends = run(3)
    fellows[who].tell("data.max_corrupt is passed.")
    others = {0, 1, 2} - {who}
    ends.wait(others)
    assert ends.found == {index: processes.STATUS for index in others}
    line = f"error: process {who} of 3 ended: data.max_corrupt is passed. Step 6 is kept."
    assert capsys.readouterr().err.splitlines() == [line] * 2


def test_the_first_of_two_failures_stands(run, capsys):
    fellows, _, ends = run(3)
    fellows[1].tell("the first.")
    fellows[2].tell("the second.")
    ends.wait({0})
    assert "the first." in capsys.readouterr().err


@pytest.mark.parametrize("silent", [1, 2])
def test_one_that_gives_no_sign_of_life_ends_all(run, silent, capsys, monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 0.5)
    _, _, ends = run(3, {0, 1, 2} - {silent})
    ends.wait({0, 3 - silent})
    assert f"process {silent} of 3 gave no sign of life" in capsys.readouterr().err


def test_process_0_that_is_gone_takes_the_store_along(run, capsys):
    _, store, ends = run(3, {1, 2})
    store.die()
    ends.wait({1, 2})
    assert capsys.readouterr().err.count("process 0 of 3 is gone. Step 6 is kept.") == 2


def test_one_that_left_is_missed_by_nobody(run):
    fellows, _, ends = run(3)
    fellows[1].leave()
    fellows[0].tell("later.")  # and waits for no ears that are gone
    ends.wait({2})
    assert set(ends.found) == {2}


def looks(signs, beats, start, seconds):
    """What was silent at any of the looks of some seconds, one a beat."""
    count = int(seconds / processes.BEAT) + 1
    return set().union(*(signs.silent(beats, start + i * processes.BEAT) for i in range(count)))


def test_silence_is_counted_from_the_last_sign():
    signs, silence = processes.Signs((1, 2)), processes.SILENCE
    assert looks(signs, {1: "1"}, 0.0, silence) == set()  # 2 may yet begin
    assert looks(signs, {1: "2"}, silence, 3 * processes.BEAT) == {2}
    assert looks(signs, {1: "3", 2: "1"}, 2 * silence, silence - processes.BEAT) == set()
    assert looks(signs, {1: "3", 2: "2"}, 3 * silence, silence) == {1}


def test_a_pause_of_all_is_nobodys_silence():
    signs = processes.Signs((1,))
    assert signs.silent({1: "7"}, 100.0) == set()
    assert signs.silent({1: "7"}, 100.0 + 100 * processes.SILENCE) == set()


def test_a_consequence_waits_for_its_cause(run, capsys):
    """A collective fails in the other process before it hears why."""
    fellows, _, ends = run(2)
    threading.Timer(0.3, fellows[1].tell, ("its disk is full.",)).start()
    fellows[0].wait(5)
    assert ends.found[0] == processes.STATUS
    assert "its disk is full." in capsys.readouterr().err


def test_one_process_alone_watches_nobody():
    processes.watch(lambda: "")
    processes.tell(ValueError("x"))
    processes.wait_for_cause(RuntimeError("x"))
    processes.leave()


def test_an_hour_without_a_failure_is_none(run, monkeypatch):
    monkeypatch.setattr(processes, "_HOUR_MS", 20)
    fellows, _, ends = run(2)
    threading.Event().wait(0.3)
    assert not ends.found
    fellows[0].tell("later.")
    ends.wait({1})
