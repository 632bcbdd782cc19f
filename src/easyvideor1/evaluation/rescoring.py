"""Score the answers of a finished result again: after a correction of a reward, or by another judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyvideor1.benchmarks import ScoreFunction
from easyvideor1.config.schema import EvaluationConfig
from easyvideor1.evaluation.answers import Answer, AnswerStore
from easyvideor1.evaluation.certificate import ANSWERS, RECORDS, Certificate
from easyvideor1.evaluation.evaluate import evaluation_of, failed_share
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.evaluation.scoring import Scoring
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.types import DataError, Sample


@dataclass(frozen=True, slots=True)
class Moved:
    """A question whose greedy response has another score now; ``None`` where it could not be scored."""

    sample: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Rescored:
    """A result before and after it was scored again."""

    before: Evaluation
    after: Evaluation

    @property
    def moved(self) -> list[Moved]:
        """The questions whose scores differ, in order."""
        pairs = zip(self.before.records, self.after.records, strict=True)
        found = [Moved(new.sample, _accuracy(old.greedy), _accuracy(new.greedy)) for old, new in pairs]
        return [each for each in found if each.before != each.after]


def rescore(
    directory: Path,
    scorer: ScoreFunction,
    facts: Mapping[str, Any],
    *,
    threads: int = 1,
    max_failed: float = 0.5,
    on_progress: Callable[[int, int], None] | None = None,
) -> Rescored:
    """Score all answers of a result and write its records, aggregates and certificate again. Nothing is asked.

    Differences of probes that rest on the result are not made again; see ``probing.compare_again``.

    Args:
        directory: of the result.
        scorer: scores a response.
        facts: what decides the scores now, for ``Certificate.scoring``.
        threads: responses scored at the same time; see ``Scoring``.
        max_failed: share of questions that may have failed or not be scored; as many as before may in any case.
        on_progress: called with (questions scored, questions in all).

    Raises:
        ConfigError: another process evaluates into the directory.
        DataError: the result is not finished or is damaged, or lacks an answer.
        StoppedError: too many questions could not be scored; the result is as it was.
    """
    if not (directory / ANSWERS).is_file():
        raise DataError(f"{directory}: has no {ANSWERS}, so there is nothing to score; evaluate with evr1 eval run")
    if not (directory / f"{RECORDS}.json").is_file():
        raise DataError(f"{directory}: the evaluation is not finished; start evr1 eval run again, then score")
    certificate = Certificate.load(directory)
    with AnswerStore.open(directory) as store:
        before = Evaluation.load(directory, RECORDS)
        answers = _in_order(directory, before.records, store.answers())
        with Scoring(scorer, threads=threads, on_scored=_counting(on_progress, len(answers))) as scoring:
            for place, answer in enumerate(answers):
                scoring.add_known(place, answer)
            records = scoring.finish()
        bound = max(max_failed, failed_share(before.records))
        config = EvaluationConfig(confidence=before.confidence, max_failed=bound)
        after = evaluation_of(RECORDS, records, config=config, seed=before.seed, shown=certificate.benchmark)
        replace(certificate, scoring={**certificate.scoring, **facts}).write(directory)
        after.write(directory)
    return Rescored(before, after)


def _counting(on_progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None] | None:
    return None if on_progress is None else lambda done: on_progress(done, total)


def _in_order(directory: Path, records: Sequence[SampleRecord], answers: Sequence[Answer]) -> list[Answer]:
    """The answer that each record was made of."""
    known = {_asked(answer.sample): answer for answer in answers}
    found = [known.get(_asked(record)) for record in records]
    lost = [record.sample for record, answer in zip(records, found, strict=True) if answer is None]
    if lost:
        raise DataError(
            f"{directory / ANSWERS}: the answers to {', '.join(lost[:5])} are missing or damaged; start evr1 eval run "
            "again, which asks for them"
        )
    return [answer for answer in found if answer is not None]


def _asked(one: Sample | SampleRecord) -> tuple[str, str, str, tuple[str, ...]]:
    return one.id if isinstance(one, Sample) else one.sample, one.question, one.task, one.options


def _accuracy(response: TrajectoryRecord | None) -> float | None:
    return response.score.accuracy if response is not None and response.score.applicable else None
