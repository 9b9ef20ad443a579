"""Who writes to a remote run: one at a time, and what becomes of what could not be uploaded."""

import shutil

import pytest
from helpers import fake_store
from helpers.mirrored import (
    CONFIG,
    FILES,
    URL,
    content_of,
    in_store,
    upload,
    wait_for_upload,
    write,
)

from wsol_jax.base.errors import UserError
from wsol_jax.runs import mirror
from wsol_jax.runs.mirror import lease
from wsol_jax.runs.mirror.index import LEASE
from wsol_jax.runs.mirror.local import Mirror


def test_a_mirror_whose_run_went_on_elsewhere_is_set_aside(store, elsewhere, caplog):
    upload(FILES)
    fake_store.set_faults(store, down=True)
    with pytest.raises(UserError, match="cannot be read"):
        upload(FILES)
    fake_store.set_faults(store)
    with pytest.raises(UserError, match="the run is whole in"), mirror.opened(URL) as folder:
        write(folder, FILES | {"metrics.json": "never uploaded"})
        fake_store.set_faults(store, down=True)
    fake_store.set_faults(store)
    (store / "bucket/runs/one" / LEASE).unlink(missing_ok=True)
    elsewhere("second")
    upload(FILES | {"metrics.json": "better"})
    elsewhere("cache")
    assert content_of(mirror.read(URL))["metrics.json"] == "better"
    assert "went on elsewhere" in caplog.text
    (aside,) = Mirror(URL).room.glob("aside-*-one")
    assert content_of(aside)["metrics.json"] == "never uploaded"


def test_what_could_not_go_up_goes_up_next_time(store):
    upload(FILES)
    with (
        pytest.raises(UserError, match="the same command uploads it"),
        mirror.opened(URL) as folder,
    ):
        write(folder, FILES | {"metrics.json": "better"})
        fake_store.set_faults(store, down=True)
    fake_store.set_faults(store)
    with mirror.opened(URL) as folder:
        assert content_of(folder) == FILES | {"metrics.json": "better"}
    assert in_store(store) == FILES | {"metrics.json": "better"}


def test_a_run_that_was_removed_begins_anew(store):
    upload(FILES)
    shutil.rmtree(store / "bucket/runs/one")
    with mirror.opened(URL) as folder:
        assert content_of(folder) == {}


def test_an_error_within_is_the_one_that_is_told(store, caplog):
    with pytest.raises(ZeroDivisionError), mirror.opened(URL) as folder:
        write(folder, FILES)
        1 / 0  # noqa: B018
    assert in_store(store) == FILES
    with pytest.raises(ZeroDivisionError), mirror.opened(URL) as folder:
        write(folder, FILES | {"metrics.json": "better"})
        fake_store.set_faults(store, down=True)
        1 / 0  # noqa: B018
    assert "the run is whole in" in caplog.text


def test_the_same_machine_writes_once(store):
    with (
        mirror.opened(URL),
        pytest.raises(UserError, match=rf"--workdir={URL} is in use: a process of this machine"),
        mirror.opened(URL),
    ):
        raise AssertionError("it was opened twice")


def test_another_machine_that_lives_is_named(store, elsewhere, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "SILENCE", 5.0)
    with mirror.opened(URL):
        elsewhere("second")
        with pytest.raises(UserError, match=rf"{URL} is in use: process \d+ on .*, since 20"):
            mirror.opened(URL).__enter__()
    with mirror.opened(URL):
        pass


def test_who_was_taken_over_stops(store, elsewhere):
    second = {"config.json": CONFIG, "metrics.json": "of the second"}
    with (
        pytest.raises(UserError, match=rf"{URL} was written by another process meanwhile"),
        mirror.opened(URL) as folder,
    ):
        write(folder, FILES)
        elsewhere("second")
        upload(second)
    assert {k: v for k, v in in_store(store).items() if k in second} == second
    with (
        pytest.raises(UserError, match=rf"{URL} was taken over by process \d+ on"),
        mirror.opened(URL) as folder,
    ):
        write(folder, FILES)
        elsewhere("third")
        third = mirror.opened(URL)
        write(third.__enter__(), second | {"history.jsonl": "third"})
    assert "history.jsonl" not in in_store(store)
    third.__exit__(None, None, None)
    elsewhere("fourth")
    assert content_of(mirror.read(URL)) == second | {"history.jsonl": "third"}


def test_a_mirror_that_is_removed_removes_nothing_there(store):
    with (
        pytest.raises(UserError, match="was removed while the run wrote to it"),
        mirror.opened(URL) as folder,
    ):
        write(folder, FILES)
        mirror.commit(folder)
        wait_for_upload()
        shutil.rmtree(folder)
    assert in_store(store) == FILES
