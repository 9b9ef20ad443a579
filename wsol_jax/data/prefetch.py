"""Batches on their way to the devices, ahead of their use."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Host = TypeVar("Host")
Device = TypeVar("Device")


class DevicePrefetch(Generic[Host, Device]):
    """Moves batches onto the devices ahead of their use, and measures the time spent waiting.

    Attributes:
      waited: seconds that ``next`` has blocked since the last ``take_waited``.
    """

    def __init__(self, batches: Iterator[Host], put: Callable[[Host], Device], depth: int = 2):
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self.waited = 0.0

        def work():
            try:
                for batch in batches:
                    if not self._offer(("batch", put(batch))):
                        return
                self._offer(("end", None))
            except BaseException as error:
                self._offer(("error", error))

        self._thread = threading.Thread(target=work, name="device_prefetch", daemon=True)
        self._thread.start()

    def _offer(self, item: tuple[str, object]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self):
        return self

    def __next__(self) -> Device:
        start = time.perf_counter()
        # The thread stops after its last item: whoever asks again must not wait for it.
        kind, value = "end", None
        while not self._stop.is_set():
            try:
                kind, value = self._queue.get(timeout=0.2)
                break
            except queue.Empty:
                continue
        self.waited += time.perf_counter() - start
        if kind == "batch":
            return value
        self._stop.set()
        raise value if kind == "error" else StopIteration

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited

    def close(self) -> None:
        """Stops the thread; batches in flight are dropped."""
        self._stop.set()
        self._thread.join(timeout=10)
