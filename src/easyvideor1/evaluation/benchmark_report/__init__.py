"""The report over results: a page to look at, and the same numbers as Markdown, CSV, JSON and LaTeX."""

from easyvideor1.evaluation.benchmark_report.collect import Report, make_report
from easyvideor1.evaluation.benchmark_report.page import write_benchmark_report

__all__ = ["Report", "make_report", "write_benchmark_report"]
