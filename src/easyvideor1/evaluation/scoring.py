"""Score the answers of a model, behind the engine that gives them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from easyvideor1.benchmarks import ScoreFunction
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.evaluation.answers import Answer
from easyvideor1.evaluation.stages import LeftError, Stage
from easyvideor1.records.trajectories import SampleRecord, trajectory_record
from easyvideor1.rewards import Scorer
from easyvideor1.spans import SpanRecorder
from easyvideor1.types import Sample, Score, Trajectory

#: An answer with the place of its question.
Placed = tuple[int, Answer]


def scoring_threads(rewards: RewardConfig) -> int:
    """Responses that are scored at the same time: only calls to a judge gain from threads, and without a judge a custom
    reward need not be thread-safe."""
    return rewards.judge.concurrency if rewards.judge.url else 1


class Scoring:
    """Keeps answers and scores them, in threads: first every answer is kept, then scored.

    Args:
        scorer: scores a response; what it raises is raised where answers are added, or by ``finish``.
        threads: responses scored at the same time, for scorers that wait for a service, such as an LLM judge; with more
            than one, ``scorer`` must be thread-safe. With one, the scorer is called by one thread, and a ``Scorer`` is
            given all responses that wait.
        keep: keeps answers, and returns them as they are to be scored; nothing is kept without it.
        spans: records ``keep`` and ``score``.
        on_scored: called with the number of questions scored so far, by one thread at a time.
    """

    def __init__(
        self,
        scorer: ScoreFunction,
        *,
        threads: int = 1,
        keep: Callable[[Sequence[Answer]], Sequence[Answer]] | None = None,
        spans: SpanRecorder | None = None,
        on_scored: Callable[[int], None] | None = None,
    ) -> None:
        self._scorer = scorer
        self._on_scored = on_scored
        self._keep = keep
        self._records: dict[int, SampleRecord] = {}
        self._tries: dict[int, int] = {}
        self._lock = threading.Lock()
        self._score = Stage("score", self._scored, threads=threads, most=64 if threads == 1 else 1, spans=spans)
        self._kept = Stage("keep", self._keep_answers, spans=spans)

    def add(self, place: int, answer: Answer) -> None:
        """Take an answer that is new; a further try takes the place of the one before."""
        self._kept.put((place, answer))

    def add_known(self, place: int, answer: Answer) -> None:
        """Take an answer that is kept already."""
        self._score.put((place, answer))

    def finish(self) -> dict[int, SampleRecord]:
        """The records of all questions, by place, once all are scored."""
        self._kept.finish()
        self._score.finish()
        return self._records

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave early: what was answered is kept, but not scored."""
        self._score.__exit__(kind, error, trace)
        with suppress(Exception):  # what went wrong first is on its way up
            self._kept.finish()

    def _keep_answers(self, placed: list[Placed]) -> None:
        answers: Sequence[Answer] = [answer for _, answer in placed]
        if self._keep is not None:
            answers = self._keep(answers)
        with suppress(LeftError):
            for (place, _), answer in zip(placed, answers, strict=True):
                self._score.put((place, answer))

    def _scored(self, placed: list[Placed]) -> None:
        records = score_answers([answer for _, answer in placed], self._scorer)
        with self._lock:
            for (place, answer), record in zip(placed, records, strict=True):
                if answer.tries >= self._tries.get(place, 0):  # threads may overtake each other
                    self._records[place], self._tries[place] = record, answer.tries
            if self._on_scored is not None:
                self._on_scored(len(self._records))


def score_answers(answers: Sequence[Answer], scorer: ScoreFunction) -> list[SampleRecord]:
    """The records of answers with the scores of their responses; those that failed have their error.

    Raises:
        EasyVideoError: what the scorer raises.
    """
    given = [(answer.sample, trajectory) for answer in answers for trajectory in answer.trajectories]
    scores = iter(_scores(given, scorer))
    records = []
    for answer in answers:
        if answer.greedy is None:
            records.append(answer.record())
            continue
        greedy, *sampled = [trajectory_record(each, next(scores)) for each in answer.trajectories]
        records.append(answer.record(greedy=greedy, trajectories=tuple(sampled)))
    return records


def _scores(given: Sequence[tuple[Sample, Trajectory]], scorer: ScoreFunction) -> list[Score]:
    """The score of each response, in their order."""
    if isinstance(scorer, Scorer):
        return scorer.score_each([(sample, trajectory.completion) for sample, trajectory in given])
    return [scorer(sample, trajectory.completion) for sample, trajectory in given]
