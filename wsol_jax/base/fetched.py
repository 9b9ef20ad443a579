"""Remote files and folders that are read: copied to the cache, again where they changed."""

import concurrent.futures
import json
import os
import pathlib
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence

from absl import logging

from wsol_jax.base import cached, remote, typed
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import check_inside, write_whole
from wsol_jax.base.progress import Progress

FRESH = 60.0  # seconds for which a process asks no store again about the same URL
THREADS = 16
_SPARE = 1 << 28  # bytes of a disk that a copy leaves free

# url -> where its copy lies, and when this process looked.
_known: dict[str, tuple[pathlib.Path, float]] = {}


def local(place: str | os.PathLike, where: str, *, folder: bool | None = False) -> pathlib.Path:
    """The place itself where it is on this machine, else its copy in the cache, made or renewed.

    Args:
      where: names it in a sentence, such as "--images=gs://bucket/photos".
      folder: whether a folder is expected; None: either.

    Raises:
      UserError: there is no such thing, it cannot be read, or the disk has no room for it.
    """
    if not remote.is_url(place):
        return remote.local_path(place)
    url = os.fspath(place)
    where = where.replace(url, remote.shown(url))  # without a password
    found, when = _known.get(url, (None, 0.0))
    if found is None or not found.exists() or time.monotonic() - when > FRESH:
        store = remote.Store(url, where)
        about = _about(store)
        is_folder = about is None or about.get("type") == "directory"
        if about is None and folder is False:
            raise UserError(f"{where}: there is no such file.")
        if folder is not None and is_folder != folder and about is not None:
            kinds = ("a file", "a folder")
            raise UserError(f"{where}: it is {kinds[not folder]}, expected {kinds[folder]}.")
        found = _copy_folder(store, url) if is_folder else _copy_file(store, url, about)
        typed.note(found, remote.shown(url.rstrip("/")))
        _known[url] = found, time.monotonic()
    return found


def present(url: str, where: str, *, folder: bool | None = False) -> pathlib.Path:
    """The copy of a URL as it was made last; no store is asked.

    Raises:
      UserError: it was not copied yet.
    """
    place = cached.room(url, "data") / remote.last_name(url)
    if not place.exists() or (folder is not None and place.is_dir() != folder):
        raise UserError(f"{where}: it was not copied to this machine yet.")
    typed.note(place, remote.shown(url.rstrip("/")))
    return place


def _about(store: remote.Store) -> dict | None:
    try:
        return remote.retry(store.info)
    except Exception as error:
        raise store.failed(error) from error


def _copy_file(store: remote.Store, url: str, about: Mapping) -> pathlib.Path:
    room = cached.room(url, "data")
    file, noted, mark = room / remote.last_name(url), room / ".mark", remote.mark_of(about)
    with cached.alone(room / ".lock"):
        if file.is_file() and noted.is_file() and noted.read_text() == mark:
            return file
        check_space(room, int(about.get("size") or 0), store.where)
        logging.info("Fetching %s to %s.", remote.shown(url), room)
        noted.unlink(missing_ok=True)
        _fetch(store, "", file, about)
        write_whole(noted, mark)
    return file


def _copy_folder(store: remote.Store, url: str) -> pathlib.Path:
    """Copies what of a folder is missing or has changed; a copy that was killed goes on."""
    try:
        found = remote.retry(store.listing)
    except Exception as error:
        raise store.failed(error) from error
    if not found:
        raise UserError(f"{store.where}: no such folder, or an empty one.")
    for name in found:
        check_inside(name, store.where)
    room = cached.room(url, "data")
    folder, noted = room / remote.last_name(url), room / ".marks"
    with cached.alone(room / ".lock"):
        marks = _read_marks(noted)
        wanted = {name: remote.mark_of(about) for name, about in found.items()}
        missing = [
            name
            for name, mark in wanted.items()
            if marks.get(name) != mark or not (folder / name).is_file()
        ]
        for name in marks.keys() - wanted.keys():
            (folder / name).unlink(missing_ok=True)
        write_whole(noted, "".join(_line(n, m) for n, m in marks.items() if wanted.get(n) == m))
        folder.mkdir(parents=True, exist_ok=True)
        size = sum(int(found[name].get("size") or 0) for name in missing)
        check_space(room, size, store.where)
        if missing:
            words = (len(missing), len(found), size / 1e6, folder)
            logging.info("Copying %d of %d files, %.0f MB, to %s.", *words)
            _fetch_all(store, missing, found, folder, noted)
    return folder


def _read_marks(noted: pathlib.Path) -> dict[str, str]:
    """Which objects were copied whole; a last line that a kill cut short is none."""
    marks: dict[str, str] = {}
    for line in noted.read_text().splitlines() if noted.is_file() else ():
        try:
            name, mark = json.loads(line)
            marks[name] = mark
        except (ValueError, TypeError):
            continue
    return marks


def _line(name: str, mark: str) -> str:
    return json.dumps([name, mark]) + "\n"


def _fetch_all(
    store: remote.Store,
    names: Sequence[str],
    found: Mapping[str, Mapping],
    folder: pathlib.Path,
    noted: pathlib.Path,
) -> None:
    lock = threading.Lock()
    with (
        noted.open("a") as marks,
        Progress(f"copy {store.where}", len(names)) as bar,
        concurrent.futures.ThreadPoolExecutor(THREADS) as pool,
    ):

        def one(name: str) -> None:
            _fetch(store, name, folder / name, found[name])
            with lock:
                marks.write(_line(name, remote.mark_of(found[name])))
                marks.flush()
                bar.update(1)

        each_of(pool, one, names)


def each_of(pool: concurrent.futures.Executor, work, items: Sequence) -> None:
    """Does ``work`` on each item in a pool; the first error ends it, and what had not begun."""
    futures = [pool.submit(work, item) for item in items]
    try:
        for future in concurrent.futures.as_completed(futures):
            future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _fetch(store: remote.Store, name: str, file: pathlib.Path, about: Mapping) -> None:
    """Downloads an object beside its place and renames it when it is whole."""
    size, part = about.get("size"), file.with_name(f".{secrets.token_hex(8)}.part")

    def once() -> None:
        store.download(name, part)
        if size is not None and part.stat().st_size != size:
            raise OSError(f"{part.stat().st_size} of {size} bytes came")

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        remote.retry(once)
        os.replace(part, file)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{store.where}{f', {name},' if name else ''} cannot be read "
            f"({remote.one_line(error)}): the same command goes on where it was."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def check_space(place: pathlib.Path, size: int, where: str) -> None:
    """Raises UserError where the cache's disk has no room for so many bytes."""
    free = shutil.disk_usage(place).free
    if size and size + _SPARE > free:
        raise UserError(
            f"{where}: its copy needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at "
            f"{place.parent}: free some, or name another disk's folder by WSOL_JAX_CACHE."
        )
