"""Where the time of a run goes: seconds by phase, and a timeline of single steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from easyvideor1.evaluation.charts import nice_ticks
from easyvideor1.evaluation.history import StageHistory
from easyvideor1.training.run_directory.trace import PROCESSES, Event

#: Phases of a step in their order; the rest of ``total`` is ``other``.
PHASES = ("sample", "rollout", "score", "advantages", "update", "sync", "evaluate")
_BARS = 96  # of a chart; longer stages have several steps in a bar
_LANE, _NAME = 22, 150  # pixels: height of a lane, width of its name


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a stage: seconds of a step on average and at most, and its share of all seconds."""

    name: str
    colour: str
    mean: float
    most: float
    share: float


@dataclass(frozen=True, slots=True)
class StageTime:
    """The time of a stage: its phases, seconds of a step on average, and a chart of the steps."""

    name: str
    steps: int
    step_seconds: float
    phases: tuple[Phase, ...]
    chart: Markup


def stage_time(stage: StageHistory) -> StageTime | None:
    """Seconds by phase, from ``timings.jsonl``; ``None`` without any."""
    rows = [row for row in stage.clocks if _seconds(row, "total") > 0]
    if not rows:
        return None
    total = sum(_seconds(row, "total") for row in rows)
    phases = []
    for number, name in enumerate((*PHASES, "other")):
        values = [_phase(row, name) for row in rows]
        if any(values):
            share = sum(values) / total
            phases.append(Phase(name, f"s{number}", sum(values) / len(rows), max(values), share))
    return StageTime(stage.name, len(rows), total / len(rows), tuple(phases), phase_chart(rows))


def _seconds(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name, 0.0)
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return max(0.0, float(value)) if whole else 0.0


def _phase(row: Mapping[str, Any], name: str) -> float:
    if name == "other":
        return max(0.0, _seconds(row, "total") - sum(_seconds(row, phase) for phase in PHASES))
    return _seconds(row, name)


def phase_chart(rows: Sequence[Mapping[str, Any]], *, width: int = 1080, height: int = 220) -> Markup:
    """Stacked bars of seconds by phase, one bar for each step, or for each few of a long stage (their mean)."""
    size = -(-len(rows) // _BARS)
    bars = [rows[start : start + size] for start in range(0, len(rows), size)]
    names = (*PHASES, "other")
    means = [[sum(_phase(row, name) for row in bar) / len(bar) for name in names] for bar in bars]
    top = max(map(sum, means)) or 1.0
    left, right, above, below = 48, 8, 8, 24
    room, across = height - above - below, min(64.0, (width - left - right) / len(bars))
    parts = []
    for tick in nice_ticks(0.0, top, 4):
        y = height - below - room * tick / top
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.6g}</text>'
        )
    for place, (bar, heights) in enumerate(zip(bars, means, strict=True)):
        first, last = bar[0]["step"], bar[-1]["step"]
        told = ", ".join(f"{name} {value:.3g} s" for name, value in zip(names, heights, strict=True) if value)
        words = f"step {first}" if len(bar) == 1 else f"steps {first} to {last}, mean"
        parts.append(f"<g><title>{escape(words)}: {escape(told)}</title>")
        y = float(height - below)
        for number, value in enumerate(heights):
            tall = room * value / top
            y -= tall
            if tall > 0.05:
                x, wide = left + place * across, max(0.5, across - (1 if across > 3 else 0))
                parts.append(
                    f'<rect class="s{number}" x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{tall:.2f}"/>'
                )
        parts.append("</g>")
    for tick in nice_ticks(0, len(bars) - 1, 8):
        place = round(tick)
        if place < len(bars):
            x = left + (place + 0.5) * across
            step = bars[place][0]["step"]
            parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 7}" text-anchor="middle">{step}</text>')
    return Markup(
        f'<svg class="phases" viewBox="0 0 {width} {height}" role="img" aria-label="seconds by phase, {len(rows)} '
        f'steps">{"".join(parts)}</svg>'
    )


def timeline_chart(events: Sequence[Event], *, width: int = 1080) -> Markup:
    """What trainer, engine and rewards did in a step: a lane for each thread, spans that lie in another one below it.

    Colours follow the names of spans; each has its name and seconds as a tooltip.
    """
    if not events:
        return Markup("")
    begun = min(event.ts for event in events)
    length = max(1, max(event.ts + event.dur for event in events) - begun)
    colours = _colours(events)
    order = {name: number for number, name in enumerate(PROCESSES)}
    lanes = sorted({(event.process, event.thread) for event in events}, key=lambda one: (order.get(one[0], 9), one[1]))
    room = width - _NAME - 8
    parts: list[str] = []
    y = 20
    for process, thread in lanes:
        own = sorted((one for one in events if (one.process, one.thread) == (process, thread)), key=_outer_first)
        depths = _depths(own)
        parts.append(f'<text class="tick" x="0" y="{y + 15}">{escape(f"{process}: {thread}"[:26])}</text>')
        for event, depth in zip(own, depths, strict=True):
            x = _NAME + room * (event.ts - begun) / length
            wide = max(0.6, room * event.dur / length)
            top = y + depth * _LANE
            words = f"{event.name}, {event.dur / 1e6:.4g} s, {(event.ts - begun) / 1e6:.4g} s after the step began"
            parts.append(
                f'<g class="{colours[event.name]}"><title>{escape(words)}</title>'
                f'<rect x="{x:.2f}" y="{top}" width="{wide:.2f}" height="{_LANE - 3}" rx="2"/>'
            )
            if wide > 7.0 * len(event.name) + 8:
                parts.append(f'<text x="{x + 5:.1f}" y="{top + 13.5}">{escape(event.name)}</text>')
            parts.append("</g>")
        y += (max(depths) + 1) * _LANE + 6
    grid = []
    for tick in nice_ticks(0.0, length / 1e6, 8):
        x = _NAME + room * tick * 1e6 / length
        grid.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{y}"/>'
            f'<text class="tick" x="{x:.1f}" y="10" text-anchor="middle">{tick:.4g} s</text>'
        )
    return Markup(
        f'<svg class="timeline" viewBox="0 0 {width} {y}" role="img" aria-label="timeline of {len(events)} '
        f'spans">{"".join((*grid, *parts))}</svg>'
    )


def _colours(events: Sequence[Event]) -> dict[str, str]:
    """Classes of spans by name: phases as in the chart of phases, a whole step grey, others in turn."""
    phases = {name: f"s{number}" for number, name in enumerate(PHASES)}
    others = dict.fromkeys(event.name for event in events if event.name not in phases)
    found = {name: f"s{number % 7}" for number, name in enumerate(others)}
    return {**{name: "s7" if name.startswith("step ") else colour for name, colour in found.items()}, **phases}


def _outer_first(event: Event) -> tuple[int, int]:
    return event.ts, -event.dur


def _depths(events: Sequence[Event]) -> list[int]:
    """How many of the spans before it each span lies in; they are in order of their beginnings, the outer first."""
    ends: list[int] = []
    depths = []
    for event in events:
        while ends and ends[-1] <= event.ts:
            ends.pop()
        depths.append(len(ends))
        ends.append(event.ts + event.dur)
    return depths
