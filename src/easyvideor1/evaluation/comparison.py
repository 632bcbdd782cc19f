"""Paired comparison of two results on the same questions.

The difference of a metric is the metric of the differences, question by question. So it has the intervals of
``metric_intervals``, and the difficulty of the questions, which both results share, is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import bdtr, stdtrit

from easyvideor1.benchmarks.benchmark import Benchmark
from easyvideor1.benchmarks.metrics import Answered, Items, Metric, joined
from easyvideor1.evaluation.corrections import CORRECTIONS, Correction
from easyvideor1.evaluation.metric_intervals import change_interval, degrees_of_freedom
from easyvideor1.evaluation.numbers import by_facet
from easyvideor1.evaluation.statistics import Interval

POWER = 0.8
_ENUMERATED = 14  # clusters up to which all sign flips are tried
_DRAWS = 9999
_FLIPS_AT_ONCE = 200_000
_EQUAL = 1e-12


@dataclass(frozen=True, slots=True)
class Pairs:
    """The questions that two results share, in the order of the first, and the ids of those that they do not share.

    ``changed`` are ids of both whose question, options or reference differ; no pair is made of them, unless told to.
    """

    before: tuple[Answered, ...]
    after: tuple[Answered, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.before)

    @property
    def same_questions(self) -> bool:
        """Whether both results have the same questions."""
        return not (self.only_before or self.only_after or self.changed)


def make_pairs(before: Sequence[Answered], after: Sequence[Answered], *, changed: bool = False) -> Pairs:
    """Match the questions of two results by id, and those that share one by order.

    Args:
        before: Questions with responses.
        after: The same; the facets and the task of a pair are those of ``before``.
        changed: Make pairs also of questions that differ in more than their id, as those of a probe do.
    """
    waiting = dict(_numbered(after))
    firsts, seconds, only, other = [], [], [], []
    for key, first in _numbered(before):
        second = waiting.pop(key, None)
        if second is None:
            only.append(first.record.sample)
            continue
        if not _alike(first, second):
            other.append(first.record.sample)
            if not changed:
                continue
        one = first.record
        told = replace(second.record, facets=one.facets, task=one.task, source=one.source, modality=one.modality)
        firsts.append(first)
        seconds.append(Answered(told, second.response))
    return Pairs(
        tuple(firsts), tuple(seconds), tuple(only), tuple(each.record.sample for each in waiting.values()), tuple(other)
    )


def _numbered(answered: Sequence[Answered]) -> Iterator[tuple[tuple[str, int], Answered]]:
    seen: Counter[str] = Counter()
    for each in answered:
        yield (each.record.sample, seen[each.record.sample]), each
        seen[each.record.sample] += 1


def _alike(first: Answered, second: Answered) -> bool:
    one, other = first.record, second.record
    return (one.question, one.options, one.answer) == (other.question, other.options, other.answer)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much a metric of the second result is above that of the first, not scaled.

    ``p`` is that of ``test``, for no difference, and ``adjusted`` what a correction for many comparisons made of it.
    ``detectable`` is the smallest true difference that so many questions find with a power of 0.8 (two-sided, at one
    minus the confidence of the interval). ``gained`` and ``lost`` count questions with a higher and a lower value. A
    number of a breakdown has the ``facet`` and the ``value`` of its questions.
    """

    metric: str
    before: float
    after: float
    interval: Interval
    p: float
    test: str
    detectable: float
    count: int
    clusters: int
    gained: int
    lost: int
    scale: float = 100.0
    adjusted: float | None = None
    facet: str = ""
    value: str = ""

    @property
    def scaled(self) -> Interval:
        """The interval as it is shown: times ``scale``."""
        return self.interval.times(self.scale)

    def to_json(self) -> dict[str, Any]:
        """All of it; ``difference`` has the limits of the interval."""
        return {
            "metric": self.metric,
            "facet": self.facet,
            "value": self.value,
            "before": self.before,
            "after": self.after,
            "difference": self.interval.to_json(),
            "scale": self.scale,
            "p": self.p,
            "adjusted_p": self.adjusted,
            "test": self.test,
            "detectable": self.detectable,
            "count": self.count,
            "clusters": self.clusters,
            "gained": self.gained,
            "lost": self.lost,
        }


def difference(metric: Metric, pairs: Pairs, *, confidence: float = 0.95, seed: int = 0) -> Difference | None:
    """The difference of one metric; ``None`` if no question belongs to it, or it is not ``paired``.

    The test is the exact form of McNemar's (1947) for 0/1 values of equal weight in clusters of one, where the
    questions that differ are tosses of a coin; else ``sign_flip_test``.
    """
    if not metric.paired:
        return None
    first, second = metric.items(pairs.before), metric.items(pairs.after)
    if not first or not second or not first.shares.any():
        return None
    # A question is in the clusters of both sides: files may lie elsewhere, and a failed question has no media.
    clusters = joined([{f"1{one}", f"2{two}"} for one, two in zip(first.clusters, second.clusters, strict=True)])
    change = replace(first, values=second.values - first.values, clusters=clusters)
    count = len(set(clusters))
    weights = change.sizes is None or bool(np.ptp(change.sizes) == 0)
    binary = bool(np.isin((first.values, second.values), (0.0, 1.0)).all())
    if binary and weights and len(set(change.strata)) == 1 and count == len(change):
        up, down = int((change.values > 0).sum()), int((change.values < 0).sum())
        test, p = "McNemar, exact", mcnemar_test(up, down)
    else:
        test, p = sign_flip_test(change, seed)
    interval = change_interval(change, confidence, seed)
    questions = zip(metric.questions(pairs.before), metric.questions(pairs.after), strict=True)
    changes = [metric.value(after) - metric.value(before) for before, after in questions]
    return Difference(
        metric=metric.name,
        before=float(first.mean()[0]),
        after=float(second.mean()[0]),
        interval=interval,
        p=p,
        test=test,
        detectable=detectable_difference(interval, degrees_of_freedom(change), confidence),
        count=len(changes),
        clusters=count,
        gained=sum(each > 0 for each in changes),
        lost=sum(each < 0 for each in changes),
        scale=metric.scale,
    )


