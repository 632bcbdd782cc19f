"""Helpers that a comparison needs for itself while it lasts: processes and browsers, as many as work side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

#: Workers where the configuration names no number: one per processor, and no more than this.
_MOST = 16


class Closable(Protocol):
    """What a pool lends."""

    def close(self) -> None: ...


H = TypeVar("H", bound=Closable)


def usual_workers() -> int:
    """How many comparisons go on at a time where nobody says."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST)


class Pool(Generic[H]):
    """Lends helpers, each to one borrower at a time; makes one when none is free, and keeps them for the next.

    Whoever works alone always gets the same helper. Safe from any thread; a forked child begins with none, for the
    helpers are its parent's.
    """

    def __init__(self, make: Callable[[], H]) -> None:
        self._make = make
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._free: list[H] = []

    @contextmanager
    def lend(self) -> Iterator[H]:
        """A helper for the length of a ``with`` block."""
        with self._lock:
            helper = self._free.pop() if self._free else None
        helper = self._make() if helper is None else helper
        try:
            yield helper
        finally:
            with self._lock:
                self._free.append(helper)

    def close(self) -> None:
        """End all helpers that nobody has borrowed."""
        with self._lock:
            free, self._free = self._free, []
        for helper in free:
            helper.close()
