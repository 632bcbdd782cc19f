"""Processes that score groups, as the run sees them: one group at a time each, within a deadline.

One thread speaks to all of them. A process that hangs or dies is replaced. Nothing is scored twice, because a reward
may cost money, and what has ended one process may end the next: the responses that it had are masked and counted.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from easyvideor1.rewards.judge.asking import Usage
from easyvideor1.rewards.types import masked
from easyvideor1.rollout.reward_worker import GroupScored, OpenScorer, ScoreGroup, ScorerReady, scoring_error
from easyvideor1.spans import Span
from easyvideor1.types import Completion, EasyVideoError, Sample, Score

#: Reasons of masked responses, the same for the same cause.
HUNG = "not scored: its process took longer than rewards.deadline"
DIED = "not scored: its process ended"
#: Seconds that a process gets to load its rewards; Ray may have to find a place for it.
_START_SECONDS = 600.0
#: Processes in a row that end before they can score: no matter of chance.
_MOST_STARTS = 3
#: Processes that end over one group after the other, while no group is scored: no matter of single responses.
_MOST_DEATHS = 16
#: Seconds that the processes get to end, all of them together, when the pool is closed.
_END_SECONDS = 30.0
#: Seconds between two looks at processes that say nothing.
_LOOK_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class GroupTask:
    """A group that is to be scored; ``until`` is when comparisons must have begun, by ``time.monotonic``."""

    sample: Sample
    completions: Sequence[Completion]
    training: bool = True
    until: float | None = None
    #: What ``until`` becomes when the run begins to wait for the group.
    seconds: float | None = None
    future: Future[tuple[Score, ...]] = field(default_factory=Future)

    @property
    def seconds_left(self) -> float | None:
        """In which comparisons may begin."""
        return self.seconds if self.until is None else max(self.until - time.monotonic(), 0.0)

    def give(self, scores: tuple[Score, ...]) -> None:
        """Resolve the future; one that was cancelled meanwhile stays so."""
        with suppress(InvalidStateError):
            self.future.set_result(scores)

    def fail(self, error: Exception) -> None:
        """Resolve the future with an error; one that was cancelled meanwhile, or has its scores, stays so."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class _Process:
    """A process, or those that took its place one after the other; ``until`` is when it must have answered."""

    place: int
    channel: Any
    until: float
    ready: bool = False
    pid: int = 0
    starts: int = 1
    #: Its future is resolved before this is ``None`` again: whatever fails between, somebody knows of the task.
    task: GroupTask | None = None
    #: What those before it have asked the judge.
    spent: Usage = field(default_factory=Usage)
    usage: Usage = field(default_factory=Usage)


#: Called as ``(tasks by reason, spans)`` with what scoring a group adds to the figures of the run.
Note = Callable[[dict[tuple[str, str], int], Sequence[Span]], None]


