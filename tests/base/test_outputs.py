"""What commands write to URLs: uploaded whole, refused early, kept where the upload fails."""

import re
import uuid
from pathlib import Path

import pytest

from wsol_jax.base import outputs, remote
from wsol_jax.base.errors import UserError


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    return remote.Store(f"memory://{uuid.uuid4().hex}/out")


def rooms(tmp_path):
    return list((tmp_path / "cache/remote/out").glob("*"))


def test_a_path_and_nothing_are_themselves(tmp_path):
    with outputs.to_file("--out", str(tmp_path / "a.json")) as file:
        assert file == str(tmp_path / "a.json")
    with outputs.to_folder("--out", None) as folder:
        assert folder is None
    with outputs.to_folder("--out", tmp_path) as folder:
        assert folder == tmp_path


def test_a_file_goes_up_under_its_name(store, tmp_path):
    with outputs.to_file("--out", f"{store.url}/figures.json") as file:
        Path(file).write_text("{}")
        assert store.read("figures.json") is None
    assert store.read("figures.json") == b"{}"
    assert store.names() == {"figures.json"}
    assert rooms(tmp_path) == []


def test_a_folder_goes_up_beside_what_is_there(store, tmp_path):
    store.write("mine.txt", b"stays")
    store.write("index.html", b"old")
    with outputs.to_folder("--out", store.url) as folder:
        assert folder.name == "out"
        (folder / "masks").mkdir()
        (folder / "masks/a.png").write_bytes(b"png")
        (folder / "index.html").write_text("new")
    assert store.listing().keys() == {"mine.txt", "index.html", "masks/a.png"}
    assert store.read("index.html") == b"new"
    assert rooms(tmp_path) == []


def test_what_cannot_be_written_is_told_before_the_work(store, monkeypatch):
    def refuse(*_):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(remote.Store, "write", refuse)
    with (
        pytest.raises(UserError, match=rf"--out={store.url} cannot be written, you may not"),
        outputs.to_folder("--out", store.url),
    ):
        raise AssertionError("the work began")


def test_a_file_without_a_folder_is_told(store):
    with (
        pytest.raises(UserError, match=r"--out=gs://page\.html: expected a folder's name behind"),
        outputs.to_file("--out", "gs://page.html"),
    ):
        raise AssertionError("the work began")


def test_a_failed_upload_keeps_what_was_made(store, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(remote.Store, "upload", refuse)
    with (
        pytest.raises(UserError, match="what was made is kept in") as told,
        outputs.to_folder("--out", store.url) as folder,
    ):
        (folder / "a.txt").write_text("made")
    kept = Path(re.search(r"kept in (.*)\.$", str(told.value))[1])
    assert (kept / "out/a.txt").read_text() == "made"


def test_a_failed_work_uploads_nothing(store, tmp_path):
    with pytest.raises(ZeroDivisionError), outputs.to_folder("--out", store.url) as folder:
        (folder / "a.txt").write_text("half")
        1 / 0  # noqa: B018
    assert store.listing() == {}
    assert rooms(tmp_path) == []
