"""Remote files and folders that are read: copied once, renewed where they changed, never half."""

import pathlib
import shutil
import uuid

import pytest

from wsol_jax.base import cached, fetched, remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.typed import as_typed


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder in memory; every call asks it again."""
    monkeypatch.setenv("WSOL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetched, "FRESH", -1.0)
    return remote.Store(f"memory://{uuid.uuid4().hex}/photos")


def downloads(monkeypatch):
    asked, real = [], remote.Store.download

    def counted(self, name, file):
        asked.append(name)
        real(self, name, file)

    monkeypatch.setattr(remote.Store, "download", counted)
    return asked


def test_a_path_is_itself(tmp_path):
    assert fetched.local(str(tmp_path), "--images=x", folder=None) == tmp_path
    assert fetched.local("file:///a/b.csv", "x") == pathlib.Path("/a/b.csv")


def test_a_file_is_fetched_once_and_again_when_it_changes(store, monkeypatch):
    asked = downloads(monkeypatch)
    store.write("boxes.csv", b"one")
    url = f"{store.url}/boxes.csv"
    for _ in range(3):
        path = fetched.local(url, "data.boxes")
        assert path.name == "boxes.csv"
        assert path.read_bytes() == b"one"
    assert len(asked) == 1
    store.write("boxes.csv", b"two")
    assert fetched.local(url, "data.boxes").read_bytes() == b"two"
    assert as_typed(f"{path}, line 3: what?") == f"{url}, line 3: what?"
    with pytest.raises(UserError, match=rf"data.root={url}: it is a file, expected a folder"):
        fetched.local(url, f"data.root={url}", folder=True)


def test_a_folder_is_copied_once_and_follows_what_changes(store, monkeypatch):
    asked = downloads(monkeypatch)
    content = {f"cat/{i}.jpg": b"photo" * i for i in range(1, 6)}
    for name, data in content.items():
        store.write(name, data)
    for _ in range(2):
        folder = fetched.local(store.url, "data.root", folder=True)
        assert folder.name == "photos"
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.jpg")}
        assert found == set(content)
    assert len(asked) == 5
    store.write("cat/2.jpg", b"another one")
    store.write("dog/1.jpg", b"new")
    store.remove("cat/5.jpg")
    fetched.local(store.url, "data.root", folder=True)
    assert sorted(asked[5:]) == ["cat/2.jpg", "dog/1.jpg"]
    assert (folder / "cat/2.jpg").read_bytes() == b"another one"
    assert not (folder / "cat/5.jpg").exists()
    assert fetched.present(store.url, "data.root", folder=True) == folder


def test_a_copy_that_was_cut_short_goes_on(store, monkeypatch):
    for i in range(40):
        store.write(f"{i:02}.jpg", b"photo")
    real, asked = remote.Store.download, []

    def cut(self, name, file):
        asked.append(name)
        if len(asked) > 25:
            raise PermissionError("403")
        real(self, name, file)

    with monkeypatch.context() as patched:
        patched.setattr(remote.Store, "download", cut)
        with pytest.raises(UserError, match="the same command goes on where it was"):
            fetched.local(store.url, "data.root", folder=True)
    asked = downloads(monkeypatch)
    folder = fetched.local(store.url, "data.root", folder=True)
    assert len(list(folder.glob("*.jpg"))) == 40
    assert 15 <= len(asked) <= 40 - 20
    assert not list(folder.rglob(".*.part"))


def test_half_a_file_is_fetched_again(store, monkeypatch):
    store.write("a.jpg", b"photo")
    real, asked = remote.Store.download, []

    def torn(self, name, file):
        asked.append(name)
        real(self, name, file)
        if len(asked) < 3:
            file.write_bytes(b"ph")

    monkeypatch.setattr(remote.Store, "download", torn)
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    assert fetched.local(f"{store.url}/a.jpg", "photo").read_bytes() == b"photo"
    assert len(asked) == 3


def test_what_is_not_there(store):
    where = f"--images={store.url}"
    with pytest.raises(UserError, match=f"{where}: no such folder, or an empty one"):
        fetched.local(store.url, where, folder=None)
    with pytest.raises(UserError, match="not copied to this machine yet"):
        fetched.present(store.url, where, folder=True)


def test_a_missing_file_is_no_folder(store):
    with pytest.raises(UserError, match=r"weights=\S+/x.npz: there is no such file"):
        fetched.local(f"{store.url}/x.npz", f"weights={store.url}/x.npz")


def test_a_password_stands_in_no_sentence(store):
    url = "memory://me:secret@host/none"
    with pytest.raises(UserError, match=r"--images=memory://me:\*\*\*@host/none: no such"):
        fetched.local(url, f"--images={url}", folder=None)


def test_a_disk_without_room_is_told_before_the_copy(store, monkeypatch):
    store.write("a.jpg", b"photo" * 1000)
    usage = shutil.disk_usage("/")._replace(free=3000)
    monkeypatch.setattr(fetched.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"data.root: its copy needs 0.0 GB, and .*WSOL_JAX_CACHE"):
        fetched.local(store.url, "data.root", folder=True)


def test_a_name_that_leads_out_is_refused(store, monkeypatch):
    monkeypatch.setattr(remote.Store, "listing", lambda self: {"../../x": {"size": 1}})
    store.write("a", b"1")
    with pytest.raises(UserError, match="leads out of its folder"):
        fetched.local(store.url, "data.root", folder=True)


def test_two_urls_are_two_rooms():
    rooms = {cached.room(url, "data") for url in ("gs://a/b-c", "gs://a-b/c", "gs://a/b/c")}
    assert len(rooms) == 3
    assert cached.room("gs://a/b/", "data") == cached.room("gs://a/b", "data")
    assert "secret" not in str(cached.room("ftp://me:secret@host/x", "data"))
