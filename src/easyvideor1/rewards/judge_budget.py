"""What one run may spend on its judge, and whether asking is worth a try at the moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: So many requests in a row that failed for good mean that the judge is down.
_FAILURES = 3
#: Seconds in which nothing is asked of a judge that is down.
REST = 30.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests sent (further attempts included), tokens they took, verdicts found in the cache."""

    requests: int = 0
    tokens: int = 0
    cached: int = 0


class Budget:
    """Counts what is spent, and refuses what goes beyond; safe from any thread. ``clock`` gives seconds."""

    def __init__(
        self, max_requests: int | None, max_tokens: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self._clock = clock
        self._requests = self._tokens = self._cached = 0
        self._failures, self._resting_until = 0, 0.0
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        with self._lock:
            return Usage(self._requests, self._tokens, self._cached)

    def take(self) -> bool:
        """Count one request, unless the budget is spent. Tokens are known afterwards, so those of the requests under
        way may go beyond it."""
        with self._lock:
            if self.max_requests is not None and self._requests >= self.max_requests:
                return False
            if self.max_tokens is not None and self._tokens >= self.max_tokens:
                return False
            self._requests += 1
            return True

    def used(self, tokens: int) -> None:
        with self._lock:
            self._tokens += tokens

    def found(self) -> None:
        """A verdict came from the cache."""
        with self._lock:
            self._cached += 1

    def is_down(self) -> bool:
        """Whether the judge failed so often in a row that it is left alone for a while."""
        with self._lock:
            return self._clock() < self._resting_until

    def answered(self) -> None:
        with self._lock:
            self._failures, self._resting_until = 0, 0.0

    def failed(self) -> None:
        """A request failed for good, with all its attempts."""
        with self._lock:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._resting_until = self._clock() + REST
