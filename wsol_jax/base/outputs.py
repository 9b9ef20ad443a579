"""What a command writes to a URL: made in the cache, and uploaded when it is whole."""

import concurrent.futures
import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from wsol_jax.base import cached, fetched, remote, typed
from wsol_jax.base.errors import UserError
from wsol_jax.base.progress import Progress


@contextlib.contextmanager
def to_file(flag: str, place: str | os.PathLike | None) -> Iterator[str | None]:
    """Where to write the file that a flag names: itself, or one in the cache that is uploaded.

    Args:
      place: a path, a URL, or None, which stays None.

    Raises:
      UserError: at once where the URL cannot be written; in the end where the upload fails: what
        was made is kept, and the sentence says where.
    """
    if not place or not remote.is_url(place):
        yield str(remote.local_path(place)) if place else None
        return
    url = os.fspath(place)
    parent, _, name = url.rstrip("/").rpartition("/")
    with _uploaded(flag, url, parent) as (folder, _):
        typed.note(folder / name, remote.shown(url))
        yield str(folder / name)


@contextlib.contextmanager
def to_folder(flag: str, place: str | os.PathLike | None) -> Iterator[pathlib.Path | None]:
    """Where to write the files of the folder that a flag names; otherwise as ``to_file``."""
    if not place or not remote.is_url(place):
        yield remote.local_path(place) if place else None
        return
    url = os.fspath(place)
    with _uploaded(flag, url, url) as (folder, room):
        named = room / remote.last_name(url)  # pages show the folder's name
        folder.rename(named)
        typed.note(named, remote.shown(url.rstrip("/")))
        yield named


@contextlib.contextmanager
def _uploaded(flag: str, url: str, base: str) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    store = remote.Store(base, f"{flag}={remote.shown(url)}")
    store.check_writable()
    room = cached.room(url, "out").with_name(f"out-{secrets.token_hex(8)}")
    folder = room / "files"
    folder.mkdir(parents=True)
    keep = False
    try:
        yield folder, room
        try:
            _upload(store, room)
        except BaseException as error:
            keep = True
            if not isinstance(error, Exception):
                raise
            why = str(store.failed(error, "written")).rstrip(".")
            raise UserError(f"{why}; what was made is kept in {room}.") from error
    finally:
        if not keep:
            shutil.rmtree(room, ignore_errors=True)


def _upload(store: remote.Store, room: pathlib.Path) -> None:
    files = [path for path in room.rglob("*") if path.is_file()]
    with (
        Progress(f"upload to {remote.shown(store.url)}", max(len(files), 1)) as bar,
        concurrent.futures.ThreadPoolExecutor(fetched.THREADS) as pool,
    ):

        def one(path: pathlib.Path) -> None:
            name = path.relative_to(room).as_posix().partition("/")[2]  # without the folder's own
            remote.retry(lambda: store.upload(path, name))
            bar.update(1)

        fetched.each_of(pool, one, files)
