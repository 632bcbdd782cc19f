"""Held-out questions, intervals, learning curves and the report of a run."""

from easyvideor1.benchmarks import BENCHMARKS, Benchmark, open_benchmark
from easyvideor1.evaluation.curves import write_curves
from easyvideor1.evaluation.evaluate import evaluate
from easyvideor1.evaluation.metric_intervals import difference_interval, mean_interval
from easyvideor1.evaluation.report import write_report
from easyvideor1.evaluation.result import Aggregate, Evaluation, evaluation_fault, greedy_difference
from easyvideor1.evaluation.statistics import Interval, wilson_interval
from easyvideor1.evaluation.summary import form_words, print_summary, write_summary

__all__ = [
    "BENCHMARKS",
    "Aggregate",
    "Benchmark",
    "Evaluation",
    "Interval",
    "difference_interval",
    "evaluate",
    "evaluation_fault",
    "form_words",
    "greedy_difference",
    "mean_interval",
    "open_benchmark",
    "print_summary",
    "wilson_interval",
    "write_curves",
    "write_report",
    "write_summary",
]
