"""The glossary of metrics: those of runs and evaluations from a table, those of benchmarks from their definitions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

_HEAD = """# Metrics

Every metric that a run, an evaluation, a benchmark or a server writes: its unit, its formula, and what a bad value
means. This page is made by `make docs` from `src/easyvideor1/records/metrics.yaml` and the definitions of the
benchmarks.

`<word>` in a name stands for any text, such as the name of a task type. Where a metric has nothing to measure in a
step, the step does not have it. A metric that is not finite stops the run.
"""

_BENCHMARKS = """## Numbers of benchmarks

The file of a result and `evr1 eval report` have these numbers of each benchmark, times 100 where no scale is told.
A question without a scored response counts as 0. `judged` numbers need a judge; without one they are left out. The
first number is the one that a breakdown and a probe compare. [Benchmarks](../benchmarks.md) says how they are run,
[statistics](../statistics.md) how sure they are.

| benchmark | number | what of a question | over |
|---|---|---|---|"""


def metric_page() -> str:
    """The page as Markdown."""
    from easyvideor1.records.glossary import glossary

    parts = [_HEAD]
    for section in glossary():
        parts.append(f"## {section.title}\n\n`{section.file}`: {section.about}\n")
        rows = [
            f"| `{_cell(one.name)}` | {_cell(one.unit)} | {_cell(one.formula)} | {_cell(one.bad)} |"
            for one in section.metrics
        ]
        parts.append("\n".join(["| metric | unit | formula | a bad value |", "|---|---|---|---|", *rows]) + "\n")
    parts.append("\n".join([_BENCHMARKS, *_benchmark_rows()]) + "\n")
    return "\n".join(parts)


def _benchmark_rows() -> Iterator[str]:
    from easyvideor1.benchmarks.benchmark import BENCHMARKS, load_definitions

    load_definitions()
    for name in BENCHMARKS.names():
        found: Any = BENCHMARKS.resolve(name)
        for metric in getattr(found, "metrics", ()):
            yield f"| `{name}` | {_cell(metric.name)} | {_cell(_value(metric))} | {_cell(_over(metric))} |"


def _value(metric: Any) -> str:
    """What the metric takes of a question, in the words of its function."""
    if metric.of:
        named = f"{_words(metric.formula)}; of {', '.join(each.name for each in metric.of)}"
    else:
        named = _words(metric.of_group if metric.group else metric.value)
    more = [f"scale {metric.scale:g}"] if metric.scale != 100 else []
    return "; ".join([named, *more, *(["judged"] if metric.judged else [])])


def _words(function: Any) -> str:
    """The first paragraph of a docstring; of a function that another one made, of that one, with its arguments."""
    given: dict[str, Any] = {}
    if "<locals>" in getattr(function, "__qualname__", ""):
        given = {k: v for k, v in inspect.getclosurevars(function).nonlocals.items() if not callable(v)}
        for value in inspect.getclosurevars(function).nonlocals.values():
            if callable(value) and "<locals>" in getattr(value, "__qualname__", ""):
                given |= inspect.getclosurevars(value).nonlocals
        function = getattr(inspect.getmodule(function), function.__qualname__.partition(".")[0])
    text = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
    words = " ".join(text.split()).replace("``", "`").rstrip(".")
    told = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(given.items()))
    return f"{words} ({told})" if told else words


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _over(metric: Any) -> str:
    parts = []
    if metric.where:
        parts.append(
            "questions with "
            + ", ".join(
                f"{facet} {value if isinstance(value, str) else ' or '.join(map(str, value))}".strip()
                for facet, value in metric.where.items()
            )
        )
    if metric.macro:
        parts.append(f"mean over {' and '.join(metric.macro)}")
    if metric.group:
        parts.append(f"groups of {metric.group}")
    if metric.weight:
        parts.append(f"weighted: {_words(metric.weight) if callable(metric.weight) else metric.weight}")
    return "; ".join(parts) or "all questions"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
