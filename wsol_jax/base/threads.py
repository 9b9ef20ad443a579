"""Work on many items by a pool of threads, with few of them in memory."""

import concurrent.futures
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

In, Out = TypeVar("In"), TypeVar("Out")


def in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[In], Out],
    items: Iterable[In],
    ahead: int = 64,
) -> Iterator[Out]:
    """Maps a function over items in a thread pool, in order, at most ``ahead`` items early."""
    waiting: deque[concurrent.futures.Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # whoever stops early does not wait for what nobody wants
            future.cancel()


def usable_cores() -> int:
    """Counts the cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
