"""Rewards in processes of their own: what a run uses in place of a ``Scorer`` where ``rewards.processes`` says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from easyvideor1.config import JudgeConfig, RewardConfig
from easyvideor1.engines.process import ProcessChannel
from easyvideor1.engines.ray_channel import RayChannel, join_cluster
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.concurrency import EarlyScoring, default_workers
from easyvideor1.rewards.judge.asking import Usage
from easyvideor1.rollout.reward_worker import OpenScorer
from easyvideor1.rollout.scoring_pool import GroupTask, ScoringPool
from easyvideor1.spans import Span
from easyvideor1.types import Completion, EasyVideoError, Sample, Score

_LOOP = "easyvideor1.rollout.reward_worker:serve"


class RewardWorkers(Scorer):
    """A ``Scorer`` whose groups are scored in ``rewards.processes`` processes, with the same results.

    The unit of work is a group, because parts such as diversity compare its responses. Each process has rewards of its
    own, which therefore need not be thread-safe, a part of what the judge may be asked, and the judge's cache
    of verdicts in common with the others (files). Rewards are tried and the judge is checked in this process.

    The processes start with the first group. They are actors of Ray, or processes of this machine.
    """

    def __init__(self, config: RewardConfig, *, by_ray: bool = False) -> None:
        super().__init__(config)
        self._by_ray = by_ray
        self._processes: ScoringPool | None = None
        self._closed = False
        self._opening = threading.Lock()

    @property
    def at_once(self) -> int:
        """See ``Scorer``."""
        return self.config.processes

    def open_pool(self) -> ScoringPool:
        """The processes, which are started if there are none.

        Raises:
            ConfigError: there is no such Ray cluster.
            EasyVideoError: they were closed.
        """
        with self._opening:
            if self._closed:
                raise EasyVideoError("rewards were closed, and nothing more is scored")
            if self._processes is None:
                if self._by_ray:
                    join_cluster()
                self._processes = ScoringPool(
                    self.config.processes,
                    self._start,
                    self._opens,
                    deadline=self.config.deadline,
                    trajectories=self.reads_trajectories,
                    note=self._note,
                )
            return self._processes

    def __call__(self, sample: Sample, response: str | Completion) -> Score:
        """See ``Scorer``."""
        (score,) = self.score_each([(sample, response if isinstance(response, Completion) else Completion(response))])
        return score

    def score_group(self, sample: Sample, responses: Sequence[str | Completion]) -> tuple[Score, ...]:
        """See ``Scorer``."""
        given = [one if isinstance(one, Completion) else Completion(one) for one in responses]
        (scores,) = self.score_groups([(sample, given)])
        return scores

    def comparisons(self, seconds: float | None = None) -> GroupsAhead:
        """For ``score_groups``: groups that may be scored while others of the step are still generated."""
        return GroupsAhead(
            lambda task: self.open_pool().submit(task), self.config.step_seconds if seconds is None else seconds
        )

    def score_groups(
        self, groups: Sequence[tuple[Sample, Sequence[Completion]]], begun: EarlyScoring | None = None
    ) -> list[tuple[Score, ...]]:
        """See ``Scorer``. A group whose process hangs or dies is masked and counted."""
        ahead = self.comparisons() if begun is None else begun
        ahead.limit()
        try:
            futures = [ahead.begin(number, sample, given) for number, (sample, given) in enumerate(groups)]
            return [each.result() for (each,) in futures]
        finally:
            ahead.cancel()

    def score_each(self, pairs: Sequence[tuple[Sample, Completion]]) -> list[Score]:
        """See ``Scorer``."""
        tasks = [GroupTask(sample, [one], training=False) for sample, one in pairs]
        for task in tasks:
            self.open_pool().submit(task)
        try:
            return [task.future.result()[0] for task in tasks]
        finally:
            for task in tasks:
                task.future.cancel()

    def waiting(self) -> str:
        """See ``Scorer``."""
        pool = self._processes
        busy = [] if pool is None else pool.busy()
        if not busy:
            return super().waiting()
        task, pid = busy[0]
        return f"the {task.sample.task} of {task.sample.id!r} (process {pid})"

    def close(self) -> None:
        """End the processes, for good: what asks for scores afterwards gets an error."""
        with self._opening:
            self._closed = True
            pool, self._processes = self._processes, None
        if pool is not None:
            pool.close()

    def _start(self, on_message: Callable[[], None]) -> Any:
        if self._by_ray:  # beside ranks that may have reserved all CPUs
            return RayChannel(cpus=0, on_message=on_message, serve=_LOOP)
        return ProcessChannel(on_message, serve=_LOOP, name="rewards", own_temporary=True)

    def _opens(self, place: int, spent: Usage) -> OpenScorer:
        key = self.config.judge.api_key_env
        environment = {key: os.environ[key]} if key in os.environ else {}  # that of an actor is not this one
        return OpenScorer(config_of_process(self.config, place, spent), environment)

    def _note(self, counts: dict[tuple[str, str], int], spans: Sequence[Span]) -> None:
        for (task, reason), times in counts.items():
            self._count(task, reason, times)
        self.spans.add(spans)


class GroupsAhead:
    """The groups of a step that are scored, by their position (``rewards.concurrency.EarlyScoring``).

    Args:
        submit: has a group scored.
        seconds: in which comparisons must begin, from the call of ``limit``.
    """

    def __init__(self, submit: Callable[[GroupTask], None], seconds: float | None) -> None:
        self._submit, self._seconds = submit, seconds
        self._until: float | None = None
        self._tasks: dict[int, GroupTask] = {}

    def begin(self, group: int, sample: Sample, completions: Sequence[Completion]) -> list[Future[tuple[Score, ...]]]:
        """The future scores of a group, which is one; a group that was begun with the same responses goes on."""
        task = self._tasks.get(group)
        if task is None or [*task.completions] != [*completions]:
            if task is not None:
                task.future.cancel()
            task = self._tasks[group] = GroupTask(sample, [*completions], seconds=self._seconds, until=self._until)
            if completions:
                self._submit(task)
            else:
                task.future.set_result(())
        return [task.future]

    def limit(self) -> None:
        """Start the time limit."""
        if self._seconds is not None:
            self._until = time.monotonic() + self._seconds
            for task in self._tasks.values():
                task.until = self._until

    def cancel(self) -> None:
        """Cancel what has not begun."""
        for task in self._tasks.values():
            task.future.cancel()


def config_of_process(config: RewardConfig, place: int, spent: Usage) -> RewardConfig:
    """The configuration of one of ``config.processes`` processes, with its part of what the judge may be asked.

    All of them together stay within it. They share the threads, too, but each has one at least.

    ``spent`` is what the processes before it in its place have asked the judge; the group that one of them was lost
    with is not in it.
    """
    count, judge = config.processes, config.judge
    changes = {}
    for name, used in (("concurrency", 0), ("max_requests", spent.requests), ("max_tokens", spent.tokens)):
        whole = getattr(judge, name)
        if whole is not None:
            changes[name] = max(0, whole // count + (place < whole % count) - used)
    own: JudgeConfig = judge.model_copy(update=changes)
    workers = max(1, (config.workers or default_workers()) // count)
    return config.model_copy(update={"judge": own, "workers": workers, "processes": 0})
