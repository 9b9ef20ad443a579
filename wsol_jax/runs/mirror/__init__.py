"""Runs in remote folders: worked on in a mirror on this machine, uploaded file by file.

Checkpoints, locks and arrays are built for a disk's folder. So a run at gs://bucket/run lives in
the cache, as one at any path would, and each time that something is whole its files go up: the new
ones first, then an index that names them. Whoever opens the run, here or elsewhere, brings down
what the index lists.

``opened`` is for who writes, ``read`` for who reads. Of a local path they give the path, and
``commit`` and ``tick`` return at once.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from absl import logging

from wsol_jax.base import cached, remote
from wsol_jax.base.errors import Interrupted, UserError
from wsol_jax.runs import workdirs
from wsol_jax.runs.mirror import down
from wsol_jax.runs.mirror import index as indices
from wsol_jax.runs.mirror.down import figures_alone, network_alone
from wsol_jax.runs.mirror.lease import Lease
from wsol_jax.runs.mirror.local import Mirror, snapshot
from wsol_jax.runs.mirror.uploader import Uploader

__all__ = [
    "before_save",
    "commit",
    "figures_alone",
    "network_alone",
    "opened",
    "place",
    "read",
    "tick",
]

EVERY = 60.0  # seconds between uploads of what no checkpoint closes: history, events, labels
_GLANCE = 0.5  # seconds between looks whether a save has ended

_sessions: dict[pathlib.Path, "Session"] = {}


class Session:
    """A run that this process writes to, from its opening to its last upload."""

    def __init__(self, url: str, mirror: Mirror, flag: str):
        self.mirror, self.where = mirror, f"{flag}={remote.shown(url)}"
        self._last = self._looked = time.monotonic()
        self._saved = False  # a checkpoint's save has begun that is not up yet
        self._took = 0.0  # seconds of the last snapshot
        # Whoever reads this mirror just now is done before, and nobody begins meanwhile.
        with cached.alone(mirror.room / "sync.lock"), contextlib.ExitStack() as stack:
            give_back = cached.take(mirror.room / "writer.lock")
            if give_back is None:
                raise UserError(
                    f"{self.where} is in use: a process of this machine writes a run to it; wait "
                    "for that run to end, stop it, or take another workdir."
                )
            stack.callback(give_back)
            logging.info("Opening %s.", remote.shown(url))
            store = remote.Store(url, self.where)
            known = mirror.known()
            indices.check_ours(store)  # before anything is written there
            self._lease = Lease(store, known.mirror)
            self._lease.take()
            stack.callback(self._lease.release)
            mirror.clean()
            index = down.bring_down(mirror, store, known)
            down.finish(store, index)
            self._folder = os.stat(mirror.folder).st_ino
            self._uploader = Uploader(mirror, store, self._lease, index, known)
            self._stack = stack.pop_all()

    def commit(self) -> None:
        """Hands the run's files over for upload, as they are now.

        Raises:
          UserError: the mirror was removed, or the remote run is another one's by now.
        """
        self._uploader.check()
        known = self._uploader.known
        try:
            same = os.stat(self.mirror.folder).st_ino == self._folder
        except OSError:
            same = False
        config = (self.mirror.folder / workdirs.CONFIG).is_file()
        if not same or (workdirs.CONFIG in known.files and not config):
            raise UserError(
                f"the run's folder in {self.mirror.room} was removed while the run wrote to it: it "
                "stops; what was uploaded stays."
            )
        begun = time.monotonic()
        taken = snapshot(self.mirror, known)
        if taken.files or taken.same.keys() != known.files.keys() or not self._uploader.idle():
            self._uploader.put(taken)
        else:
            taken.drop()
        self._last = time.monotonic()
        self._took, self._saved = self._last - begun, False

    def before_save(self, wait: Callable[[], None]) -> None:
        """Commits the save before this one, if that is still to do; the next is worth an upload."""
        if self._saved:
            wait()
            self.commit()
        self._saved = True

    def tick(self, is_saving: Callable[[], bool]) -> None:
        """Commits where a save has ended, or where it is time to."""
        now = time.monotonic()
        if now - self._looked < _GLANCE:
            return
        self._looked = now
        self._uploader.check()
        due = now - self._last > max(EVERY, 50 * self._took)
        if (self._saved or due) and not is_saving():
            self.commit()

    def close(self, error: BaseException | None) -> None:
        """Uploads what is left and gives the run back.

        Args:
          error: what ends the run early; a failed upload is then said beside it.

        Raises:
          UserError: what is left cannot be uploaded.
        """
        try:
            if isinstance(error, KeyboardInterrupt):
                return  # whoever pressed it wants out; the mirror has all
            self.commit()
            if not self._uploader.idle():
                logging.info("%s: %d files, %.1f MB, go up.", self.where, *self._uploader.amount)
            self._uploader.finish()
        except UserError as failed:
            if error is None:
                raise
            if str(failed) != str(error):
                logging.error("%s", failed)
        finally:
            self._uploader.give_up()  # before another one may write
            self._stack.close()


@contextlib.contextmanager
def opened(workdir: str | os.PathLike, flag: str = "--workdir") -> Iterator[pathlib.Path]:
    """Opens a workdir to write a run to it; of a URL the mirror, which is uploaded as it grows.

    Of several processes the first one brings down and uploads; the others need its cache's folder.

    Raises:
      UserError: another one writes to it; it cannot be read or written; it holds no run but what
        looks like one's; in the end: not all could be uploaded, and where it is kept.
    """
    if not remote.is_url(workdir):
        yield remote.local_path(workdir)
        return
    url = os.fspath(workdir)
    mirror = Mirror(url)
    _check_shared(mirror, f"{flag}={remote.shown(url)}")
    session = None
    if jax.process_index() == 0:
        session = _sessions[mirror.folder] = Session(url, mirror, flag)
    try:
        _wait_for_first()
        yield mirror.folder
    except BaseException as error:
        if session:
            session.close(error)
        if isinstance(error, Interrupted):  # all stop at one step
            _wait_for_first()
        raise
    else:
        if session:
            session.close(None)
        _wait_for_first()
    finally:
        _sessions.pop(mirror.folder, None)


def read(
    workdir: str | os.PathLike,
    flag: str = "--workdir",
    choose: Callable[[Iterable[str]], down.Wanted] = down.everything,
) -> pathlib.Path:
    """Opens a run's folder to read it; of a URL the mirror, with what is read brought down.

    Where this machine writes to the run, its mirror is read as it is.

    Args:
      choose: which files are needed, from their names.

    Raises:
      UserError: the folder cannot be read, or holds what looks like a run's and is none.
    """
    if not remote.is_url(workdir):
        return remote.local_path(workdir)
    url = os.fspath(workdir)
    mirror = Mirror(url)
    with cached.alone(mirror.room / "sync.lock"):
        give_back = cached.take(mirror.room / "writer.lock")
        if give_back is not None:
            try:
                where = f"{flag}={remote.shown(url)}" if flag else remote.shown(url)
                down.bring_down(mirror, remote.Store(url, where), mirror.known(), choose)
            finally:
                give_back()
    return mirror.folder


def place(workdir: str | os.PathLike) -> pathlib.Path:
    """Where a workdir lies on this machine; nothing is read."""
    if remote.is_url(workdir):
        return Mirror(os.fspath(workdir)).folder
    return remote.local_path(workdir)


def commit(folder: pathlib.Path) -> None:
    """Uploads a remote run as it is now, in the background; nothing may write to it meanwhile."""
    for session in _of(folder):
        session.commit()


def tick(folder: pathlib.Path, is_saving: Callable[[], bool] = lambda: False) -> None:
    """Uploads a remote run where a save has ended or a minute has passed; called step by step.

    ``is_saving``: whether something is being written just now.
    """
    for session in _of(folder):
        session.tick(is_saving)


def before_save(folder: pathlib.Path, wait: Callable[[], None]) -> None:
    """Commits the save before this one where no ``tick`` has seen its end, and notes the next.

    ``wait``: until that save has ended, which the next one waits for anyway.
    """
    for session in _of(folder):
        session.before_save(wait)


def _of(folder: pathlib.Path) -> list[Session]:
    if not _sessions:  # of a local run: no cost
        return []
    folder = pathlib.Path(folder)
    return [s for root, s in list(_sessions.items()) if folder == root or root in folder.parents]


def _check_shared(mirror: Mirror, where: str) -> None:
    """Raises UserError where the processes of a run do not share the mirror's folder."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    token = multihost_utils.broadcast_one_to_all(np.random.SeedSequence().generate_state(2))
    sign = mirror.room / f".shared-{'-'.join(map(str, np.asarray(token)))}"
    if jax.process_index() == 0:
        mirror.room.mkdir(parents=True, exist_ok=True)
        sign.touch()
    _wait_for_first()
    seen = multihost_utils.process_allgather(np.array(sign.exists()))
    if jax.process_index() == 0:
        sign.unlink(missing_ok=True)
    if not np.all(seen):
        raise UserError(
            f"{where}: process {int(np.argmin(seen))} does not see process 0's copy of it in the "
            "cache. Processes on several machines need one folder: mount the bucket (gcsfuse), "
            "name a folder that all share, or let WSOL_JAX_CACHE be one."
        )


def _wait_for_first() -> None:
    """Waits for process 0, until its last upload is done too.

    jax.distributed ends process 0 some minutes after another one has ended, in the middle of an
    upload as well.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("mirror")
