"""Scoring side by side: pools of helpers, time limits, comparisons in threads, and what is under way."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from easyvideor1.rewards.types import RewardError, masked
from easyvideor1.types import Completion, Sample, Score

#: Most workers where the configuration gives no number (one for each processor).
_MOST = 16


class Closable(Protocol):
    """A helper that a pool lends."""

    def close(self) -> None: ...


H = TypeVar("H", bound=Closable)


def default_workers() -> int:
    """How many comparisons run at a time by default."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST)


class Pool(Generic[H]):
    """Lends helpers, each to one borrower at a time; makes one when none is free, and keeps them for the next.

    A single borrower always gets the same helper. Thread-safe. A forked child starts without helpers: those of its
    parent belong to the parent.
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
        """End all helpers that are not borrowed."""
        with self._lock:
            free, self._free = self._free, []
        for helper in free:
            helper.close()


T = TypeVar("T")

#: Calls that may hang at a time. Python cannot end a thread: each of them stays and costs memory.
MOST_HANGING = 8


class TimeLimit:
    """Calls custom functions, each within a time limit.

    Each call runs in a daemon thread of its own.

    Args:
        seconds: of one call; ``None`` calls directly, without a limit.
        most_hanging: calls that may be given up at a time.
    """

    def __init__(self, seconds: float | None, most_hanging: int = MOST_HANGING) -> None:
        self._seconds, self._most_hanging = seconds, most_hanging
        self._left: list[threading.Thread] = []
        self._lock = threading.Lock()

    def call(self, name: str, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises.

        Raises:
            TimeoutError: it did not return in time.
            RewardError: too many calls hang already.
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

    @property
    def hangs(self) -> bool:
        """Whether a call that was given up goes on."""
        with self._lock:
            return any(each.is_alive() for each in self._left)

    def _leave(self, name: str, thread: threading.Thread) -> None:
        with self._lock:
            self._left = [each for each in (*self._left, thread) if each.is_alive()]
            count = len(self._left)
        if count >= self._most_hanging:
            raise RewardError(
                f"{count} calls of rewards do not return, the last one of {name!r} after {self._seconds:g} s: correct "
                "the reward, give what it waits for a time limit of its own, or raise rewards.timeout"
            )


class ActiveWork:
    """What scoring waits for at the moment, in words, one entry for each thread."""

    def __init__(self) -> None:
        self._now: dict[int, tuple[float, str]] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Record what the block waits for."""
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
        """The entry that has taken the longest; empty if there is none."""
        return min(self._now.copy().values(), default=(0.0, ""))[1]


OUT_OF_TIME = "not scored: the comparisons of the step took longer than rewards.step_seconds"

#: For responses to one sample: what compares each of them; nothing where no process is needed.
Compare = Callable[[Sample, Sequence[Completion]], Sequence[Callable[[], Score]]]


class EarlyScoring(Protocol):
    """Work on the scores of a step that may begin while its other responses are still generated."""

    def begin(self, group: int, sample: Sample, completions: Sequence[Completion]) -> Sequence[Future[Any]]:
        """Begin with the responses to a sample; ``group`` is its position. What has begun does not begin again."""
        ...

    def limit(self) -> None:
        """Start the time limit."""
        ...

    def cancel(self) -> None:
        """Cancel what has not begun."""
        ...


class Comparisons:
    """The comparisons of one step that wait for a process (programs, mathematics), running in threads, by group.

    They begin as responses come in, or all at once; those of a group begin in order. A comparison that has not begun
    ``seconds`` after the call of ``limit`` is masked.

    Args:
        pool: its threads wait for the processes.
        compare: returns the comparisons of some responses.
        seconds: the time limit of all of them together; ``None``: no limit.
    """

    def __init__(self, pool: ThreadPoolExecutor, compare: Compare, seconds: float | None) -> None:
        self._pool = pool
        self._compare = compare
        self._seconds = seconds
        self._until: float | None = None
        self._begun: dict[int, list[tuple[Completion, Future[Score]]]] = defaultdict(list)
        self._lock = threading.Lock()

    def begin(self, group: int, sample: Sample, completions: Sequence[Completion]) -> list[Future[Score]]:
        """The futures of the scores of a group's responses; comparisons that began before do not begin again.

        Those of other responses than these are cancelled.
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
        """Start the time limit."""
        if self._seconds is not None:
            self._until = time.monotonic() + self._seconds

    def cancel(self) -> None:
        """Cancel what has not begun."""
        with self._lock:
            for _, future in (each for begun in self._begun.values() for each in begun):
                future.cancel()

    def _in_time(self, compare: Callable[[], Score]) -> Score:
        if self._until is not None and time.monotonic() > self._until:
            return masked(OUT_OF_TIME)
        return compare()
