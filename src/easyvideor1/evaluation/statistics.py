"""Confidence intervals for accuracies.

Values are accuracies in [0, 1], one per scored response. Questions about one video are not independent, so every value
has a cluster, and whole clusters are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

RESAMPLES = 4000
_CELLS_AT_ONCE = 4_000_000  # bound on resamples * clusters held in memory together


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the limits of its confidence interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The METRIC of the run directory: ``{"mean", "low", "high"}``."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, eq. for the roots of ``|p - p0| = z * sqrt(p0 q0 / n)``).

    Unlike mean plus or minus z standard errors it stays in [0, 1] and keeps a width when all or none succeed.

    Args:
        successes: Sum of the 0/1 values. A fraction is allowed; the interval is then wide enough, because no variable
            in [0, 1] varies more than a 0/1 variable with the same mean.
        count: Number of independent values, at least 1.
        confidence: Level, between 0 and 1.
    """
    if count < 1:
        raise ValueError("an interval needs at least one value")
    if not 0 <= successes <= count:
        raise ValueError(f"successes must lie in [0, {count}], got {successes}")
    z = _normal_quantile(confidence)
    mean = successes / count
    scale = 1 + z * z / count
    centre = (mean + z * z / (2 * count)) / scale
    reach = z / scale * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    # The bounds contain the mean in exact arithmetic; rounding may miss it by one ulp at 0 and 1.
    return Interval(mean, min(mean, max(0.0, centre - reach)), max(mean, min(1.0, centre + reach)))


def mean_interval(
    values: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of accuracies with a confidence interval.

    - 0/1 values, each in its own cluster: Wilson's interval.
    - Everything else (fractional scores, several questions or responses per video): the seeded cluster bootstrap with
      ``RESAMPLES`` resamples and expanded percentiles.
    - If all resamples are equal (one cluster, or all clusters have the same mean): Wilson's interval with the number of
      clusters as the count, because a width of zero would claim certainty.

    Args:
        values: Accuracies in [0, 1], at least one.
        clusters: The cluster of each value, for instance the path of its video.
        confidence: Level, between 0 and 1.
        seed: Seed of the resampling; the result is a pure function of the arguments.
    """
    scores, index = _checked(values, clusters)
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(f"values must lie in [0, 1], got {scores.min()} to {scores.max()}")
    cluster_count = int(index.max()) + 1
    binary = bool(np.isin(scores, (0.0, 1.0)).all())
    if binary and cluster_count == len(scores):
        return wilson_interval(float(scores.sum()), cluster_count, confidence)
    mean = float(scores.mean())
    found = _cluster_bootstrap(scores, index, confidence, seed)
    if found is None:
        return wilson_interval(min(mean * cluster_count, cluster_count), cluster_count, confidence)
    return Interval(mean, min(mean, max(0.0, found[0])), max(mean, min(1.0, found[1])))


def difference_interval(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of the paired differences ``after - before`` with a cluster-bootstrap interval.

    Pairing removes the difficulty of the questions, which two separate intervals cannot. If all resamples are equal,
    the limits are those of the difference of two Wilson intervals (Newcombe 1998, method 10, without the correlation
    term), with the number of clusters as the count.

    Args:
        before: Accuracies in [0, 1], one per question.
        after: Accuracies of the same questions, in the same order.
        clusters: The cluster of each question.
        confidence: Level, between 0 and 1.
        seed: Seed of the resampling.
    """
    first, index = _checked(before, clusters)
    second, _ = _checked(after, clusters)
    change = second - first
    mean = float(change.mean())
    found = _cluster_bootstrap(change, index, confidence, seed)
    if found is not None:
        return Interval(mean, min(mean, max(-1.0, found[0])), max(mean, min(1.0, found[1])))
    count = int(index.max()) + 1
    old = wilson_interval(min(float(first.mean()) * count, count), count, confidence)
    new = wilson_interval(min(float(second.mean()) * count, count), count, confidence)
    low = mean - math.hypot(new.mean - new.low, old.high - old.mean)
    high = mean + math.hypot(new.high - new.mean, old.mean - old.low)
    return Interval(mean, max(-1.0, low), min(1.0, high))


def _checked(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if len(values) != len(clusters):
        raise ValueError(f"every value needs a cluster: {len(values)} values, {len(clusters)} clusters")
    if not values:
        raise ValueError("an interval needs at least one value")
    scores = np.asarray(values, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("values must be finite")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.int64)
    return scores, index


def _cluster_bootstrap(
    values: NDArray[np.float64], index: NDArray[np.int64], confidence: float, seed: int
) -> tuple[float, float] | None:
    """Limits of the mean under resampling of whole clusters, or ``None`` when all clusters have the same mean.

    Plain percentiles are too narrow for few clusters. Expanded percentiles (Hesterberg 2015, section 4.1) read the
    resamples at ``Phi(-sqrt(K / (K - 1)) * t)`` with Student's t of K - 1 degrees of freedom instead of at alpha / 2.
    """
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index).astype(np.float64)
    clusters = len(sums)
    if clusters < 2 or np.ptp(sums / sizes) < 1e-12:
        return None
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    chunk = max(1, _CELLS_AT_ONCE // clusters)
    for start in range(0, RESAMPLES, chunk):
        stop = min(start + chunk, RESAMPLES)
        times = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=stop - start)
        means[start:stop] = (times @ sums) / (times @ sizes)
    reach = math.sqrt(clusters / (clusters - 1)) * float(stdtrit(clusters - 1, (1 + confidence) / 2))
    tail = float(ndtr(-reach))
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return float(ndtri((1 + confidence) / 2))
