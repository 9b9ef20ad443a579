"""A remote run after an upload that was killed: whole, whichever call to the store was the last."""

import json
import shutil

import pytest
from helpers import fake_store
from helpers.mirrored import URL, content_of, write

from wsol_jax.runs import mirror
from wsol_jax.runs.mirror.local import Mirror

CALLS = ("_write", "rm_file")


class _Killed(BaseException):
    """What nothing in the package catches, as a SIGKILL."""


BEFORE = {
    "config.json": "the config",
    "metrics.json": "old",
    "metrics.json.sha256": "hash of old",
    "history.jsonl": "1\n",
    "checkpoints/10/state/d": "ten",
    "checkpoints/10/metrics/metrics": "-1",
}
AFTER = {
    "config.json": "the config",
    "metrics.json": "new",
    "metrics.json.sha256": "hash of new",
    "history.jsonl": "1\n2\n",
    "checkpoints/20/state/d": "twenty",
    "scores/test.npz": "scores",
    "checkpoints/20/metrics/metrics": "-1",
}


def die_at(monkeypatch, number):
    """The store's ``number``-th change and all after it are never made; how many were asked for."""
    asked = []

    def killed(name, real):
        def call(self, *args, **options):
            asked.append(name)
            if number is not None and len(asked) > number:
                raise _Killed
            return real(self, *args, **options)

        return call

    for name in CALLS:
        monkeypatch.setattr(
            fake_store.FakeStore, name, killed(name, getattr(fake_store.FakeStore, name))
        )
    return asked


def upload(files):
    """A run's process that writes these files and uploads them."""
    with mirror.opened(URL) as folder:
        write(folder, files)


def changes_in_all(monkeypatch):
    with monkeypatch.context() as patched:
        asked = die_at(patched, None)
        upload(AFTER)
    return len(asked)


def on_an_empty_cache(tmp_path, monkeypatch, name):
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / name))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_kill_at_any_call_leaves_the_old_run_or_the_new_one(store, tmp_path, monkeypatch):
    upload(BEFORE)
    saved = tmp_path / "saved"
    shutil.copytree(store, saved)
    count = changes_in_all(monkeypatch)
    assert count > 12
    seen = []
    for number in range(count):
        shutil.rmtree(store)
        shutil.copytree(saved, store)
        on_an_empty_cache(tmp_path, monkeypatch, f"first{number}")
        with monkeypatch.context() as patched:
            die_at(patched, number)
            try:
                upload(AFTER)
            except BaseException as error:
                assert isinstance(error, _Killed | Exception)
        on_an_empty_cache(tmp_path, monkeypatch, f"reader{number}")
        found = content_of(mirror.read(URL))
        assert found in (BEFORE, AFTER), number
        on_an_empty_cache(tmp_path, monkeypatch, f"writer{number}")
        with mirror.opened(URL) as folder:
            assert content_of(folder) == found
            write(folder, AFTER)
        run = store / "bucket/runs/one"
        own = {k: v for k, v in content_of(run).items() if not k.startswith(".wsol_jax")}
        assert own == AFTER
        assert not (run / ".wsol_jax_new").is_dir() or not any((run / ".wsol_jax_new").iterdir())
        seen.append(found == AFTER)
    assert seen == sorted(seen)  # the index is the one moment
    assert 0 < sum(seen) < count


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_same_machine_goes_on_with_what_it_had_not_uploaded(store, monkeypatch):
    upload(BEFORE)
    count = changes_in_all(monkeypatch)
    for number in range(count):
        with mirror.opened(URL) as folder:
            write(folder, BEFORE)
        with monkeypatch.context() as patched:
            die_at(patched, number)
            try:
                with mirror.opened(URL) as folder:
                    write(folder, AFTER)
            except BaseException as error:
                assert isinstance(error, _Killed | Exception)
        wrote = content_of(Mirror(URL).folder) == AFTER
        with mirror.opened(URL) as folder:
            now = content_of(folder)
        assert AFTER.items() <= now.items() if wrote else now == BEFORE
        index = json.loads((store / "bucket/runs/one/.wsol_jax_index.json").read_text())
        assert index["files"].keys() == now.keys()
