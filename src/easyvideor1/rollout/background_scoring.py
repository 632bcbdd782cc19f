"""Scores groups in the background, as they come, while others are still generated."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from easyvideor1.rollout.groups import GroupScorer, attach_scores
from easyvideor1.types import Group


class BackgroundScoring:
    """Threads that score what waits for them; they end when nothing waits.

    One thread scores all that is of one step together. Of several, each takes one group after the other.

    Nothing is scored twice, for a reward may cost money: what the scorer raises is the error of all groups that were
    scored together. Groups of other steps are not touched by it.

    With one thread, rewards need not be thread-safe as long as nobody else scores at the same time (``wait``). Threads
    are daemons: a reward that hangs does not keep the process alive.

    Args:
        scorer: scores groups, as ``rewards.Scorer.score_groups``.
        threads: calls of it at the same time.
    """

    def __init__(self, scorer: GroupScorer, threads: int = 1) -> None:
        self._scorer, self._most = scorer, threads
        self._waiting: dict[int, deque[tuple[Group, Future[Group]]]] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._lock = threading.Lock()

    def begin(self, group: Group, step: int = 0) -> Future[Group]:
        """The group with its scores, or what the scorer raised. A future that is cancelled in time is left.

        Args:
            group: without scores.
            step: groups with the same number may be scored together.

        Raises:
            RuntimeError: this was closed.
        """
        future: Future[Group] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("scoring in the background was closed")
            self._waiting.setdefault(step, deque()).append((group, future))
            if len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, name="score ahead", daemon=True)
                self._threads.add(thread)
                thread.start()
        return future

    def wait(self) -> None:
        """Return when nothing is scored and nothing waits."""
        while (thread := next(iter(self._threads.copy()), None)) is not None:
            thread.join()

    def close(self) -> None:
        """Cancel what waits, and take no more; what is being scored goes on, and nobody waits for it."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
        for _, future in (each for groups in waiting.values() for each in groups):
            future.cancel()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                taken = self._next()
            self._score([(group, future) for group, future in taken if future.set_running_or_notify_cancel()])

    def _next(self) -> list[tuple[Group, Future[Group]]]:
        """What a thread takes of the first step that waits."""
        step = min(self._waiting)
        if self._most == 1:
            return [*self._waiting.pop(step)]
        first = self._waiting[step].popleft()
        if not self._waiting[step]:
            del self._waiting[step]
        return [first]

    def _score(self, taken: Sequence[tuple[Group, Future[Group]]]) -> None:
        try:
            scored = attach_scores([group for group, _ in taken], self._scorer)
        except BaseException as error:  # noqa: BLE001 - raised again, where the group is asked for
            for _, future in taken:
                future.set_exception(error)
            return
        for (_, future), group in zip(taken, scored, strict=True):
            future.set_result(group)
