"""What scoring waits for at the moment, in words, for whoever watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Doing:
    """Work under way, one piece per thread."""

    def __init__(self) -> None:
        self._now: dict[int, tuple[float, str]] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Name what the block waits for."""
        thread = threading.get_ident()
        before = self._now.get(thread)
        self._now[thread] = (time.monotonic(), what)
        try:
            yield
        finally:
            if before is None:
                del self._now[thread]
            else:
                self._now[thread] = before

    def words(self) -> str:
        """The piece that has taken the longest; empty if there is none."""
        return min(self._now.copy().values(), default=(0.0, ""))[1]
