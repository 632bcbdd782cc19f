"""Held-out questions, intervals, learning curves and the report of a run."""

from easyvideor1.evaluation.evaluate import evaluate
from easyvideor1.evaluation.result import Aggregate, Evaluation, greedy_difference
from easyvideor1.evaluation.statistics import Interval, difference_interval, mean_interval, wilson_interval

__all__ = [
    "Aggregate",
    "Evaluation",
    "Interval",
    "difference_interval",
    "evaluate",
    "greedy_difference",
    "mean_interval",
    "wilson_interval",
]
