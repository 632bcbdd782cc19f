"""Scoring side by side: pools of helpers, time limits, comparisons in threads, and what is under way."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from easyvideor1.rewards.types import RewardError, masked
from easyvideor1.types import Completion, Sample, Score

#: Workers where the configuration names no number: one per processor, and no more than this.
_MOST = 16


class Closable(Protocol):
    """What a pool lends."""

    def close(self) -> None: ...


H = TypeVar("H", bound=Closable)


def default_workers() -> int:
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


T = TypeVar("T")

#: Calls that may hang at a time. Python cannot end a thread, so each of them is left behind and costs memory.
_HANGING = 8


class TimeLimit:
    """Calls functions of the user, each within a time limit.

    A call runs in a thread of its own, which ends with the process at the latest.

    Args:
        seconds: of one call; ``None`` calls directly and waits for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._left: list[threading.Thread] = []
        self._lock = threading.Lock()

    def call(self, name: str, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises.

        Raises:
            TimeoutError: it did not return in time.
            RewardError: so many calls hang already that going on would not help.
        """
        if self._seconds is None:
            return function()
        found: list[T] = []
        raised: list[BaseException] = []

        def work() -> None:
            try:
                found.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again, in the thread that asked
                raised.append(error)

        thread = threading.Thread(target=work, name=f"reward {name}", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if raised:
            raise raised[0]
        if found:
            return found[0]
        self._leave(name, thread)
        raise TimeoutError(f"no result within {self._seconds:g} s (rewards.timeout)")

    def _leave(self, name: str, thread: threading.Thread) -> None:
        with self._lock:
            self._left = [each for each in (*self._left, thread) if each.is_alive()]
            count = len(self._left)
        if count >= _HANGING:
            raise RewardError(
                f"{count} calls of rewards do not return, the last one of {name!r} after {self._seconds:g} s: correct "
                "the reward, give what it waits for a time limit of its own, or raise rewards.timeout"
            )


class ActiveWork:
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
