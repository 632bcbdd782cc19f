"""Charts of the report page as inline SVG. Colours are CSS classes, so they follow the light and dark theme."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from easyvideor1.evaluation.curves import Panel, Series, smooth
from easyvideor1.evaluation.statistics import Interval

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 16, 26
Scale = Callable[[float], float]


def line_chart(
    panel: Panel,
    stages: Sequence[tuple[int, str]],
    *,
    width: int = 520,
    height: int = 230,
    colours: int = 4,
    hover: bool = False,
) -> Markup:
    """An SVG of one panel: faint raw values, a strong moving average, points with bars for evaluations.

    Args:
        panel: what is drawn.
        stages: first step and name of each stage.
        width: of the view box; the page decides how large it is shown.
        height: of the view box.
        colours: series ``n`` has the class ``s`` and ``n`` modulo this number.
        hover: attributes tell a script the axes and the values (``data-axes``, ``data-series``).
    """
    xs = [x for series in panel.series for x in series.x] + [float(first) for first, _ in stages]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = panel.limits or _range(panel.series)
    y_ticks, x_ticks = nice_ticks(y_low, y_high, height // 45), nice_ticks(x_low, x_high, width // 80)
    pad = 0.02 * ((x_high - x_low) or 1.0)  # keeps points at the ends off the axis
    across = _scale(x_low - pad, x_high + pad, _LEFT, width - _RIGHT)
    up = _scale(y_low, y_high, height - _BOTTOM, _TOP)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{up(t):.1f}" y2="{up(t):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{up(t) + 3.5:.1f}" text-anchor="end">{_label(t)}</text>'
        for t in y_ticks
    ]
    parts += [
        f'<text class="tick" x="{across(t):.1f}" y="{height - 8}" text-anchor="middle">{_label(t)}</text>'
        for t in x_ticks
    ]
    for first, name in stages if len(stages) > 1 else []:
        x = across(first)
        parts.append(f'<line class="stage" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>')
        if width > 400:  # a small chart has no room for names
            parts.append(f'<text class="tick" x="{x + 4:.1f}" y="{_TOP - 3}">{escape(name)}</text>')
    for number, series in enumerate(panel.series):
        if not series.x:
            continue  # its colour stays its own
        draw = _points if series.is_evaluation else _curve
        parts.append(f'<g class="s{number % colours}">{draw(series, across, up)}</g>')
    label = f"{panel.title}, {len(panel.series)} series"
    told = ""
    if hover:
        axes = [x_low - pad, x_high + pad, _LEFT, width - _RIGHT, y_low, y_high, height - _BOTTOM, _TOP]
        values = [[one.label, f"s{n % colours}", one.x, _rounded(one.y)] for n, one in enumerate(panel.series)]
        told = f' data-axes="{escape(json.dumps(axes))}" data-series="{escape(json.dumps(values))}"'
    # Every text above is escaped, or a number that we formatted.
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"{told}>{"".join(parts)}</svg>'
    )


def _rounded(values: Sequence[float]) -> list[float]:
    """Values in five digits, as many as anybody reads."""
    return [float(f"{value:.5g}") for value in values]


def interval_chart(before: Interval | None, after: Interval | None, *, width: int = 180, height: int = 30) -> Markup:
    """Two accuracies with their intervals on one line from 0 to 1: a hollow mark before, a full one after."""
    across = _scale(0, 1, 6, width - 6)
    parts = [
        f'<line class="grid" x1="{across(t):.1f}" x2="{across(t):.1f}" y1="2" y2="{height - 2}"/>'
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    for interval, name, y in ((before, "before", height * 0.32), (after, "after", height * 0.7)):
        if interval is None:
            continue
        tip = f"{name}: {interval.mean:.3f}, {interval.low:.3f} to {interval.high:.3f}"
        parts.append(
            f'<g class="{name}"><title>{tip}</title>'
            f'<line x1="{across(interval.low):.1f}" x2="{across(interval.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle cx="{across(interval.mean):.1f}" cy="{y:.1f}" r="4"/></g>'
        )
    return Markup(
        f'<svg class="interval" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="accuracy before and after with intervals">{"".join(parts)}</svg>'
    )


def share_bar(share: Interval, top: float = 1.0) -> Markup:
    """A value from 0 to ``top`` as a bar with its interval, for a box of any width, which it fills."""
    start, bar, end = (100 * min(1.0, max(0.0, each / top)) for each in (share.low, share.mean, share.high))
    whisker = f"M{start:.2f} 5H{end:.2f}M{start:.2f} 2.5V7.5M{end:.2f} 2.5V7.5"
    return Markup(
        f'<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{bar:.2f}" height="10"/><path d="{whisker}"/></svg>'
    )


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About ``wanted`` round numbers (1, 2 or 5 times a power of ten apart) from ``low`` to ``high``."""
    if high <= low:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(series: Sequence[Series]) -> tuple[float, float]:
    values = [y for one in series for y in (*one.y, *one.low, *one.high)]
    low, high = min(values), max(values)
    if high - low < 1e-12:
        reach = abs(high) * 0.1 or 1.0
        return low - reach, high + reach
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (stop - start) * (value - low) / (high - low)


def _path(xs: Sequence[float], ys: Sequence[float], across: Scale, up: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _curve(series: Series, across: Scale, up: Scale) -> str:
    parts = []
    for xs, ys in series.segments():
        if len(xs) == 1:
            parts.append(f'<circle cx="{across(xs[0]):.1f}" cy="{up(ys[0]):.1f}" r="3"/>')
            continue
        parts.append(f'<path class="raw" d="{_path(xs, ys, across, up)}"/>')
        parts.append(f'<path class="smooth" d="{_path(xs, smooth(ys), across, up)}"/>')
    return "".join(parts)


def _points(series: Series, across: Scale, up: Scale) -> str:
    parts = [f'<path class="smooth thin" d="{_path(series.x, series.y, across, up)}"/>'] if len(series.x) > 1 else []
    for x, y, low, high in zip(series.x, series.y, series.low, series.high, strict=True):
        tip = f"{series.label} at step {x:g}: {y:.3f}, {low:.3f} to {high:.3f}"
        column = f"{across(x):.1f}"
        parts.append(
            f'<line class="bar" x1="{column}" x2="{column}" y1="{up(low):.1f}" y2="{up(high):.1f}"/>'
            f'<circle cx="{column}" cy="{up(y):.1f}" r="4"><title>{escape(tip)}</title></circle>'
        )
    return "".join(parts)


def _label(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}"
    return f"{value:.6g}"
