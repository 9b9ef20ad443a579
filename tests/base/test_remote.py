"""URLs told from paths, objects read and written on fsspec's memory, and errors as sentences."""

import pathlib
import uuid

import pytest
from fsspec import AbstractFileSystem

from wsol_jax.base import remote
from wsol_jax.base.errors import UserError


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}/run"


@pytest.mark.parametrize("place", ["gs://bucket/run", "s3://b", "memory://x", "https://host/a.csv"])
def test_urls(place):
    assert remote.is_url(place)


@pytest.mark.parametrize(
    "place", ["runs/cam", "/runs/cam", "C:/runs", "file:///run", "a:b", "", None, 3, b"gs://b/r"]
)
def test_what_is_no_url(place):
    assert not remote.is_url(place)


def test_a_url_that_pathlib_has_shortened_is_told():
    with pytest.raises(UserError, match=r"gs:/bucket/run: .*two slashes, as in gs://bucket/run"):
        remote.is_url(pathlib.Path("gs://bucket/run"))


def test_a_files_url_is_a_path():
    assert remote.local_path("file:///data/run") == pathlib.Path("/data/run")
    assert remote.local_path("runs/cam") == pathlib.Path("runs/cam")


def test_a_password_is_not_shown():
    assert remote.shown("ftp://me:secret@host/run") == "ftp://me:***@host/run"
    assert remote.shown("gs://bucket/a:b@c") == "gs://bucket/a:b@c"


def test_objects(url, tmp_path):
    store = remote.Store(url)
    assert store.read("a") is None
    assert store.info("a") is None
    assert store.names() == set()
    assert store.listing() == {}
    store.write("a", b"one")
    assert not store.create("a", b"other")
    assert store.create("sub/b", b"two!")
    (tmp_path / "file").write_bytes(b"three")
    store.upload(tmp_path / "file", "sub/c")
    store.copy("a", "d")
    assert store.read("d") == b"one"
    assert store.names() == {"a", "d", "sub"}
    assert {n: about["size"] for n, about in store.listing().items()} == {
        "a": 3, "d": 3, "sub/b": 4, "sub/c": 5,
    }  # fmt: skip
    assert store.listing("sub").keys() == {"sub/b", "sub/c"}
    store.download("sub/c", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"three"
    store.remove("a")
    store.remove("a")
    assert store.read("a") is None


def test_a_store_that_cannot_copy(url, monkeypatch):
    store = remote.Store(url)
    store.write("a", b"one")
    monkeypatch.setattr(type(store._fs), "cp_file", AbstractFileSystem.cp_file)
    store.copy("a", "sub/b")
    assert store.read("sub/b") == b"one"


def test_an_upload_that_did_not_arrive_whole_is_noticed(url, tmp_path, monkeypatch):
    store = remote.Store(url)
    (tmp_path / "file").write_bytes(b"three")
    monkeypatch.setattr(store._fs, "put_file", lambda _, to: store._fs.pipe_file(to, b"th"))
    with pytest.raises(OSError, match="c: 2 bytes of 5 arrived"):
        store.upload(tmp_path / "file", "c")


def test_a_mark_changes_with_the_content(url):
    store = remote.Store(url)
    store.write("a", b"one")
    before = remote.mark_of(store.info("a"))
    assert remote.mark_of(store.info("a")) == before
    store.write("a", b"two")
    assert remote.mark_of(store.info("a")) != before
    s3 = {"size": 3, "ETag": '"9f"', "LastModified": "today"}
    assert remote.mark_of(s3) == remote.mark_of({**s3, "LastModified": "copied later"})


def test_what_is_not_installed_is_named(monkeypatch):
    import fsspec.registry

    def missing(name, *_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"--workdir=gs://b/r: .* need gcsfs, .* pip install gcsfs"):
        remote.Store("gs://b/r", "--workdir=gs://b/r")


def test_urls_of_an_unknown_kind():
    with pytest.raises(UserError, match="fsspec knows no URLs of the kind nosuch://"):
        remote.Store("nosuch://b/r")


def test_a_url_without_a_folder():
    with pytest.raises(UserError, match="gs://: expected a folder's name"):
        remote.Store("gs://")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError("Forbidden"), r"cannot be written, you may not \(Forbidden\)"),
        (FileNotFoundError("gone"), "no such bucket or folder"),
        (NotImplementedError(), "only read"),
        (OSError("503\nmore"), r"cannot be written \(503\)\.$"),
    ],
)
def test_errors_are_sentences(url, error, sentence):
    with pytest.raises(UserError, match=sentence):
        raise remote.Store(url).failed(error, "written")


def test_credentials_are_known_by_their_clients_names():
    class DefaultCredentialsError(Exception):
        pass

    class Refused(Exception):
        code = 403

    assert remote.is_denied(DefaultCredentialsError())
    assert remote.is_denied(Refused())
    assert not remote.is_denied(OSError("503"))


def test_what_fails_for_now_is_tried_again():
    calls = []

    def third():
        calls.append(0)
        if len(calls) < 3:
            raise OSError("503")
        return "here"

    assert remote.retry(third, wait=0.0) == "here"
    with pytest.raises(OSError, match="503"):
        remote.retry(lambda: (_ for _ in ()).throw(OSError("503")), wait=0.0)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x"), ValueError("x")])
def test_what_stays_so_is_tried_once(error):
    calls = []

    def work():
        calls.append(0)
        raise error

    with pytest.raises(type(error)):
        remote.retry(work, wait=0.0)
    assert len(calls) == 1
