"""Copies of remote things in the cache: where each lies, and who may make it."""

import collections
import contextlib
import hashlib
import os
import pathlib
import re
import threading
from collections.abc import Callable, Iterator

from wsol_jax.base import remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.files import cache_folder

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_held: set[str] = set()  # by this process
_threads: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)


def room(url: str, kind: str) -> pathlib.Path:
    """The cache's folder for what belongs to a URL: a readable name and a hash.

    Args:
      kind: "runs", "data" or "out".
    """
    text = url.rstrip("/")
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", remote.shown(text).rpartition("@")[2]).strip("-.")
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
    return cache_folder().absolute() / "remote" / kind / f"{readable[-80:]}-{digest}"


@contextlib.contextmanager
def alone(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock file against other processes of this machine, and threads; waits for it.

    Raises:
      UserError: the cache's folder cannot be written.
    """
    with _threads[str(path)]:
        file = _open(path)
        try:
            if fcntl:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.lockf(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def take(path: pathlib.Path) -> Callable[[], None] | None:
    """Holds a lock file until the process ends, or what this returns is called.

    None where somebody has it, be it this process. Not inherited: readers that outlive a killed
    run do not hold it.

    Raises:
      UserError: the cache's folder cannot be written.
    """
    if str(path) in _held:  # the system would let this process in, and out of the first lock
        return None
    file = _open(path)
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(file)
        return None
    except OSError:  # a file system without locks
        pass
    _held.add(str(path))

    def release() -> None:
        _held.discard(str(path))
        os.close(file)

    return release


def _open(path: pathlib.Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be written ({error.strerror}): WSOL_JAX_CACHE names another "
            "folder for what is fetched."
        ) from None
