"""The curves of one run, and of several runs over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from easyvideor1.evaluation.charts import line_chart
from easyvideor1.evaluation.curves import (
    Panel,
    Series,
    benchmark_panels,
    boundaries,
    main_panels,
    other_panels,
    smooth,
    speed_panels,
    task_panels,
)
from easyvideor1.evaluation.history import RunHistory

#: Colours of series: those of the classes ``s0`` to ``s7``.
COLOURS = 8
#: Points of a series that are drawn; of a longer one each point is a mean of several steps.
_LARGE, _SMALL = 600, 240


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn panel; ``averaged`` steps are in each point of its longest series, 1 if every step is drawn."""

    panel: Panel
    svg: Markup
    averaged: int = 1


@dataclass(frozen=True, slots=True)
class Curves:
    """Charts by section: of a whole run, or of several over each other. ``more`` are all other metrics."""

    main: tuple[Chart, ...]
    tasks: tuple[Chart, ...]
    benchmarks: tuple[Chart, ...]
    speed: tuple[Chart, ...]
    more: tuple[Chart, ...]

    @property
    def averaged(self) -> int:
        """The most steps that are in one point."""
        charts = (*self.main, *self.tasks, *self.benchmarks, *self.speed, *self.more)
        return max((chart.averaged for chart in charts), default=1)


_SECTIONS: tuple[Callable[[RunHistory], list[Panel]], ...] = (
    main_panels,
    task_panels,
    benchmark_panels,
    speed_panels,
    other_panels,
)


def curves_of(history: RunHistory) -> Curves:
    """All charts of a run."""
    stages = boundaries(history)
    sections = [panels(history) for panels in _SECTIONS]
    return _drawn(sections, stages)


def curves_together(histories: Sequence[tuple[str, RunHistory]]) -> Curves:
    """The charts of several runs, each with its name: one chart for every metric, one series for every run.

    A run has the same colour in all charts, also in those that others are not in.
    """
    sections = [_together([(name, panels(history)) for name, history in histories]) for panels in _SECTIONS]
    return _drawn(sections, [])


def draw(panel: Panel, stages: Sequence[tuple[int, str]] = (), *, small: bool = False) -> Chart:
    """An SVG of a panel; a script shows its values."""
    width, height, most = (260, 130, _SMALL) if small else (520, 230, _LARGE)
    size = max((-(-len(one.x) // most) for one in panel.series if not one.is_evaluation), default=1)
    thin = replace(panel, series=tuple(averaged(one, size) for one in panel.series))
    svg = line_chart(thin, stages, width=width, height=height, colours=COLOURS, hover=True)
    return Chart(panel, svg, size)


def averaged(series: Series, size: int) -> Series:
    """A series with the means of ``size`` points at a time, of one stage each; evaluations stay as they are."""
    if size <= 1 or series.is_evaluation:
        return series
    x: list[float] = []
    y: list[float] = []
    starts = []
    for xs, ys in series.segments():
        starts.append(len(x))
        for begin in range(0, len(xs), size):
            some = ys[begin : begin + size]
            x.append(xs[min(begin + size, len(xs)) - 1])
            y.append(sum(some) / len(some))
    return replace(series, x=tuple(x), y=tuple(y), starts=tuple(starts))


def _drawn(sections: Sequence[Sequence[Panel]], stages: Sequence[tuple[int, str]]) -> Curves:
    main, *others = sections
    small = [tuple(draw(panel, stages, small=True) for panel in panels) for panels in others]
    return Curves(tuple(draw(panel, stages) for panel in main), *small)


def _together(runs: Sequence[tuple[str, Sequence[Panel]]]) -> list[Panel]:
    """One panel for each series of a panel, with that of every run; a run without it has an empty place."""
    found: dict[tuple[str, str], tuple[Panel, dict[str, Series]]] = {}
    several = {panel.title for _, panels in runs for panel in panels if len(panel.series) > 1}
    for name, panels in runs:
        for panel in panels:
            for series in panel.series:
                _, own = found.setdefault((panel.title, series.label), (panel, {}))
                own[name] = replace(series, label=name)
    nothing = Series("", (), ())
    return [
        replace(
            panel,
            title=f"{title}: {label}" if title in several else title,
            series=tuple(own.get(name, replace(nothing, label=name)) for name, _ in runs),
        )
        for (title, label), (panel, own) in found.items()
    ]


def sparkline(series: Series, *, width: int = 120, height: int = 28) -> Markup:
    """A curve without axes, for a line of a table: its moving average from 0 to 1, or over its own range."""
    thin = averaged(series, -(-len(series.x) // 60))
    values = smooth(thin.y)
    low, high = (0.0, 1.0) if min(values) >= 0 and max(values) <= 1 else (min(values), max(values))
    across, up = (width - 4) / max(1, len(values) - 1), (height - 4) / ((high - low) or 1.0)
    points = " ".join(f"{2 + n * across:.1f},{height - 2 - (y - low) * up:.1f}" for n, y in enumerate(values))
    return Markup(
        f'<svg class="sparkline" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<polyline points="{points}"/></svg>'
    )
