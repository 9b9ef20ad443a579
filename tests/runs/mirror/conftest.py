"""A store for mirrors, in which nobody waits for long."""

import pytest
from helpers import fake_store

from wsol_jax.base import remote
from wsol_jax.runs.mirror import down, lease, uploader


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The folder of a store with one bucket."""
    monkeypatch.setenv("FAKE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "SILENCE", 0.05)
    monkeypatch.setattr(lease, "BEAT", 1000.0)
    monkeypatch.setattr(down, "_WAIT", 0.0)
    monkeypatch.setattr(uploader, "LAST_TRIES", 1)
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    (tmp_path / "store/bucket").mkdir(parents=True)
    fake_store.register()
    return tmp_path / "store"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Goes to another machine, whose cache is empty, or back to one by its name."""
    return lambda name: monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / name))
