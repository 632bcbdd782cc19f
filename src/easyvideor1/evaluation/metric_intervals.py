"""Confidence intervals: one rule for accuracies, for the numbers that benchmarks are quoted by, and for differences.

Whole clusters (videos) of the whole benchmark are resampled, and the very metric is computed of each resample. A macro
average weighs some clusters far more than others, so that fewer of them decide it than there are; the effective number
of clusters says how many.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from easyvideor1.benchmarks.metrics import Answered, Items, Metric, macro_mean
from easyvideor1.evaluation.statistics import Interval, wilson_interval

RESAMPLES = 4000
_CELLS_AT_ONCE = 200_000  # resamples * items at a time: what stays in a processor's cache
_EQUAL = 1e-12


def mean_interval(
    values: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of accuracies with the interval of ``items_interval``: that of a metric without a macro average.

    Args:
        values: Accuracies in [0, 1], at least one.
        clusters: The cluster of each value, for instance the path of its video.
        confidence: Level, between 0 and 1.
        seed: Seed of the resampling; the result is a pure function of the arguments.
    """
    items = _plain_items(values, clusters)
    if items.values.min() < 0 or items.values.max() > 1:
        raise ValueError(f"values must lie in [0, 1], got {items.values.min()} to {items.values.max()}")
    return items_interval(items, confidence, seed)


