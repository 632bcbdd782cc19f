"""``summary.json``: the result of a run in one small file and one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.evaluation.result import Aggregate, Evaluation, greedy_difference
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.files import write_json

if TYPE_CHECKING:
    from rich.console import Console

Summary = Mapping[str, Any]


def write_summary(
    run_dir: Path, *, seed: int, steps: int, seconds: float, before: str = "before", after: str = "after"
) -> dict[str, Any]:
    """Compare two evaluations of a run and write ``run_dir/summary.json``.

    Args:
        run_dir: The run directory; missing evaluations give ``null``.
        seed: Seed of the run.
        steps: Optimisation steps of the whole run.
        seconds: Wall-clock seconds of the whole run.
        before: Name of the evaluation before training.
        after: Name of the evaluation after training.

    Returns:
        The content of the file: ``evaluations``, the names compared; ``accuracy_before`` and ``accuracy_after``
        (greedy) with their ``..._interval`` as ``[low, high]``; the same as ``sampled_accuracy_...``;
        ``accuracy_gain`` with its paired interval; ``form_before`` and ``form_after``, the mean format reward of greedy
        responses beside the shares of ``Aggregate.form``; ``steps``, ``seconds``, ``seed``, ``confidence``;
        ``per_task``.
    """
    directory = run_dir / "evaluations"
    first = Evaluation.load(directory, before) if (directory / f"{before}.json").exists() else None
    second = Evaluation.load(directory, after) if (directory / f"{after}.json").exists() else None
    gain = greedy_difference(first, second) if first and second else None
    summary: dict[str, Any] = {"evaluations": {"before": before, "after": after}}
    for prefix, kind in (("", "greedy"), ("sampled_", "sampled")):
        for moment, evaluation in (("before", first), ("after", second)):
            interval = getattr(evaluation, kind) if evaluation else None
            summary[f"{prefix}accuracy_{moment}"] = _mean(interval)
            summary[f"{prefix}accuracy_{moment}_interval"] = _limits(interval)
    summary["accuracy_gain"] = _mean(gain)
    summary["accuracy_gain_interval"] = _limits(gain)
    summary["form_before"] = first.overall.form_with_format() if first else None
    summary["form_after"] = second.overall.form_with_format() if second else None
    latest = second or first
    summary["confidence"] = latest.confidence if latest else None
    summary |= {"steps": steps, "seconds": round(seconds, 3), "seed": seed}
    tasks = dict.fromkeys([*(first.tasks if first else ()), *(second.tasks if second else ())])
    summary["per_task"] = {
        task: _task(first.tasks.get(task) if first else None, second.tasks.get(task) if second else None)
        for task in tasks
    }
    write_json(run_dir / "summary.json", summary)
    return summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print a summary as a table of 80 columns: one row per task type and one for all."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title="Held-out accuracy, %", title_justify="left", title_style="bold", box=SIMPLE, pad_edge=False)
    table.add_column("task")
    table.add_column("n", justify="right")
    for kind in ("greedy", "sampled"):
        for moment in ("before", "after"):
            table.add_column(f"{kind}\n{moment}", justify="right", no_wrap=True)
    for task, row in summary["per_task"].items():
        table.add_row(task.replace("_", " "), str(row["count"]), *_cells(row))
    table.add_section()
    counts = [row["count"] for row in summary["per_task"].values()]
    table.add_row("all", str(sum(counts)), *_cells(summary), style="bold")
    console.print(table)
    if summary["accuracy_gain"] is not None:
        low, high = summary["accuracy_gain_interval"]
        gain, level = 100 * summary["accuracy_gain"], f"{summary['confidence']:.0%}"
        console.print(f"greedy gain {gain:+.1f} points, {level} interval {100 * low:+.1f} to {100 * high:+.1f}")
    for moment in ("before", "after"):
        if form := summary.get(f"form_{moment}"):
            console.print(f"{moment}: {form_words(form)}")
    console.print(f"{summary['steps']} steps in {summary['seconds']:.0f} s, seed {summary['seed']}")


def form_words(form: Mapping[str, float]) -> str:
    """Shares of ``Aggregate.form_with_format`` as text."""
    words = {
        "format": "format reward {:.2f}",
        "cut_off": "{:.1%} cut off at the length limit",
        "no_answer": "{:.1%} without an answer",
        "without_form": "{:.1%} of the answers not in the requested format",
    }
    return ", ".join(text.format(form[name]) for name, text in words.items() if name in form)


def _mean(interval: Interval | None) -> float | None:
    return interval.mean if interval else None


def _limits(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None


def _task(before: Aggregate | None, after: Aggregate | None) -> dict[str, Any]:
    found: dict[str, Any] = {"count": after.count if after else before.count if before else 0}
    for prefix, kind in (("", "greedy"), ("sampled_", "sampled")):
        for moment, aggregate in (("before", before), ("after", after)):
            interval = getattr(aggregate, kind) if aggregate else None
            found[f"{prefix}accuracy_{moment}"] = _mean(interval)
            found[f"{prefix}accuracy_{moment}_interval"] = _limits(interval)
    return found


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Greedy accuracies with intervals, sampled ones without: the table has to fit a terminal."""
    cells = []
    for moment in ("before", "after"):
        mean, limits = row[f"accuracy_{moment}"], row[f"accuracy_{moment}_interval"]
        cells.append("-" if mean is None else f"{100 * mean:.1f} ({100 * limits[0]:.0f} to {100 * limits[1]:.0f})")
    for moment in ("before", "after"):
        mean = row[f"sampled_accuracy_{moment}"]
        cells.append("-" if mean is None else f"{100 * mean:.1f}")
    return cells
