"""The thread that uploads: snapshot after snapshot, the newest first, again where a store fails."""

import concurrent.futures
import contextlib
import pathlib
import threading

from absl import logging

from wsol_jax.base import fetched, remote
from wsol_jax.base.errors import UserError
from wsol_jax.runs.mirror import down
from wsol_jax.runs.mirror import index as indices
from wsol_jax.runs.mirror.index import Entry, Index
from wsol_jax.runs.mirror.lease import Lease
from wsol_jax.runs.mirror.local import Known, Mirror, Snapshot, entry_of

LONGEST_WAIT = 60.0  # seconds between two tries
LAST_TRIES = 6  # of the last snapshot: half a minute


class Uploader:
    """Uploads a run's snapshots from a thread of its own.

    Args:
      index: of the remote run as it is.
      known: of the mirror; kept in step.
    """

    def __init__(
        self, mirror: Mirror, store: remote.Store, lease: Lease, index: Index, known: Known
    ):
        self._mirror, self._store, self._lease = mirror, store, lease
        self._index, self._known = index, known
        try:
            self._mark = remote.retry(lambda: indices.mark(store))
        except Exception as error:
            raise store.failed(error) from error
        self._waiting: Snapshot | None = None
        self._working = self._closing = self._told = False
        self._amount = (0, 0.0)
        self._failed: BaseException | None = None  # the last try's
        self._fatal: UserError | None = None
        self._uploaded: dict[str, str] = {}  # place -> hash, of tries that failed later on
        self._pending: set[str] = set()  # names that no index has yet, for whoever finds them
        self._moved: dict[str, str] = {}  # names whose new content lies elsewhere yet: where
        self._removed: set[str] = set()  # objects that no index names any more
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True, name="mirror_upload")
        self._thread.start()

    @property
    def known(self) -> Known:
        """What is in step now."""
        return self._known

    def put(self, snapshot: Snapshot) -> None:
        """Hands over a snapshot; one that has not begun is dropped for it."""
        size = sum(snapshot.signatures[name][0] for name in snapshot.files)
        self._amount = len(snapshot.files), size / 1e6
        with self._turn:
            self._drop_waiting()
            self._waiting = snapshot
            self._turn.notify_all()

    def check(self) -> None:
        """Raises UserError where the run is another one's by now."""
        if self._fatal:
            raise self._fatal

    def give_up(self) -> None:
        """Uploads nothing more; what is on its way is in no index."""
        with self._turn:
            if not self._fatal:
                self._fatal = UserError(f"{self._store.where}: the upload was stopped.")
            self._drop_waiting()
            self._closing = True
            self._turn.notify_all()

    @property
    def amount(self) -> tuple[int, float]:
        """Files and megabytes of the snapshot that was handed over last."""
        return self._amount

    def idle(self) -> bool:
        """Whether all that was handed over is uploaded."""
        return not self._working and self._waiting is None

    def finish(self) -> None:
        """Waits until all is uploaded.

        Raises:
          UserError: the store does not take it; the sentence says where it is kept.
        """
        with self._turn:
            self._closing = True
            self._turn.notify_all()
        self._thread.join()
        self.check()
        if not self._failed:
            with contextlib.suppress(Exception):  # empty, as far as anybody goes
                self._store.remove(indices.PENDING)
        if self._failed:
            why = str(self._store.failed(self._failed, "written")).rstrip(".")
            raise UserError(
                f"{why}: the run is whole in {self._mirror.room} on this machine, and the same "
                "command uploads it."
            ) from self._failed

    def _drop_waiting(self) -> None:
        if self._waiting:
            self._waiting.drop()
            self._waiting = None

    def _work(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting or self._closing)
                snapshot, self._waiting = self._waiting, None
                if snapshot is None:
                    return
                self._working = True
            try:
                self._upload_until_done(snapshot)
            except BaseException as error:  # a defect: it must not look like success
                self._failed = error
                raise
            finally:
                snapshot.drop()
                self._working = False
            if self._fatal:
                return

    def _upload_until_done(self, snapshot: Snapshot) -> None:
        """Tries until the snapshot is up, a newer one is there, or the end cannot wait longer."""
        tries, wait, entries = 0, 1.0, {}
        while True:
            try:
                self._upload(snapshot, entries)
                if self._failed:
                    logging.info("%s takes the run's files again.", self._store.where)
                self._failed, self._told = None, False
                return
            except UserError as error:
                self._fatal = error
                return
            except Exception as error:
                self._failed = error
                self._tell(error)
            with self._turn:
                if self._fatal:
                    return
                tries += self._closing
                if tries >= LAST_TRIES:
                    return
                self._turn.wait(wait)
                if self._waiting:
                    return
            wait = min(2 * wait, LONGEST_WAIT if not self._closing else 8.0)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            logging.warning(
                "%s cannot be written just now (%s): the run goes on, and its files follow.",
                *(self._store.where, remote.one_line(error)),
            )
            self._told = True

    def _upload(self, snapshot: Snapshot, entries: dict[str, Entry]) -> None:
        """Makes the remote run that of a snapshot: new objects, the index, and what follows it.

        ``entries``: of the snapshot's files, computed at the first try.
        """
        self._clear_up()
        for name, path in snapshot.files.items():
            entries[name] = entries.get(name) or entry_of(path)
        files, before = {**snapshot.same, **entries}, self._index.files
        changed = {n: e for n, e in entries.items() if before.get(n) != e}
        places = {n: indices.staged(e) if n in before else n for n, e in changed.items()}
        if changed or files.keys() != before.keys():
            self._check_ours()
            # Whichever index a kill leaves, these it lacks: new ones the old, removed ones the new.
            uncertain = {n for n, p in places.items() if p == n} | (before.keys() - files.keys())
            if not uncertain <= self._pending:
                self._pending |= uncertain
                indices.write_pending(self._store, self._pending)
            self._send({places[n]: (snapshot.files[n], e) for n, e in changed.items()})
            self._check_ours()
            index = Index(indices.new_ident(), files)
            self._known.idents += (index.ident,)
            self._mirror.keep(self._known)  # killed between here and there, it is this machine's
            indices.write(self._store, index)
            self._index, self._mark = index, indices.mark(self._store)
            self._moved |= {n: p for n, p in places.items() if p != n}
            self._removed |= (before.keys() | self._pending) - files.keys()
            self._pending = set()
        signatures = {n: (snapshot.signatures[n], e.sha256) for n, e in files.items()}
        self._known.idents, self._known.files = (self._index.ident,), signatures
        self._mirror.keep(self._known)
        self._uploaded.clear()
        self._clear_up()

    def _check_ours(self) -> None:
        """Raises UserError where another one has taken over since this process wrote last.

        It may have given the lease back already; the index tells.
        """
        self.check()
        self._lease.check()
        if indices.mark(self._store) != self._mark:
            ident = indices.read(self._store).ident
            if ident not in self._known.idents:  # else a write that seemed to fail and did not
                raise UserError(
                    f"{self._store.where} was written by another process meanwhile: this one "
                    f"stops, and what it had not uploaded stays in {self._mirror.room}."
                )

    def _send(self, files: dict[str, tuple[pathlib.Path, Entry]]) -> None:
        """Uploads files to their places, but for those that a try before this one uploaded."""
        with concurrent.futures.ThreadPoolExecutor(fetched.THREADS) as pool:

            def one(place: str) -> None:
                path, entry = files[place]
                self._store.upload(path, place)
                self._uploaded[place] = entry.sha256

            left = [p for p, (_, e) in files.items() if self._uploaded.get(p) != e.sha256]
            fetched.each_of(pool, one, left)

    def _clear_up(self) -> None:
        """Copies new contents to their own names, and removes what the run has no more.

        The index tells already: killed here, whoever reads finds all, and whoever writes next does
        the copying (``down.finish``).
        """
        down.publish(self._store, self._moved)
        self._removed |= {*self._moved.values()}
        self._moved = {}  # not again: a removal that fails leaves less to copy from
        for place in sorted(self._removed):
            self._store.remove(place)
            self._removed.discard(place)
