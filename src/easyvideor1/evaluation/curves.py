"""The learning curves of a run: which charts there are, and ``curves.png``. ``report.html`` draws the same charts."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from easyvideor1 import __version__
from easyvideor1.evaluation.history import RunHistory, place_of, read_history
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.files import write_atomic
from easyvideor1.records.glossary import meaning_of
from easyvideor1.tasks import TASKS

_BY_PART = re.compile(r"(.*)/(modality|source)/(.+)")
_NAMED = {"reward/total": "total", "reward/accuracy": "accuracy", "reward/format": "format"}
_COLOURS = ("#2f6fde", "#d9730d", "#2e9e6b", "#a64ac9")
#: Key in the picture's metadata of the digest of what it shows.
_MARK = "Source"
_GRID = 12  # columns: a main panel takes 6, a task 3


@dataclass(frozen=True, slots=True)
class Series:
    """Points in order of ``x``. ``low`` and ``high`` are set for evaluations, which are drawn as points with bars.

    ``starts`` are the positions where a stage begins: lines and averages do not cross from one stage to the next.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    starts: tuple[int, ...] = (0,)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def is_evaluation(self) -> bool:
        return bool(self.low)

    def segments(self) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        """The points of each stage, as ``(x, y)``."""
        ends = (*self.starts[1:], len(self.x))
        return [(self.x[a:b], self.y[a:b]) for a, b in zip(self.starts, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart; ``unit`` is that of the vertical axis, ``limits`` fixes its range, ``about`` explains it."""

    title: str
    unit: str
    series: tuple[Series, ...]
    limits: tuple[float, float] | None = None
    about: str = ""


def main_panels(history: RunHistory) -> list[Panel]:
    """Reward, held-out accuracy, response length and loss, where there are numbers."""
    candidates = [
        Panel("Training reward", "reward", metric_series(history, _NAMED), (0.0, 1.0)),
        Panel("Held-out accuracy", "accuracy", evaluation_series(history), (0.0, 1.0)),
        Panel("Response length", "tokens", metric_series(history, {"response/tokens": "tokens"})),
        Panel("Loss", "loss", metric_series(history, {"loss": "loss"})),
    ]
    return [panel for panel in candidates if panel.series]


def task_panels(history: RunHistory) -> list[Panel]:
    """The training accuracy of each task type that was trained on."""
    return [
        Panel(task.replace("_", " "), "training accuracy", series, (0.0, 1.0))
        for task in TASKS
        if (series := metric_series(history, {f"accuracy/{task}": "accuracy"}))
    ]


def other_panels(history: RunHistory) -> list[Panel]:
    """All other metrics of ``metrics.jsonl``, one panel each; the modalities, and the sources, of a metric share one.

    Evaluations are drawn from their own files.
    """
    shown = {"step", "loss", "response/tokens", *_NAMED, *(f"accuracy/{task}" for task in TASKS)}
    keys = dict.fromkeys(
        key for stage in history.stages for row in stage.metrics for key, value in row.items() if _is_number(value)
    )
    left = [key for key in keys if key not in shown and not key.startswith(("evaluation/", "benchmark/"))]
    panels: dict[str, dict[str, str]] = {}
    for key in left:
        kind = _BY_PART.fullmatch(key)
        title = f"{kind[1]} by {kind[2]}" if kind else key
        panels.setdefault(title, {})[key] = kind[3] if kind else key
    return [_metric_panel(title, metric_series(history, names), next(iter(names))) for title, names in panels.items()]


def _metric_panel(title: str, series: tuple[Series, ...], name: str) -> Panel:
    """A panel with what the glossary says of its metric; one of your own has no entry."""
    meaning = meaning_of(name)
    if meaning is None:
        return Panel(title, "", series)
    unit = meaning.unit if meaning.unit != "-" else ""
    return Panel(title, unit, series, about=f"{meaning.formula}. A bad value: {meaning.bad}")


def benchmark_panels(history: RunHistory) -> list[Panel]:
    """The numbers of benchmarks with their intervals, one panel each, as they are shown in tables."""
    panels = []
    for label, evaluations in history.benchmarks.items():
        found: dict[str, dict[int, Interval]] = {}
        for name, totals in evaluations.items():
            if (place := place_of(name, history)) is not None:
                for number, interval in totals.numbers.items():
                    found.setdefault(number, {})[place.step] = interval
        for number, at in found.items():
            panels.append(Panel(f"{label}: {number}", "", (_evaluated(number, sorted(at.items())),)))
    return panels


def _evaluated(label: str, points: Sequence[tuple[int, Interval]]) -> Series:
    """A series of evaluations, in the order of their steps."""
    return Series(
        label,
        tuple(float(step) for step, _ in points),
        tuple(interval.mean for _, interval in points),
        low=tuple(interval.low for _, interval in points),
        high=tuple(interval.high for _, interval in points),
    )


def speed_panels(history: RunHistory) -> list[Panel]:
    """Seconds and idle shares of steps, from ``timings.jsonl``."""
    seconds = {name: name for name in ("rollout", "score", "update", "sync")}
    idle = {f"idle/{name}": name for name in ("trainer", "engine", "rewards")}
    candidates = [
        Panel("Seconds of a step", "seconds", metric_series(history, seconds, "clocks")),
        Panel("Idle share of a step", "share", metric_series(history, idle, "clocks"), (0.0, 1.0)),
        Panel("Tokens per second", "tokens", metric_series(history, {"tokens_per_second": "generated"}, "clocks")),
    ]
    return [panel for panel in candidates if panel.series]


def boundaries(history: RunHistory) -> list[tuple[int, str]]:
    """First step and name of each stage that has metrics."""
    return [(stage.first, stage.name) for stage in history.stages if stage.metrics]


def evaluation_series(history: RunHistory) -> tuple[Series, ...]:
    """Greedy and sampled accuracy with intervals, at their steps: one series for each set of questions and kind.

    Test and validation questions never share a line: their difference is not an effect of training.
    """
    places = {name: place for name in history.evaluations if (place := place_of(name, history)) is not None}
    found = []
    for split, kind in product(("test", "validation"), ("greedy", "sampled")):
        points = [
            (place.step, interval)
            for name, place in sorted(places.items(), key=lambda item: (item[1].step, item[0]))
            if place.split == split and (interval := getattr(history.evaluations[name], kind)) is not None
        ]
        if points:
            found.append(_evaluated(f"{split}, {kind}", points))
    return tuple(found)


def smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average with a span of a twelfth of the curve, corrected for its start (Kingma and Ba 2015,
    section 3), so that the first values are not drawn towards zero."""
    span = max(3.0, len(values) / 12)
    keep = 1 - 2 / (span + 1)
    total = weight = 0.0
    out = []
    for value in values:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        out.append(total / weight)
    return out


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def metric_series(
    history: RunHistory, keys: dict[str, str], table: Literal["metrics", "clocks"] = "metrics"
) -> tuple[Series, ...]:
    """The series of metrics that have values, labelled as ``keys`` says; ``clocks`` are those of ``timings.jsonl``."""
    found = []
    for key, label in keys.items():
        points: list[tuple[float, float]] = []
        starts: list[int] = []
        for stage in history.stages:
            rows = [row for row in getattr(stage, table) if _is_number(row.get(key))]
            if rows:
                starts.append(len(points))
                points += [(float(stage.first + row["step"]), float(row[key])) for row in rows]
        if points:
            found.append(Series(label, tuple(x for x, _ in points), tuple(y for _, y in points), tuple(starts)))
    return tuple(found)


def write_curves(run_dir: Path, *, redraw: bool = True) -> Path:
    """Draw reward, held-out accuracy, response length, loss and accuracy by task type into ``run_dir/curves.png``.

    Raw values are faint, their moving average is strong; evaluations are points with intervals. A run without metrics
    gives a picture that says so. Unreadable lines of damaged files are left out.

    Args:
        run_dir: of the run.
        redraw: also where the picture that is there is whole and shows the same, which takes a second or two.

    Returns:
        The path of the picture.

    Raises:
        DataError: no such run directory.
    """
    history = read_history(run_dir)
    main, tasks, stages = main_panels(history), task_panels(history), boundaries(history)
    path, name = run_dir / "curves.png", run_dir.resolve().name
    mark = hashlib.sha256(repr((__version__, name, main, tasks, stages)).encode()).hexdigest()
    if not redraw and _mark_of(path) == mark:
        return path
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    main_rows, task_rows = -(-len(main) // 2), -(-len(tasks) // 4)
    heights = [3.0] * main_rows + [2.0] * task_rows or [3.0]
    figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained")
    # The Agg canvas is attached directly: pyplot would keep the figure in memory and need a display.
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), _GRID, height_ratios=heights)
    for i, panel in enumerate(main):
        _draw(figure.add_subplot(grid[i // 2, 6 * (i % 2) : 6 * (i % 2) + 6]), panel, stages, small=False)
    for i, panel in enumerate(tasks):
        row, column = main_rows + i // 4, 3 * (i % 4)
        _draw(figure.add_subplot(grid[row, column : column + 3]), panel, stages, small=True)
    if not main and not tasks:
        figure.text(0.5, 0.5, "No metrics yet: no step is finished.", ha="center", va="center", color="#666666")
    figure.suptitle(name, fontsize=12, fontweight="bold", x=0.01, ha="left")
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None, _MARK: mark})
    write_atomic(path, buffer.getvalue())
    return path


def _mark_of(path: Path) -> str | None:
    """The digest of what a picture shows; None if there is none, or not a whole one."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mark = picture.info.get(_MARK)
            picture.verify()
    except (OSError, SyntaxError, ValueError):  # what Pillow raises at damage
        return None
    return mark if isinstance(mark, str) else None


def _draw(axes: Any, panel: Panel, stages: list[tuple[int, str]], *, small: bool) -> None:
    for series, colour in zip(panel.series, _COLOURS, strict=False):
        if series.is_evaluation:
            below = [y - low for y, low in zip(series.y, series.low, strict=True)]
            above = [high - y for y, high in zip(series.y, series.high, strict=True)]
            axes.errorbar(
                series.x, series.y, (below, above), color=colour, marker="o", ms=5, capsize=3, label=series.label
            )
            continue
        for number, (xs, ys) in enumerate(series.segments()):
            name, dot = ("_" if number else series.label), ("o" if len(xs) == 1 else "")
            axes.plot(xs, ys, color=colour, alpha=0.25, lw=0.9)
            axes.plot(xs, smooth(ys), color=colour, lw=1.8, label=name, marker=dot)
    axes.set_title(panel.title, fontsize=9 if small else 11, loc="left")
    axes.grid(visible=True, color="#e6e6e6", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7 if small else 8, color="#999999")
    if panel.limits:
        axes.set_ylim(panel.limits[0] - 0.03, panel.limits[1] + 0.03)
    axes.set_ylabel(panel.unit, fontsize=7 if small else 9)
    axes.set_xlabel("step", fontsize=7 if small else 9)
    low, high = axes.get_xlim()
    for first, name in stages if len(stages) > 1 else []:
        axes.axvline(first, color="#bbbbbb", lw=0.8, ls=":")
        if not small:
            axes.text(
                first, 1.0, f" {name}", transform=axes.get_xaxis_transform(), fontsize=7, color="#888888", va="top"
            )
    axes.set_xlim(low, high)
    if len(panel.series) > 1:
        axes.legend(fontsize=8, frameon=False, loc="best", ncols=2 if len(panel.series) > 3 else 1)
