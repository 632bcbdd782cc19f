"""Comparisons that wait for a process of their own (programs, mathematics), going on side by side in threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from easyvideor1.rewards.contract import masked
from easyvideor1.types import Completion, Sample, Score

OUT_OF_TIME = "not scored: the comparisons of the step took longer than rewards.step_seconds"

#: Of responses to one sample, what compares each: nothing where they need no process.
Compare = Callable[[Sample, Sequence[Completion]], Sequence[Callable[[], Score]]]


class Comparisons:
    """Those of one step, by group: begun as its responses come in, or all at once.

    What has not begun ``seconds`` after ``limit`` was called is masked. Responses of a group are begun in order.

    Args:
        pool: whose threads wait for the processes.
        compare: gives the comparisons of some responses.
        seconds: the time that they may take together; ``None`` waits for all.
    """

    def __init__(self, pool: ThreadPoolExecutor, compare: Compare, seconds: float | None) -> None:
        self._pool = pool
        self._compare = compare
        self._seconds = seconds
        self._until: float | None = None
        self._begun: dict[int, list[tuple[Completion, Future[Score]]]] = defaultdict(list)
        self._lock = threading.Lock()

    def begin(self, group: int, sample: Sample, completions: Sequence[Completion]) -> list[Future[Score]]:
        """The scores, under way, of a group's responses; those that were begun before are not begun again.

        What was begun of other responses than these is given up.
        """
        with self._lock:
            begun = self._begun[group]
            same = [one for one, _ in begun] == list(completions[: len(begun)])
            if not same:
                for _, future in begun:
                    future.cancel()
                begun.clear()
            fresh = completions[len(begun) :]
            compare = self._compare(sample, fresh)  # nothing where no process is needed
            begun += [(one, self._pool.submit(self._in_time, each)) for one, each in zip(fresh, compare, strict=False)]
            return [future for _, future in begun]

    def limit(self) -> None:
        """Let the time run: from now on somebody waits."""
        if self._seconds is not None:
            self._until = time.monotonic() + self._seconds

    def cancel(self) -> None:
        """Give up what has not begun."""
        with self._lock:
            for _, future in (each for begun in self._begun.values() for each in begun):
                future.cancel()

    def _in_time(self, compare: Callable[[], Score]) -> Score:
        if self._until is not None and time.monotonic() > self._until:
            return masked(OUT_OF_TIME)
        return compare()
