"""An interval of a number, and Wilson's for a share of independent successes.

``metric_intervals`` makes all other intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the limits of its confidence interval."""

    mean: float
    low: float
    high: float

    def times(self, scale: float) -> Interval:
        """All three, multiplied: by 100 for percent."""
        return Interval(scale * self.mean, scale * self.low, scale * self.high)

    def to_json(self) -> dict[str, float]:
        """The METRIC of the run directory: ``{"mean", "low", "high"}``."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def wilson_interval(successes: float, count: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, eq. for the roots of ``|p - p0| = z * sqrt(p0 q0 / n)``).

    Unlike mean plus or minus z standard errors it stays in [0, 1] and keeps a width when all or none succeed.

    Args:
        successes: Sum of the 0/1 values. A fraction is allowed; the interval is then wide enough, because no variable
            in [0, 1] varies more than a 0/1 variable with the same mean.
        count: Number of independent values, at least 1. A fraction is allowed: the effective number of unequal
            values.
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


def _normal_quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return float(ndtri((1 + confidence) / 2))