def differences_of(
    benchmark: Benchmark,
    pairs: Pairs,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    correction: Correction = "holm",
    breakdown: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Difference]:
    """The differences of all metrics, then of the first metric for each task and each value of the breakdown's facets.

    The p-values of the metrics are adjusted together, and those of the breakdown are.
    """
    jobs = [(metric, "", "") for metric in benchmark.metrics]
    for facet in dict.fromkeys((*benchmark.breakdown, "task")) if breakdown else ():
        own = by_facet(benchmark.metrics[0], facet, pairs.before)
        jobs += [(metric, facet, value) for value, metric in own]
    made: list[Difference] = []
    for done, (metric, facet, value) in enumerate(jobs, 1):
        found = difference(metric, pairs, confidence=confidence, seed=seed)
        if found is not None:
            made.append(replace(found, facet=facet, value=value))
        if on_progress is not None:
            on_progress(done, len(jobs))
    whole, parts = [each for each in made if not each.facet], [each for each in made if each.facet]
    return [*adjusted(whole, correction), *adjusted(parts, correction)]


def adjusted(differences: Sequence[Difference], correction: Correction = "holm") -> list[Difference]:
    """The differences with their p-values adjusted for each other."""
    values = CORRECTIONS[correction]([each.p for each in differences])
    return [replace(each, adjusted=value) for each, value in zip(differences, values, strict=True)]


def mcnemar_test(gained: int, lost: int) -> float:
    """Two-sided p-value of ``gained`` against ``lost`` under a fair coin: the exact (binomial) form of McNemar's test,
    which is the sign test."""
    count = gained + lost
    return min(1.0, 2 * float(bdtr(min(gained, lost), count, 0.5))) if count else 1.0


def sign_flip_test(change: Items, seed: int = 0) -> tuple[str, float]:
    """Name and two-sided p-value of the permutation test in which each cluster swaps the two results as a whole.

    If the results do not differ, every pattern of signs of the clusters' differences is as likely as the one seen
    (Fisher 1935; whole-block exchangeability, Winkler et al. 2015). All patterns are tried for up to 14 clusters that
    differ, else 9,999 are drawn, with the pattern seen as one more (Phipson and Smyth 2010).
    """
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(name, len(numbers)) for name in change.clusters]
    sums = np.bincount(index, weights=change.shares * change.values)
    sums = sums[np.abs(sums) > _EQUAL]
    count = len(sums)
    seen = abs(float(sums.sum())) - _EQUAL
    if count <= _ENUMERATED:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return "sign flips of clusters, all", float((np.abs((2.0 * patterns - 1) @ sums) >= seen).mean())
    rng = np.random.default_rng(seed)
    extreme, at_once = 0, max(1, _FLIPS_AT_ONCE // count)
    for start in range(0, _DRAWS, at_once):
        octets = rng.integers(256, size=(min(at_once, _DRAWS - start), -(-count // 8)), dtype=np.uint8)
        kept = np.unpackbits(octets, axis=1, count=count).astype(np.float64) @ sums
        extreme += int((np.abs(2 * kept - sums.sum()) >= seen).sum())
    return f"sign flips of clusters, {_DRAWS}", (1 + extreme) / (1 + _DRAWS)


def detectable_difference(interval: Interval, freedom: float, confidence: float = 0.95, power: float = POWER) -> float:
    """The smallest true difference that is found with this power: ``(t_confidence + t_power) * standard error``.

    The standard error is the half width of the interval over ``t_confidence`` (Bloom 1995, "minimum detectable
    effect"; for evaluations of models Miller 2024, arXiv 2411.00640, section 5). It falls with the root of the number
    of clusters, so that d times as many questions of the same kind find a difference smaller by ``sqrt(d)``.
    """
    half = (interval.high - interval.low) / 2
    return half * (1 + float(stdtrit(freedom, power)) / float(stdtrit(freedom, (1 + confidence) / 2)))


@dataclass(frozen=True, slots=True)
class Flip:
    """A question with another value in the second result, by ``change``."""

    before: Answered
    after: Answered
    change: float


def flips(metric: Metric, pairs: Pairs) -> list[Flip]:
    """The questions of a metric whose value differs: losses first, the largest change first."""
    own = zip(metric.questions(pairs.before), metric.questions(pairs.after), strict=True)
    found = [Flip(before, after, metric.value(after) - metric.value(before)) for before, after in own]
    return sorted((flip for flip in found if flip.change), key=lambda flip: flip.change)
