"""Numbers of several sampled responses to every question: pass@k and the majority's answer."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from easyvideor1.evaluation.metric_intervals import mean_interval
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.records.trajectories import SampleRecord

_NUMBERS = ("math", "numerical", "regression")
#: Without an exponent: 1e999999999 would be written out.
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9./]{1,60}")


def pass_at(k: int, drawn: int, right: int) -> float:
    """The chance that at least one of k responses is right, of ``drawn`` of which ``right`` are.

    ``1 - C(n - c, k) / C(n, k)``, the unbiased estimator of Chen et al. (2021, arXiv 2107.03374, eq. 1).

    Raises:
        ValueError: k is not from 1 to ``drawn``.
    """
    if not 1 <= k <= drawn:
        raise ValueError(f"pass@{k} needs at least {k} responses and k of at least 1, not {drawn} responses")
    return 1.0 - math.comb(drawn - right, k) / math.comb(drawn, k)


def majority_accuracy(record: SampleRecord) -> float:
    """The accuracy of the answer that most sampled responses give; the first of several that are as frequent.

    Answers are told apart as they were parsed, and numbers by their value. A response without an answer has no vote; 0
    if none has.
    """
    cast = [
        (_value(each.score.parsed, record.task), each.score.accuracy)
        for each in record.trajectories
        if each.score.applicable and each.score.parsed
    ]
    if not cast:
        return 0.0
    chosen = Counter(answer for answer, _ in cast).most_common(1)[0][0]
    return next(accuracy for answer, accuracy in cast if answer == chosen)


def _value(parsed: str, task: str) -> str | Fraction:
    """The number that an answer is, as ``1/2`` and ``0.5`` are the same; else the answer."""
    if task not in _NUMBERS or not _PLAIN_NUMBER.fullmatch(parsed):
        return parsed
    try:
        return Fraction(parsed)
    except (ValueError, ZeroDivisionError):
        return parsed


def sampled_numbers(
    records: Sequence[SampleRecord], samples: int, *, confidence: float, seed: int
) -> dict[str, Interval]:
    """pass@k for k = 1, 2, 4, ... and ``samples``, and the accuracy of the majority, with intervals.

    A response is right if its accuracy is 1. A question that failed has no right response; one that could not be
    scored is not right.

    Args:
        records: of all questions.
        samples: sampled responses to each question.
        confidence: level of the intervals.
        seed: of the bootstrap.
    """
    if not samples or not records:
        return {}
    clusters = [record.cluster for record in records]
    right = [sum(r.score.applicable and r.score.accuracy >= 1.0 for r in record.trajectories) for record in records]
    sizes = sorted({samples, *(1 << power for power in range(samples.bit_length()))})
    values = {f"pass@{k}": [pass_at(k, samples, count) for count in right] for k in sizes}
    values[f"majority@{samples}"] = [majority_accuracy(record) for record in records]
    return {name: mean_interval(found, clusters, confidence, seed) for name, found in values.items()}
