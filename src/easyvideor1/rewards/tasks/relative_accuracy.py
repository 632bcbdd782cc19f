"""How near a number is to a reference, as a share of the reference: the forms of accuracy of ``regression``."""

from __future__ import annotations

import numpy as np

#: Thresholds of VSI-Bench's scorer as its floats are: it takes ``numpy.linspace(0.5, 0.95, 10)``.
_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def relative(predicted: float, reference: float) -> float:
    """``max(0, 1 - |p - r| / |r|)``; with a reference of 0 only 0 is right."""
    if reference == 0 or predicted == reference:
        return float(predicted == reference)
    return max(0.0, 1.0 - abs(predicted - reference) / abs(reference))


def mean_relative(predicted: float, reference: float) -> float:
    """Share of t = 0.50, 0.55, ..., 0.95 with ``|p - r| / |r| < 1 - t`` (Yang et al. 2024), in exact hundredths."""
    if reference == 0 or predicted == reference:
        return float(predicted == reference)
    error = round(abs(predicted - reference) / abs(reference) * 100, 9)
    return sum(error < step for step in range(5, 55, 5)) / 10


def vsi_bench(predicted: float, reference: float) -> float:
    """The same with ``<=``, in floats, as ``mean_relative_accuracy`` of vision-x-nyu/thinking-in-space computes it.

    An error of exactly 5, 10, 15, 25, 30, 35, 40 or 50% so meets its threshold, and one of 20 or 45% often misses it by
    a float.
    """
    if reference == 0 or predicted == reference:
        return float(predicted == reference)
    error = abs(predicted - reference) / abs(reference)
    return float((error <= 1 - _THRESHOLDS).mean())
