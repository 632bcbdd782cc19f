"""What was read lately, kept in memory up to a number of bytes, so that several readers share one read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from easyvideor1.types import Frames

#: At most so many are kept whatever their size: each may hold a file open.
MOST_KEPT = 256


@dataclass
class _Turn:
    """Who reads one key now; the others wait for their turn and then find it kept."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class RecentFrames:
    """Frames by key, the least recently used forgotten first. Thread-safe.

    Args:
        limit: bytes of pixels to keep in all; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Frames] = OrderedDict()
        self._turns: dict[Hashable, _Turn] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Frames]) -> Frames:
        """The frames kept under ``key``, else those of ``make()``, which runs once at a time for one key.

        An error of ``make`` is raised and not kept.
        """
        if not self._limit:
            return make()
        with self._lock:
            if (found := self._found(key)) is not None:
                return found
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                with self._lock:
                    if (found := self._found(key)) is not None:
                        return found
                frames = make()
                self._keep(key, frames)
                return frames
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    self._turns.pop(key, None)

    def forget(self, wanted: Callable[[Hashable], bool]) -> None:
        """Let go of the keys that ``wanted`` is true for."""
        with self._lock:
            for key in [key for key in self._kept if wanted(key)]:
                self._bytes -= self._kept.pop(key).pixels.nbytes

    def _found(self, key: Hashable) -> Frames | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: Hashable, frames: Frames) -> None:
        if frames.pixels.nbytes > self._limit:
            return
        with self._lock:
            self._kept[key] = frames
            self._bytes += frames.pixels.nbytes
            while self._bytes > self._limit or len(self._kept) > MOST_KEPT:
                self._bytes -= self._kept.popitem(last=False)[1].pixels.nbytes
