"""What workers report of themselves: counters, over all workers that an engine has had, and spans of their work."""

from __future__ import annotations

from collections import deque

from easyvideor1.engines.engine import added
from easyvideor1.engines.worker_messages import Beat, Finished, FromWorker, Stats, WeightsTaken
from easyvideor1.spans import Span

#: Spans that are kept until somebody asks for them; older ones are dropped.
_KEPT = 4096


class WorkerReports:
    """Adds up what the workers of one engine report.

    ``own`` are counters of the trainer's side: ``sync_bytes`` and ``sync_seconds`` are of weight updates, ``restarts``
    counts workers that took the place of dead ones, ``resent`` the requests that were sent again, and ``timed_out``
    those that ran past the deadline.
    """

    def __init__(self) -> None:
        self.own = dict.fromkeys(("sync_bytes", "sync_seconds", "restarts", "resent", "timed_out"), 0.0)
        self._past: Stats = {}
        self._present: Stats = {}
        self._spans: deque[Span] = deque(maxlen=_KEPT)

    def take(self, message: FromWorker) -> None:
        """Note what a message reports, whatever else it says."""
        if isinstance(message, Beat | Finished):
            self._present = message.stats
        if isinstance(message, Beat | Finished | WeightsTaken):
            self._spans.extend(message.spans)

    def begin_worker(self) -> None:
        """Another worker takes the place of the present one, and counts from 0."""
        self._past, self._present = added(self._past, self._present), {}

    def stats(self) -> dict[str, float]:
        """All counters."""
        return {**added(self._past, self._present), **self.own}

    def spans(self) -> list[Span]:
        """Spans since the last call."""
        found = list(self._spans)
        self._spans.clear()
        return found