def difference_interval(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of the paired differences ``after - before`` with the interval of ``change_interval``.

    Args:
        before: Values, one per question.
        after: Values of the same questions, in the same order.
        clusters: The cluster of each question.
        confidence: Level, between 0 and 1.
        seed: Seed of the resampling.
    """
    first, second = _plain_items(before, clusters), _plain_items(after, clusters)
    return change_interval(replace(first, values=second.values - first.values), confidence, seed)


def _plain_items(values: Sequence[float], clusters: Sequence[Hashable]) -> Items:
    if len(values) != len(clusters):
        raise ValueError(f"every value needs a cluster: {len(values)} values, {len(clusters)} clusters")
    if not values:
        raise ValueError("an interval needs at least one value")
    scores = np.asarray(values, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("values must be finite")
    numbers: dict[Hashable, str] = {}
    names = tuple(numbers.setdefault(name, str(len(numbers))) for name in clusters)
    return Items(scores, names, ((),) * len(scores))


def metric_interval(
    metric: Metric, answered: Sequence[Answered], confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """A metric with its confidence interval, not scaled; ``None`` if no question that counts belongs to it, or it is
    not defined.

    See ``items_interval``.

    Args:
        metric: The number.
        answered: The questions with their responses; a question without a response counts as ``metric.value`` says.
        confidence: Level, between 0 and 1.
        seed: Seed of the resampling; the result is a pure function of the arguments.
    """
    items = metric.items(answered)
    return items_interval(items, confidence, seed) if metric(answered) is not None and items.shares.any() else None


def items_interval(items: Items, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The metric of at least one item, with its confidence interval.

    - 0/1 values of equal weight, each in its own cluster, without a macro average: Wilson's interval.
    - Everything else: the seeded cluster bootstrap with ``RESAMPLES`` resamples and expanded percentiles.
    - If all resamples are equal: Wilson's interval with the effective number of clusters as the count, because a width
      of zero would claim certainty. Values are then taken to range from 0, or the smallest, to 1, or the largest.
    """
    mean = float(items.mean()[0])
    alike = items.sizes is None or bool(np.ptp(items.sizes) == 0)
    plain = alike and len(set(items.strata)) == 1 and len(set(items.clusters)) == len(items)
    if plain and np.isin(items.values, (0.0, 1.0)).all():
        return wilson_interval(float(items.values.sum()), len(items), confidence)
    found = resampled_limits(items, confidence, seed)
    if found is not None:
        return Interval(mean, min(mean, found[0]), max(mean, found[1]))
    low, high = min(0.0, mean, float(items.values.min())), max(1.0, mean, float(items.values.max()))
    count = effective_clusters(items)
    share = wilson_interval(min(1.0, max(0.0, (mean - low) / (high - low))) * count, count, confidence)
    return Interval(mean, low + (high - low) * share.low, low + (high - low) * share.high)


def change_interval(change: Items, confidence: float = 0.95, seed: int = 0) -> Interval:
    """The metric of paired differences, at least one, with its confidence interval.

    Pairing removes the difficulty of the questions, which two separate intervals cannot. Where all clusters agree on
    the change, as when no question moved, the gains and the losses, as shares of the largest change, each have Wilson's
    limits for the effective number of clusters; the limits of their difference are those of MOVER (Zou and Donner
    2008).
    """
    mean = float(change.mean()[0])
    limits = resampled_limits(change, confidence, seed)
    if limits is not None:
        return Interval(mean, min(mean, limits[0]), max(mean, limits[1]))
    reach = max(1.0, float(np.abs(change.values).max()))
    count = effective_clusters(change)
    gain, loss = (
        wilson_interval(min(1.0, float(change.shares @ part) / reach) * count, count, confidence)
        for part in (np.maximum(change.values, 0), np.maximum(-change.values, 0))
    )
    low = reach * math.hypot(gain.mean - gain.low, loss.high - loss.mean)
    high = reach * math.hypot(gain.high - gain.mean, loss.mean - loss.low)
    return Interval(mean, max(-reach, mean - low), min(reach, mean + high))


def resampled_limits(items: Items, confidence: float, seed: int) -> tuple[float, float] | None:
    """Limits of the metric under resampling of whole clusters, or ``None`` when all resamples are equal.

    Plain percentiles are too narrow for few clusters. Expanded percentiles (Hesterberg 2015, section 4.1) read the
    resamples at ``Phi(-sqrt(K / (K - 1)) * t)`` instead of at alpha / 2, with Student's t of ``degrees_of_freedom``,
    which are K - 1 for K clusters of equal weight.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    clusters = len(set(items.clusters))
    if clusters < 2:
        return None
    numbers = _resampled(items, seed)
    numbers = numbers[~np.isnan(numbers)]  # all that was drawn has weight 0, or the formula is not defined
    if not len(numbers) or np.ptp(numbers) < _EQUAL:
        return None
    reach = math.sqrt(clusters / (clusters - 1)) * float(stdtrit(degrees_of_freedom(items), (1 + confidence) / 2))
    tail = float(ndtr(-reach))
    limits = np.quantile(numbers, (tail, 1 - tail))
    low, high = np.clip(limits, items.values.min(), items.values.max())  # a mean of means may miss them by rounding
    return float(low), float(high)


def _resampled(items: Items, seed: int) -> NDArray[np.float64]:
    """The metric of ``RESAMPLES`` resamples, NaN where all that was drawn has weight 0.

    The items of one cluster and stratum are drawn together, so that they are one cell with their common weight. Cells
    are kept stratum by stratum, and the strata of all resamples are averaged once: thousands of clusters are drawn a
    few resamples at a time.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(items.clusters))}
    strata = {name: number for number, name in enumerate(dict.fromkeys(items.strata))}
    pairs = [(strata[s], numbers[c]) for s, c in zip(items.strata, items.clusters, strict=True)]
    cells = {pair: at for at, pair in enumerate(sorted(set(pairs)))}
    cell = [cells[pair] for pair in pairs]
    own = np.ones(len(items)) if items.sizes is None else items.sizes
    weights, weighted = np.bincount(cell, weights=own), np.bincount(cell, weights=own * items.values)
    stratum, cluster = np.array(list(cells)).T
    starts = np.searchsorted(stratum, np.arange(len(strata)))
    totals, sums = np.empty((RESAMPLES, len(strata))), np.empty((RESAMPLES, len(strata)))
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // len(cells))
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        drawn = rng.integers(len(numbers), size=(rows, len(numbers))) + np.arange(rows)[:, None] * len(numbers)
        times = np.bincount(drawn.ravel(), minlength=rows * len(numbers)).reshape(rows, -1)[:, cluster]
        totals[start : start + rows] = np.add.reduceat(times * weights, starts, axis=1)
        sums[start : start + rows] = np.add.reduceat(times * weighted, starts, axis=1)
    return macro_mean(sums, totals, list(strata), items.formula)


def cluster_shares(items: Items) -> NDArray[np.float64]:
    """How much each cluster counts in the metric; the sum is 1."""
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(name, len(numbers)) for name in items.clusters]
    return np.bincount(index, weights=items.shares).astype(np.float64)


def effective_clusters(items: Items) -> float:
    """``1 / sum(a^2)`` for clusters of shares ``a``: the number of clusters of equal share whose mean varies as much
    (Kish 1965, section 11.7)."""
    return max(1.0, float(1 / np.square(cluster_shares(items)).sum()))


def degrees_of_freedom(items: Items) -> float:
    """``(sum(a^2))^2 / sum(a^4) - 1`` for clusters of shares ``a``, at least 1: how well the variance is known
    (Satterthwaite 1946; Carter, Schnepel and Steigerwald 2017, section 2, with equal variances)."""
    squares = np.square(cluster_shares(items))
    return max(1.0, float(squares.sum() ** 2 / np.square(squares).sum()) - 1)