class ScoringPool:
    """Scores groups in processes, in the order in which they come.

    Args:
        count: of processes.
        start: starts one and returns the ``Channel`` to it; its argument is called whenever something came from it.
        opening: what the process in a place opens, given what those before it there have asked the judge.
        deadline: seconds that a group may take in its process.
        trajectories: whether rewards read them.
        note: called before the scores of a group can be had, by one thread at a time.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[Callable[[], None]], Any],
        opening: Callable[[int, Usage], OpenScorer],
        *,
        deadline: float,
        trajectories: bool,
        note: Note,
    ) -> None:
        self._count, self._start, self._opening = count, start, opening
        self._deadline, self._trajectories, self._note = deadline, trajectories, note
        self._waiting: deque[GroupTask] = deque()
        self._processes: list[_Process] = []
        self._error: Exception | None = None
        self._numbers = self._deaths = 0
        self._judge_answers = False
        self._closed = False
        self._ending: list[threading.Thread] = []
        self._bell, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="reward processes", daemon=True)
        self._thread.start()

    def submit(self, task: GroupTask) -> None:
        """Have a group scored: ``task.future`` gets its scores, or the error that stops the run."""
        with self._lock:
            error = self._error
            if error is None:
                self._waiting.append(task)
        if error is not None:
            task.fail(error)
        self._bell.set()

    def busy(self) -> list[tuple[GroupTask, int]]:
        """The groups that are scored at the moment, the oldest first, each with the process that does it."""
        busy = [(each.until, task, each.pid) for each in [*self._processes] if (task := each.task) is not None]
        return [(task, pid) for _, task, pid in sorted(busy, key=lambda one: one[0])]

    @property
    def pids(self) -> list[int]:
        """Of the processes that are ready."""
        return [each.pid for each in self._processes if each.ready]

    def close(self) -> None:
        """End the processes; what is not scored by then never will be."""
        with self._lock:
            self._closed = True
        self._bell.set()
        self._thread.join()

    # -- the thread

    def _run(self) -> None:
        try:
            for place in range(self._count):
                self._processes.append(_Process(place, self._started(), 0.0))
                self._open(self._processes[-1])
            while not self._closed:
                self._bell.wait(self._pause())
                self._bell.clear()
                for process in self._processes:
                    self._look(process)
                self._hand_out()
        except Exception as error:  # noqa: BLE001 - raised again, where scores are asked for
            self._fail(error)
        finally:
            self._fail(EasyVideoError("rewards were closed while groups waited for their scores"))
            until = time.monotonic() + _END_SECONDS
            for process in self._processes:
                self._end(process)
            for thread in self._ending:
                thread.join(max(until - time.monotonic(), 0.0))

    def _started(self) -> Any:
        """The channel to a new process.

        Raises:
            EasyVideoError: this machine cannot start another.
        """
        try:
            return self._start(self._bell.set)
        except OSError as error:  # no memory, or too many processes or files
            raise EasyVideoError(
                f"a process of rewards cannot be started: {error} - set rewards.processes lower, or to 0"
            ) from error

    def _end(self, process: _Process) -> None:
        """End a process in a thread of its own: the kernel may hold one for long, as for a disk that hangs."""
        self._ending = [each for each in self._ending if each.is_alive()]
        thread = threading.Thread(target=process.channel.kill, name="end rewards", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no room for a thread
            process.channel.kill()
        else:
            self._ending.append(thread)

    def _pause(self) -> float:
        """Seconds until the next deadline, and not too long."""
        ends = [each.until for each in self._processes if each.task is not None or not each.ready]
        return min(max(min(ends, default=float("inf")) - time.monotonic(), 0.0), _LOOK_SECONDS)

    def _open(self, process: _Process) -> None:
        process.ready, process.usage = False, Usage()
        process.until = time.monotonic() + _START_SECONDS
        process.channel.send(self._opening(process.place, process.spent))

    def _look(self, process: _Process) -> None:
        """Take what a process says; replace it where it has ended, or says nothing in time."""
        while (message := process.channel.receive(0.0)) is not None:
            if isinstance(message, ScorerReady):
                if message.fault is not None:
                    raise message.fault.error()
                process.ready, process.pid, process.starts = True, message.pid, 0
            elif isinstance(message, GroupScored):
                self._take(process, message)
        if not process.channel.alive():
            self._lose(process, DIED, "ended", process.channel.last_words())
        elif (process.task is not None or not process.ready) and time.monotonic() > process.until:
            limit = self._deadline if process.ready else _START_SECONDS
            setting = " (rewards.deadline)" if process.ready else ""
            self._lose(process, HUNG, f"took longer than {limit:g} s{setting}")

    def _take(self, process: _Process, found: GroupScored) -> None:
        task = process.task
        assert task is not None
        process.usage, self._deaths = found.usage, 0
        self._judge_answers = self._judge_answers or found.judge_answers
        self._note(dict(found.counts), found.spans)
        if found.fault is not None:
            task.fail(scoring_error(found.fault))
        else:
            task.give(found.scores)
        process.task = None
        if found.hangs:  # a call of a reward, which only ends with its process
            self._replace(process)

    def _lose(self, process: _Process, reason: str, what: str, last_words: str = "") -> None:
        task, words = process.task, f"a process of rewards {what}"
        said = f": {last_words}" if last_words else ""
        if not process.ready and process.starts >= _MOST_STARTS:
            raise EasyVideoError(
                f"{words} before it could score, {process.starts} times in a row; set rewards.processes=0{said}"
            )
        if task is not None:
            words += f" over {len(task.completions)} responses to {task.sample.id!r}, which are not scored"
            self._note({(task.sample.task, reason): len(task.completions)}, ())
            task.give((masked(reason),) * len(task.completions))  # before anything that can fail
            process.task = None
            self._deaths += reason == DIED
            if self._deaths >= _MOST_DEATHS:
                raise EasyVideoError(
                    f"{words}; {self._deaths} processes have ended over one group after the other, and none was scored "
                    f"meanwhile. Correct what ends them: the reward, or memory that is too small{said}"
                )
        warnings.warn(f"{words}; another one takes its place{said}", RuntimeWarning, stacklevel=2)
        self._replace(process)

    def _replace(self, process: _Process) -> None:
        self._end(process)
        process.spent = Usage(*(one + other for one, other in zip(_of(process.spent), _of(process.usage), strict=True)))
        process.starts += 1
        process.channel = self._started()
        self._open(process)

    def _hand_out(self) -> None:
        for process in self._processes:
            while process.ready and process.task is None:
                with self._lock:
                    if not self._waiting:
                        return
                    task = self._waiting.popleft()
                if task.future.set_running_or_notify_cancel():
                    self._send(process, task)

    def _send(self, process: _Process, task: GroupTask) -> None:
        self._numbers += 1
        process.task, process.until = task, time.monotonic() + self._deadline
        message = ScoreGroup.of(
            self._numbers,
            task.sample,
            task.completions,
            training=task.training,
            seconds=task.seconds_left,
            trajectories=self._trajectories,
            judge_answers=self._judge_answers,
        )
        process.channel.send(message)

    def _fail(self, error: Exception) -> None:
        """Have everything that waits, now or later, end with an error."""
        with self._lock:
            self._error = self._error or error
            left, self._waiting = [*self._waiting], deque()
        running = [each.task for each in self._processes if each.task is not None]
        for task in [*running, *left]:
            task.fail(self._error)
        for process in self._processes:
            process.task = None


def _of(usage: Usage) -> tuple[int, int, int]:
    return usage.requests, usage.tokens, usage.cached
