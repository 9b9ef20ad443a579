"""Uploads that fail in the middle, and what a mirror keeps: nothing is stuck, nothing is lost."""

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

from wsol_jax.base import typed
from wsol_jax.base.errors import UserError
from wsol_jax.base.stored import read_json, write_sealed
from wsol_jax.runs import mirror
from wsol_jax.runs.mirror import uploader
from wsol_jax.runs.mirror.index import NAME
from wsol_jax.runs.mirror.local import Mirror


def fail_once(monkeypatch, call, number):
    """The store's ``number``-th call of a kind fails, and no other."""
    asked, real = [], getattr(fake_store.FakeStore, call)

    def once(self, *args, **options):
        asked.append(args)
        if len(asked) == number:
            raise OSError("503 service unavailable")
        return real(self, *args, **options)

    monkeypatch.setattr(fake_store.FakeStore, call, once)


def failing_from(number):
    """``get_file`` of a store that fails from its ``number``-th call on."""
    asked, real = [], fake_store.FakeStore.get_file

    def call(self, *args, **options):
        asked.append(args)
        if len(asked) >= number:
            raise OSError("503 service unavailable")
        return real(self, *args, **options)

    return call


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_removal_that_fails_once_is_made_up_for(store, monkeypatch, number):
    upload(FILES)
    changed = FILES | {"metrics.json": "better", "report_data.npz": "another page"}
    monkeypatch.setattr(uploader, "LONGEST_WAIT", 0.1)
    with mirror.opened(URL) as folder, monkeypatch.context() as patched:
        write(folder, changed)
        fail_once(patched, "rm_file", number)
        mirror.commit(folder)
        wait_for_upload()
        write(folder, changed | {"metrics.json": "best"})
    assert in_store(store) == changed | {"metrics.json": "best"}


def test_the_line_about_a_mirror_that_is_set_aside_says_where_it_is(store, elsewhere, monkeypatch):
    upload(FILES)
    said = []
    monkeypatch.setattr("absl.logging.warning", lambda text, *words: said.append(text % words))
    with pytest.raises(UserError, match="the run is whole in"), mirror.opened(URL) as folder:
        write(folder, FILES | {"metrics.json": "never uploaded"})
        fake_store.set_faults(store, down=True)
    fake_store.set_faults(store)
    elsewhere("second")
    upload(FILES | {"metrics.json": "better"})
    elsewhere("cache")
    mirror.read(URL)
    (aside,) = Mirror(URL).room.glob("aside-*")
    assert str(aside) in typed.as_typed(said[-1])


def test_a_seal_that_was_taken_off_does_not_come_back_beside_other_figures(store):
    with mirror.opened(URL) as folder:
        write(folder, {"config.json": CONFIG})
        write_sealed(folder / "metrics.json", {"steps": 1})
    # As a kill leaves it: the new figures are written, and their seal is not.
    folder = Mirror(URL).folder
    write_sealed(folder / "metrics.json", {"steps": 2})
    (folder / "metrics.json.sha256").unlink()
    assert read_json(mirror.read(URL) / "metrics.json", "again") == {"steps": 2}
    with mirror.opened(URL) as folder:
        assert read_json(folder / "metrics.json", "again") == {"steps": 2}
    assert in_store(store).keys() == {"config.json", "metrics.json"}


def test_files_that_are_missing_in_a_mirror_without_work_come_back(store):
    upload(FILES)
    (Mirror(URL).folder / "metrics.json").unlink()
    with mirror.opened(URL) as folder:
        assert content_of(folder) == FILES
    assert in_store(store) == FILES


def test_half_of_what_a_reader_fetches_is_no_work_of_its_machine(store, elsewhere, monkeypatch):
    more = {f"first/checkpoints/10/state/{n}": str(n) for n in range(50)}
    upload(FILES | more)
    elsewhere("second")
    mirror.read(URL, choose=mirror.figures_alone)
    with monkeypatch.context() as patched, pytest.raises(UserError, match="503"):
        patched.setattr(fake_store.FakeStore, "get_file", failing_from(20))
        mirror.read(URL)
    assert len(content_of(Mirror(URL).folder)) >= 20
    elsewhere("cache")
    upload(FILES | more | {"metrics.json": "better"})
    elsewhere("second")
    assert content_of(mirror.read(URL)) == FILES | more | {"metrics.json": "better"}
    assert not list(Mirror(URL).room.glob("*aside*"))


def test_a_mirror_is_kept_where_the_remote_run_is_gone(store, monkeypatch):
    upload(FILES)
    for path in sorted((store / "bucket/runs").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert content_of(mirror.read(URL)) == {}
    (aside,) = Mirror(URL).room.glob("aside-*")
    assert content_of(aside) == FILES
    assert content_of(mirror.read(URL)) == {}  # once
    assert len(list(Mirror(URL).room.glob("aside-*"))) == 1


@pytest.mark.parametrize("number", range(1, 12))
def test_a_call_that_fails_while_a_run_is_opened_is_a_sentence_or_nothing(
    store, monkeypatch, number
):
    upload(FILES)
    for call in ("info", "cat_file", "find"):
        with monkeypatch.context() as patched:
            fail_once(patched, call, number)
            try:
                with mirror.opened(URL):
                    pass
            except UserError as error:
                assert URL in str(error)


def test_ctrl_c_ends_the_upload_too(store):
    upload(FILES)
    with pytest.raises(KeyboardInterrupt), mirror.opened(URL) as folder:
        fake_store.set_faults(store, fail=10**6)
        write(folder, FILES | {"metrics.json": "better"})
        mirror.commit(folder)
        (session,) = mirror._sessions.values()
        raise KeyboardInterrupt
    fake_store.set_faults(store)
    session._uploader._thread.join(30)
    assert not session._uploader._thread.is_alive()
    assert in_store(store) == FILES
    assert not (store / "bucket/runs/one/.wsol_jax_writer.json").exists()
    assert NAME in content_of(store / "bucket/runs/one")
