"""What lies over a frame: boxes, tracks and points of the reference and of responses, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from easyvideor1.evaluation.benchmark_report.drawing import Marks
from easyvideor1.rewards.readers.geometry import Box

#: The longer side of a drawing, in its own units.
_SIDE = 1000.0
_LABEL, _DOT = 38.0, 9.0


@dataclass(frozen=True, slots=True)
class Layer:
    """The places that one speaker points at: CSS classes, and the id that its boxes are labelled with.

    Labels stand above the box without a ``place``, and below it, side by side in the order of places, with one.
    """

    classes: str
    label: str
    marks: Marks
    place: int | None = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """The drawing over one frame; empty where nobody points at anything."""

    svg: Markup


def overlays(layers: Sequence[Layer], times: Sequence[float | None], width: int, height: int) -> tuple[Overlay, ...]:
    """The drawings over the frames of a medium.

    Args:
        layers: the reference first; it is drawn on top.
        times: seconds of the frames; ``None`` for an image.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
    """
    unit = _SIDE / max(width, height, 1)
    size = (max(1, width) * unit, max(1, height) * unit)
    return tuple(Overlay(_overlay(layers, time, size)) for time in times)


def _overlay(layers: Sequence[Layer], time: float | None, size: tuple[float, float]) -> Markup:
    drawn = []
    for layer in reversed(layers):
        if parts := _layer(layer, time, size):
            drawn.append(f'<g class="{escape(layer.classes)}">{parts}</g>')
    if not drawn:
        return Markup("")
    # Every part is a number that we formatted, or escaped.
    return Markup(
        f'<svg class="overlay" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(drawn)}</svg>'
    )


def _layer(layer: Layer, time: float | None, size: tuple[float, float]) -> str:
    boxes = layer.marks.at(time)
    several = len(boxes) > 1
    parts = [_track(layer.marks, time, size)] if len(layer.marks.timed) > 1 else []
    parts += [
        _box(box, f"{layer.label}.{number}" if several else layer.label, layer.place, size)
        for number, box in enumerate(boxes, 1)
    ]
    for dot in layer.marks.dots_at(time):
        x, y = dot.x * size[0], dot.y * size[1]
        mark = "inside" if dot.inside else "outside"
        parts.append(f'<circle class="{mark}" cx="{x:.1f}" cy="{y:.1f}" r="{_DOT:.0f}"/>')
    return "".join(parts)


def _box(box: Box, label: str, place: int | None, size: tuple[float, float]) -> str:
    left, top, right, bottom = (side * size[number % 2] for number, side in enumerate(box))
    if place is None:
        across, down = left + 4, top - 8 if top > _LABEL else top + _LABEL - 6
    else:
        across = left + 4 + 0.8 * _LABEL * place
        down = bottom + _LABEL - 6 if bottom < size[1] - _LABEL else bottom - 8
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"/>'
        f'<text x="{across:.1f}" y="{down:.1f}">{escape(label)}</text>'
    )


def _track(marks: Marks, time: float | None, size: tuple[float, float]) -> str:
    """The way of the middle of a box until the second of the frame."""
    way = [
        ((box[0] + box[2]) / 2 * size[0], (box[1] + box[3]) / 2 * size[1])
        for second, box in sorted(marks.timed.items())
        if time is not None and second <= time + 0.5
    ]
    if len(way) < 2:
        return ""
    return '<polyline class="track" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in way) + '"/>'
