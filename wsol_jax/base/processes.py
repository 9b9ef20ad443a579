"""The processes of one run: none outlives another's end without a word.

A collective waits for all of its processes, for ever where one has ended. So each process tells the
others how it ended, and that it is alive, through the key-value store that jax.distributed keeps in
process 0; whoever hears that another one failed, or hears nothing of it any more, says so and ends.
"""

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import jax
from absl import logging

from wsol_jax.base import commands
from wsol_jax.base.errors import UserError

STATUS = 2  # of a process that ends because another one failed
BEAT, SILENCE = 2.0, 18.0  # seconds: between signs of life; without one a process is dead
_FAILED, _HEARD, _BEATS, _LEFT = (f"wsol_jax/{x}/" for x in ("failed", "heard", "beats", "left"))
_HOUR_MS = 3600 * 1000


class Signs:
    """The others' signs of life: which of them have not changed for ``SILENCE`` seconds.

    Seconds are counted between this process's own looks, no more than two beats for each.
    """

    def __init__(self, others: Iterable[int]):
        self._seen: dict[int, tuple[str | None, float]] = {}
        self._others, self._looked = tuple(others), 0.0

    def silent(self, beats: Mapping[int, str], now: float) -> set[int]:
        """Those that are silent at ``now``, in seconds, where ``beats`` are their latest signs."""
        # A pause of all, of a suspended machine say, is nobody's silence.
        since, self._looked = min(now - self._looked, 2 * BEAT), now
        for who in self._others:
            before, silent = self._seen.get(who, (None, -since))
            sign = beats.get(who)
            self._seen[who] = (sign, silent + since) if sign == before else (sign, 0.0)
        return {who for who in self._others if self._seen[who][1] > SILENCE}


class Fellows:
    """The other processes of this run, watched from their start to ``leave`` or ``tell``.

    Args:
      client: of jax.distributed's key-value store.
      kept: a sentence of what the run has saved, asked for when one has failed.
      end: what ends this process; it does not return.
    """

    def __init__(
        self,
        client,
        index: int,
        count: int,
        kept: Callable[[], str],
        end: Callable[[int], NoReturn] = os._exit,
    ):
        self._client, self._index, self._count = client, index, count
        self._kept, self._end = kept, end
        self._ended = threading.Event()  # this process's watch: nothing is heard after it
        self._over = threading.Event()  # ``end`` was called; a test's returns
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=work, daemon=True, name=f"fellows{work.__name__}")
            for work in (self._listen, self._beat)
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, sentence: str) -> None:
        """Tells the others that this process fails; returns when they know, or after 10 seconds."""
        if self._take_word():
            self._set(f"{_HEARD}{self._index}", "")
            self._note(self._index, f"ended: {sentence}")
            self._wait_for_ears()

    def leave(self) -> None:
        """Ends the watch of a process that ends well; the others go on."""
        if self._take_word():
            self._set(f"{_LEFT}{self._index}", "")
            self._wait_for_ears()  # the others close what they have open, with the store at hand

    def join(self, seconds: float = 10.0) -> None:
        """Waits until the watch's threads have ended; the store is closed, which wakes them."""
        for thread in self._threads:
            thread.join(seconds)

    def wait(self, seconds: float = SILENCE + 3 * BEAT) -> None:
        """Gives the others' failure, if that is the cause of this one's, time to be heard."""
        self._ended.wait(seconds)
        if self._ended.is_set():  # it was heard: that thread ends the process
            self._over.wait(15.0)

    def _note(self, who: int, sentence: str) -> None:
        """Writes what every process hears; the first note stands."""
        note = json.dumps({"process": who, "sentence": sentence})
        try:
            self._client.key_value_set(f"{_FAILED}first", note)
        except Exception as error:  # another one was first, or the store is gone with process 0
            logging.debug("could not tell: %s", error)

    def _take_word(self) -> bool:
        """Whether this caller is the first to end the watch."""
        with self._lock:
            first = not self._ended.is_set()
            self._ended.set()
            return first

    def _hear(self, who: int, sentence: str) -> None:
        if not self._take_word():
            return
        try:
            commands.fail(f"process {who} of {self._count} {sentence} {self._kept()}")
            sys.stderr.flush()
            if who:  # the store went with process 0, and jax.distributed is about to abort
                self._set(f"{_HEARD}{self._index}", "")
                self._wait_for_ears()
        finally:
            self._end(STATUS)
            self._over.set()

    def _listen(self) -> None:
        note = None
        while note is None and not self._ended.is_set():
            try:
                note = json.loads(self._client.blocking_key_value_get(f"{_FAILED}first", _HOUR_MS))
            except Exception as error:
                if "DEADLINE_EXCEEDED" in str(error):  # an hour without a failure
                    continue
                if self._index:  # process 0 holds the store
                    self._hear(0, "is gone.")
                return
        if note:
            self._hear(note["process"], note["sentence"])

    def _beat(self) -> None:
        """Signs of life; process 0 looks for all others', these for its."""
        number, signs = 0, Signs(range(1, self._count) if self._index == 0 else (0,))
        while not self._ended.wait(BEAT):
            number += 1
            if self._set(f"{_BEATS}{self._index}", str(number)):  # else _listen has heard why
                beats, left = self._get(_BEATS), self._get(_LEFT)
                for who in signs.silent(beats, time.monotonic()) - left.keys():
                    self._silent(who)

    def _silent(self, who: int) -> None:
        """Ends all that are left because one gives no sign of life."""
        sentence = f"gave no sign of life for {SILENCE:.0f} s."
        self._note(who, sentence)
        self._set(f"{_HEARD}{who}", "")  # nobody waits for its ears
        self._hear(who, sentence)

    def _wait_for_ears(self, seconds: float = 10.0) -> None:
        """Process 0 holds the store: it stays until the others have read it."""
        if self._index:
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            gone = self._get(_HEARD).keys() | self._get(_LEFT).keys()
            if len(gone - {0}) >= self._count - 1:
                return
            time.sleep(0.1)

    def _set(self, key: str, value: str) -> bool:
        try:
            self._client.key_value_set(key, value, allow_overwrite=True)
        except Exception as error:
            logging.debug("%s: %s", key, error)
            return False
        return True

    def _get(self, prefix: str) -> dict[int, str]:
        try:
            found = self._client.key_value_dir_get(prefix)
        except Exception as error:
            logging.debug("%s: %s", prefix, error)
            return {}
        return {int(key.rpartition("/")[2]): value for key, value in found}


