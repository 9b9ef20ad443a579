"""A workdir's lock: one run at a time writes to it."""

import contextlib
import datetime
import json
import os
import pathlib
import socket
from collections.abc import Iterator

import jax
from absl import logging

from wsol_jax.base.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

NAME = ".wsol_jax.lock"
# By this process, which the system would let in a second time: file descriptors.
_held: dict[pathlib.Path, int] = {}


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a workdir against other runs, on this machine and on others that share the folder.

    The lock is the system's (``fcntl.lockf``), so that it ends with the process that holds it,
    however that ends; the file says who that is. Of a run's processes the first one holds it.

    Raises:
      UserError: another run holds it, or the folder cannot be made.
    """
    if jax.process_index() != 0:
        yield
        return
    workdir = pathlib.Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)  # not where a link leads that leads nowhere
        path = workdir.resolve() / NAME
        if path in _held:
            raise UserError(
                f"--workdir={workdir} is in use: this process writes a run to it already."
            )
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(path, flags, 0o644), "a+")
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}.") from None
    with file:
        _take(workdir, file)
        _held[path] = file.fileno()
        try:
            yield
        finally:
            del _held[path]
            with contextlib.suppress(OSError):  # the folder's disk may be gone
                file.truncate(0)


def check_held(folder: pathlib.Path) -> None:
    """Raises UserError where a held workdir that ``folder`` lies in is another one by now.

    Removed and made again, it may be another run's.
    """
    folder = pathlib.Path(folder).resolve()
    for path, descriptor in _held.items():
        if not folder.is_relative_to(path.parent):
            continue
        try:
            same = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except OSError:
            same = False
        if not same:
            raise UserError(
                f"{path.parent} was removed, or made anew, while the run wrote to it: it stops."
            )


def _take(workdir: pathlib.Path, file) -> None:
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the two that POSIX names for "another has it"
        raise UserError(
            f"--workdir={workdir} is in use: {_holder(file)} writes a run to it; wait for that run "
            "to end, stop it, or take another workdir."
        ) from None
    except OSError as error:  # some network file systems know no locks
        logging.warning("--workdir=%s cannot be locked (%s)", workdir, error.strerror)
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    file.truncate(0)
    file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
    file.flush()


def _holder(file) -> str:
    try:
        file.seek(0)
        it = json.loads(file.read(4096))
        return f"process {int(it['process'])} on {it['host']!s:.64}, since {it['since']!s:.32},"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and not yet said who it is
        return "another process"
