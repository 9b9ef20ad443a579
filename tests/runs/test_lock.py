"""A workdir's lock: who holds it is named, and nobody holds it for longer than he lives."""

import multiprocessing
import os
import shutil
import signal
import socket

import pytest

from wsol_jax.base.errors import UserError
from wsol_jax.runs import lock


def _hold(folder, ready):
    with lock.held(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_run_is_refused_and_told_by_whom(holder, tmp_path):
    with pytest.raises(UserError) as refused, lock.held(tmp_path):
        pass
    text = str(refused.value)
    assert f"--workdir={tmp_path} is in use: process {holder.pid} on {socket.gethostname()}" in text
    assert "since 20" in text


def test_a_killed_run_leaves_no_lock(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with lock.held(tmp_path):
        pass


def test_this_process_does_not_hold_a_folder_twice(tmp_path):
    with (
        lock.held(tmp_path),
        pytest.raises(UserError, match="this process"),
        lock.held(tmp_path),
    ):
        pass
    with lock.held(tmp_path):  # nor for longer than it says
        pass


def test_an_error_within_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.held(tmp_path):
        1 / 0  # noqa: B018
    with lock.held(tmp_path):
        pass


def test_two_folders_at_once(tmp_path):
    with lock.held(tmp_path / "a"), lock.held(tmp_path / "b"):
        assert (tmp_path / "a" / lock.NAME).is_file()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"--workdir=.*file/w cannot be written"),
        lock.held(tmp_path / "file" / "w"),
    ):
        pass


def test_a_lock_file_that_says_nothing(holder, tmp_path):
    (tmp_path / lock.NAME).write_text("{")
    with pytest.raises(UserError, match="another process"), lock.held(tmp_path):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with lock.held(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


@pytest.mark.parametrize("again", [True, False])
def test_a_folder_that_was_removed_is_held_no_more(tmp_path, again):
    folder = tmp_path / "w"
    with lock.held(folder):
        (folder / "first").mkdir()
        lock.check_held(folder)
        lock.check_held(folder / "first")
        shutil.rmtree(folder)
        if again:
            (folder / "first").mkdir(parents=True)
            (folder / lock.NAME).touch()
        for place in (folder, folder / "first"):
            with pytest.raises(UserError, match="made anew"):
                lock.check_held(place)
        lock.check_held(tmp_path)  # another's