_watched: Fellows | None = None
# What a collective, or a save, raises without its fellows.
_ALONE = r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|[Bb]arrier|[Cc]oordination"


def watch(kept: Callable[[], str]) -> None:
    """Watches the run's other processes, if there are any, until this one ends.

    ``kept``: a sentence of what the run has saved, for when another one has failed.
    """
    global _watched
    if jax.process_count() == 1:
        return
    from jax._src import distributed  # the store has no public name; Orbax takes it from there too

    client = distributed.global_state.client
    _watched = Fellows(client, jax.process_index(), jax.process_count(), kept)


def leave() -> None:
    """Says to the other processes that this one ends well."""
    if _watched:
        _watched.leave()


def close() -> None:
    """Closes the store before Python ends.

    A thread that still waits in the store's code while Python ends aborts the whole process.
    """
    if _watched:
        with contextlib.suppress(RuntimeError):  # another one is gone, and this one done
            jax.distributed.shutdown()  # waits for the other processes
        _watched.join()


def wait_for_cause(error: BaseException) -> None:
    """Ends this process with another one's failure, where that is why ``error`` came up here."""
    if not _watched or isinstance(error, KeyboardInterrupt):
        return
    cause = error.__cause__ if isinstance(error, UserError) else error
    if isinstance(cause, RuntimeError) or re.search(_ALONE, str(cause or "")):
        _watched.wait()


def tell(error: BaseException) -> None:
    """Tells the other processes, if there are any, that this one fails."""
    if _watched:
        own = isinstance(error, UserError)
        text = str(error) if own else f"{type(error).__name__}: {error}"[:300].rstrip(": ")
        _watched.tell(text)


def end(status: int) -> None:
    """Ends a process that failed; jax.distributed would wait for the others at its exit."""
    commands.end_soon(status, seconds=0.0 if _watched else 5.0)
