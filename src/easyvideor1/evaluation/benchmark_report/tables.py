"""The tables of the report: what every result comes to, benchmark by benchmark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.judging import Agreement, agreement
from easyvideor1.benchmarks.metrics import Answered, Metric, greedy_answers
from easyvideor1.evaluation.certificate import Certificate, Result
from easyvideor1.evaluation.comparison import Difference, Pairs, difference, make_pairs
from easyvideor1.evaluation.numbers import Number, benchmark_note, benchmark_of, numbers_of
from easyvideor1.evaluation.probing import probe_pairs
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.evaluation.sampled import sampled_numbers
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.types import DataError

#: What differs between two failures for the same reason: files, ids and numbers.
_PARTICULARS = re.compile(r"\S*[/\\]\S+|\S+\.[A-Za-z][A-Za-z0-9]{1,4}(?=\W|$)|\b[0-9a-f]{12,}\b|\d+(?:\.\d+)?")
_EXAMPLES = 5
#: A facet of more values than this is no category (it may be an id), unless the benchmark names it.
_MOST_CATEGORIES = 40


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason for which questions failed, how many did, and the ids of some."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One result in tables.

    ``numbers`` are those that the benchmark is quoted by, the most important one first; ``sampled`` are pass@k and the
    like where several responses were drawn, in [0, 1].
    """

    label: str
    probe: str
    certificate: Certificate
    directory: str
    count: int
    failed: int
    numbers: tuple[Number, ...]
    categories: tuple[Number, ...]
    form: Mapping[str, float]
    failures: tuple[Failure, ...]
    sampled: Mapping[str, Interval]
    agreement: Agreement

    @property
    def name(self) -> str:
        """What it is called in tables of scores, beside which a probe must be told apart."""
        return f"{self.label} ({self.probe})" if self.probe else self.label

    @property
    def first(self) -> Number | None:
        """The number that the overview shows."""
        return self.numbers[0] if self.numbers else None


@dataclass(frozen=True, slots=True)
class Versus:
    """How much the first number of one row is above that of another, question by question.

    ``than`` is a model, or the score that a probe belongs to. A probe's questions that failed on either side are left
    out; ``failed`` is their number.
    """

    label: str
    than: str
    difference: Difference
    failed: int = 0


def versus(metric: Metric, one: tuple[str, Evaluation], other: tuple[str, Evaluation]) -> Versus | None:
    """Compare two results, each with its label; ``None`` if they share no question.

    Args:
        metric: the number.
        one: the result that is above if the difference is positive.
        other: the other.
    """
    before, after = (greedy_answers(evaluation.records) for _, evaluation in (other, one))
    return _versus(metric, one[0], other, make_pairs(before, after))


def probe_versus(metric: Metric, probe: tuple[str, Evaluation], score: tuple[str, Evaluation]) -> Versus | None:
    """Compare a probe with its score, over the questions that both answered; ``None`` if there are none."""
    pairs, failed = probe_pairs(score[1], probe[1])
    return _versus(metric, probe[0], score, pairs, failed)


def _versus(metric: Metric, label: str, other: tuple[str, Evaluation], pairs: Pairs, failed: int = 0) -> Versus | None:
    found = difference(metric, pairs, confidence=other[1].confidence, seed=other[1].seed)
    return None if found is None else Versus(label, other[0], found, failed)


def known_benchmark(certificate: Certificate, *, own_code: bool = False) -> tuple[Benchmark, str]:
    """The benchmark of a result, or of the score that a probe belongs to; and what to know about its numbers."""
    score = certificate.score
    found = benchmark_of(score, own_code=own_code)
    return found, benchmark_note(found, score)


def make_row(label: str, result: Result, benchmark: Benchmark) -> Row:
    """What a result comes to.

    Raises:
        DataError: its records are not those of the benchmark, so that a metric fails.
    """
    evaluation = result.evaluation
    answered = greedy_answers(evaluation.records)
    try:
        numbers = numbers_of(benchmark, evaluation)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{result.directory}: the numbers of {benchmark.name} cannot be computed from these records ({error!r}); "
            "evaluate again with the definition that is installed"
        ) from error
    drawn = max((len(record.trajectories) for record in evaluation.records), default=0)
    return Row(
        label,
        result.certificate.probe,
        result.certificate,
        str(result.directory),
        len(answered),
        sum(each.failed for each in answered),
        tuple(number for number in numbers if not number.facet),
        tuple(number for number in numbers if number.facet),
        evaluation.overall.form,
        failures(answered),
        sampled_numbers(evaluation.records, drawn, confidence=evaluation.confidence, seed=evaluation.seed),
        agreement(record.greedy.score for record in evaluation.records if record.greedy is not None),
    )


def facets_of(answered: Sequence[Answered]) -> tuple[str, ...]:
    """The facets to tell apart where the benchmark names none: those of its rows with few values, and the task."""
    names = dict.fromkeys(name for each in answered for name in each.record.facets)
    found = {name: {each.facet(name) for each in answered} for name in (*names, "task")}
    return tuple(name for name, values in found.items() if 1 < len(values) <= _MOST_CATEGORIES)


def failures(answered: Sequence[Answered]) -> tuple[Failure, ...]:
    """Why questions failed, the most frequent reason first; files and numbers in the reasons do not tell them apart."""
    reasons: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for each in answered:
        if each.failed:
            reason = failure_of(each)
            if each.response is None:  # reasons of scores are the same words for the same cause
                reason = _PARTICULARS.sub("\N{HORIZONTAL ELLIPSIS}", reason)
            reasons[reason] += 1
            examples.setdefault(reason, []).append(each.record.sample)
    return tuple(Failure(reason, count, tuple(examples[reason][:_EXAMPLES])) for reason, count in reasons.most_common())


def failure_of(answered: Answered) -> str:
    """Why there is no score, in words."""
    if answered.response is not None:
        return f"not scored: {answered.response.score.reason or 'no reason given'}"
    return answered.record.error or "no response"
