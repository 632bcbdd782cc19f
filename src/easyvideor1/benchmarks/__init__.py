"""Public video benchmarks as values: releases, questions, video budgets and the numbers that they are quoted by."""

from easyvideor1.benchmarks.benchmark import BENCHMARKS, Benchmark, Layout, ScoreFunction
from easyvideor1.benchmarks.metrics import Answered, Metric
from easyvideor1.benchmarks.opening import open_benchmark
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.release import Release

__all__ = [
    "BENCHMARKS",
    "Answered",
    "Benchmark",
    "Layout",
    "Metric",
    "Question",
    "QuestionError",
    "Release",
    "ScoreFunction",
    "open_benchmark",
]
