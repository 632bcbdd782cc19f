"""Scores groups in a thread of its own, as they come, while others are still generated."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from easyvideor1.rollout.groups import GroupScorer, attach_scores
from easyvideor1.types import Group


class BackgroundScoring:
    """One thread that scores what waits for it, all that is of one step together; it ends when nothing waits.

    Nothing is scored twice, for a reward may cost money: what the scorer raises is the error of all groups that were
    scored together. Groups of other steps are not touched by it.

    So at most one thread calls the scorer, and rewards need not be thread-safe as long as nobody else scores at the
    same time (``wait``). The thread is a daemon: a reward that hangs does not keep the process alive.

    Args:
        scorer: scores groups, as ``rewards.Scorer.score_groups``.
    """

    def __init__(self, scorer: GroupScorer) -> None:
        self._scorer = scorer
        self._waiting: dict[int, list[tuple[Group, Future[Group]]]] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def begin(self, group: Group, step: int = 0) -> Future[Group]:
        """The group with its scores, or what the scorer raised. A future that is cancelled in time is left.

        Args:
            group: without scores.
            step: groups with the same number may be scored together.
        """
        future: Future[Group] = Future()
        with self._lock:
            self._waiting.setdefault(step, []).append((group, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="score ahead", daemon=True)
                self._thread.start()
        return future

    def wait(self) -> None:
        """Return when nothing is scored and nothing waits."""
        while (thread := self._thread) is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                taken = self._waiting.pop(min(self._waiting))
            self._score([(group, future) for group, future in taken if future.set_running_or_notify_cancel()])

    def _score(self, taken: Sequence[tuple[Group, Future[Group]]]) -> None:
        try:
            scored = attach_scores([group for group, _ in taken], self._scorer)
        except BaseException as error:  # noqa: BLE001 - raised again, where the group is asked for
            for _, future in taken:
                future.set_exception(error)
            return
        for (_, future), group in zip(taken, scored, strict=True):
            future.set_result(group)
