"""``curves.png``: the learning curves of a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.files import write_atomic
from easyvideor1.evaluation.history import read_history
from easyvideor1.evaluation.panels import Panel, boundaries, main_panels, smooth, task_panels

_COLOURS = ("#2f6fde", "#d9730d", "#2e9e6b", "#a64ac9")
_GRID = 12  # columns: a main panel takes 6, a task 3


def write_curves(run_dir: Path) -> Path:
    """Draw reward, held-out accuracy, response length, loss and accuracy by task type into ``run_dir/curves.png``.

    Raw values are faint, their moving average is strong; evaluations are points with their intervals. A run without
    metrics yields a picture that says so; of damaged files what can be read is drawn.

    Returns:
        The path of the picture.

    Raises:
        DataError: no such run directory.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    history = read_history(run_dir)
    main, tasks, stages = main_panels(history), task_panels(history), boundaries(history)
    main_rows, task_rows = -(-len(main) // 2), -(-len(tasks) // 4)
    heights = [3.0] * main_rows + [2.0] * task_rows or [3.0]
    figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained")
    # The Agg canvas is attached directly: pyplot would keep the figure alive and ask for a display.
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), _GRID, height_ratios=heights)
    for i, panel in enumerate(main):
        _draw(figure.add_subplot(grid[i // 2, 6 * (i % 2) : 6 * (i % 2) + 6]), panel, stages, small=False)
    for i, panel in enumerate(tasks):
        row, column = main_rows + i // 4, 3 * (i % 4)
        _draw(figure.add_subplot(grid[row, column : column + 3]), panel, stages, small=True)
    if not main and not tasks:
        figure.text(0.5, 0.5, "No metrics yet: no step has been finished.", ha="center", va="center", color="#666666")
    figure.suptitle(run_dir.resolve().name, fontsize=12, fontweight="bold", x=0.01, ha="left")
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    path = run_dir / "curves.png"
    write_atomic(path, buffer.getvalue())
    return path


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
