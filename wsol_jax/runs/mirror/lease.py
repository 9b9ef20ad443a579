"""Who writes to a remote run: an object with its holder's name and heartbeat.

Best effort: an object store has no locks. Stores that can are asked to let one of two create the
object; a holder looks before each beat and each index whether it is still the one. A holder that
was killed leaves the object; whoever comes next watches it for ``SILENCE`` seconds, and takes over
where it does not beat.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping

from absl import logging

from wsol_jax.base import remote
from wsol_jax.base.errors import UserError
from wsol_jax.base.types import Json
from wsol_jax.runs.mirror.index import LEASE

BEAT, SILENCE = 10.0, 45.0  # seconds: between signs of life; without one a holder is dead


class Lease:
    """The right to write to a remote run, from ``take`` to ``release``.

    Args:
      mirror: names this machine's mirror. Only one process of a machine holds a mirror, so that a
        lease of the same one is that of a process that is no more.
    """

    def __init__(self, store: remote.Store, mirror: str):
        self._store, self._mirror = store, mirror
        self._token, self._beats = secrets.token_hex(8), 0
        self._since = time.strftime("%Y-%m-%d %H:%M:%S%z")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="mirror_lease")

    def take(self) -> None:
        """Takes the lease, and keeps it with a heartbeat.

        Raises:
          UserError: another process holds it, or the folder cannot be written.
        """
        try:
            # Looked for first: a store may not know the request that refuses to replace an object.
            free = remote.retry(self._read) is None
            if not free or not remote.retry(lambda: self._store.create(LEASE, self._content())):
                self._take_over()
                remote.retry(lambda: self._store.write(LEASE, self._content()))
            found = remote.retry(self._read)
        except UserError:
            raise
        except Exception as error:
            raise self._store.failed(error, "written") from error
        if found and found.get("token") != self._token:  # two at once: the last one has it
            raise self._in_use(found)
        self._thread.start()

    def check(self) -> None:
        """Raises UserError where another one has taken over since; OSError and the like pass."""
        found = self._read()
        if not found:  # removed by hand, or half of a write that failed: it is taken again
            self._store.write(LEASE, self._content())
        elif found.get("token") != self._token:
            raise UserError(
                f"{self._store.where} was taken over by {_holder(found)} while this process gave "
                f"no sign of life for {SILENCE:.0f} s: it stops, and what it had not uploaded "
                "stays in the cache."
            )

    def release(self) -> None:
        """Gives the lease back, as far as the store can be reached."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(BEAT)
        try:
            found = self._read()
            if found and found.get("token") == self._token:
                self._store.remove(LEASE)
        except Exception as error:  # it goes stale
            logging.debug("the lease could not be given back: %s", error)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self.check()
                self._beats += 1
                if not self._ended.is_set():
                    self._store.write(LEASE, self._content())
            except UserError:
                return  # whoever uploads next is told
            except Exception as error:  # the store cannot be reached just now
                logging.debug("no heartbeat: %s", error)

    def _take_over(self) -> None:
        """Returns where the lease that is there is nobody's; it may have to be watched."""
        first = remote.retry(self._read)
        if first is None or first.get("mirror") == self._mirror:
            return
        logging.warning(
            "%s: %s wrote to it and has not given it back; waiting %.0f s for a sign of life.",
            *(self._store.where, _holder(first), SILENCE),
        )
        end = time.monotonic() + SILENCE
        while time.monotonic() < end:
            time.sleep(min(2.0, SILENCE / 4))
            now = remote.retry(self._read)
            if now is None:
                return
            if now != first:
                raise self._in_use(now)

    def _in_use(self, found: Mapping[str, Json]) -> UserError:
        return UserError(
            f"{self._store.where} is in use: {_holder(found)}, writes a run to it; wait for that "
            "run to end, stop it, or take another workdir."
        )

    def _read(self) -> dict[str, Json] | None:
        content = self._store.read(LEASE)
        if content is None:
            return None
        try:
            found = json.loads(content)
            return found if isinstance(found, dict) else {}
        except ValueError:
            return {}

    def _content(self) -> bytes:
        content = {
            "token": self._token,
            "mirror": self._mirror,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": self._since,
            "beat": self._beats,
        }
        return json.dumps(content).encode()


def _holder(found: Mapping[str, Json]) -> str:
    process, host, since = (str(found.get(n, "?"))[:64] for n in ("process", "host", "since"))
    return f"process {process} on {host}, since {since}"
