"""Spans, boxes, points and the JSON that holds them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
Box = tuple[float, float, float, float]
Point = tuple[float, float]
Item = TypeVar("Item")

#: More spans, boxes or points than this in one list is no answer (and keeps the matching cheap).
MOST_ITEMS = 64
_STARTS = 32
_FENCE = re.compile(r"\A```[a-zA-Z]*+")
_DECODER = json.JSONDecoder()


def load_json(text: str) -> Any:
    """The JSON that the whole text is, a Markdown fence aside; ``None`` if it is none.

    Every failure of the decoder means "no JSON" here, deep nesting and endless digits included.
    """
    text = _FENCE.sub("", text.strip()).removesuffix("```")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def find_json(text: str) -> Any:
    """The JSON object or list of a text: the whole text, or the last object that stands between other words.

    At most ``_STARTS`` places that begin like JSON and are none are tried, so the time stays linear.
    """
    whole = load_json(text)
    if isinstance(whole, dict | list):
        return whole
    found, at, failures = None, text.find("{"), 0
    while at >= 0 and failures < _STARTS:
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            failures, end = failures + 1, at + 1
        at = text.find("{", end)
    return found


def number(value: Any) -> float | None:
    """A finite JSON number as float; strings and booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) and abs(as_float) < 1e12 else None


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """A list of exactly ``count`` finite numbers."""
    if not isinstance(value, list) or len(value) != count:
        return None
    read = [number(entry) for entry in value]
    return tuple(entry for entry in read if entry is not None) if None not in read else None


def span(value: Any) -> Span | None:
    """``[start, end]`` in seconds; a reversed span is no span."""
    read = numbers(value, 2)
    return (read[0], read[1]) if read is not None and read[0] <= read[1] else None


def box(value: Any) -> Box | None:
    """``[x1, y1, x2, y2]``; a box whose corners are the wrong way round is no box."""
    read = numbers(value, 4)
    if read is None or read[2] < read[0] or read[3] < read[1]:
        return None
    return (read[0], read[1], read[2], read[3])


def point(value: Any) -> Point | None:
    """``[x, y]``."""
    read = numbers(value, 2)
    return None if read is None else (read[0], read[1])


def one_or_more(value: Any, one: Callable[[Any], Item | None]) -> tuple[Item, ...] | None:
    """One item, or a list of up to ``MOST_ITEMS`` items, every one of them readable by ``one``."""
    single = one(value)
    if single is not None:
        return (single,)
    if not isinstance(value, list) or not 0 < len(value) <= MOST_ITEMS:
        return None
    items = tuple(item for entry in value if (item := one(entry)) is not None)
    return items if len(items) == len(value) else None


def corners(a: Box) -> tuple[Point, Point]:
    """The two corners that a box is written by."""
    return (a[0], a[1]), (a[2], a[3])


def scaled_box(a: Box, x: float, y: float) -> Box:
    """A box with its coordinates multiplied."""
    return (a[0] * x, a[1] * y, a[2] * x, a[3] * y)


def span_iou(a: Span, b: Span) -> float:
    """Overlap over hull-or-union of two spans; disjoint or empty ones have 0."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    if common <= 0:
        return 0.0
    return common / ((a[1] - a[0]) + (b[1] - b[0]) - common)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; a box without area has 0."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (_area(a) + _area(b) - common)


def _area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def matched(scores: Sequence[Sequence[float]]) -> float:
    """The largest sum of entries with no two in one row or column (Kuhn 1955, by shortest augmenting paths).

    ``scores`` is a rectangle of finite numbers, none negative.
    """
    cost_RC: NDArray[np.float64] = -np.asarray(scores, dtype=np.float64)
    if cost_RC.size == 0:
        return 0.0
    if cost_RC.shape == (1, 1):
        return float(-cost_RC[0, 0])
    if cost_RC.shape[0] > cost_RC.shape[1]:
        cost_RC = cost_RC.T
    rows, columns = cost_RC.shape
    # Column 0 and row 0 are the empty places from which each search starts; potentials keep reduced costs >= 0.
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, dtype=int)
    for row in range(1, rows + 1):
        row_of[0], at = row, 0
        distance, came_from = np.full(columns + 1, np.inf), np.zeros(columns + 1, dtype=int)
        done = np.zeros(columns + 1, dtype=bool)
        while row_of[at]:
            done[at] = True
            reduced = cost_RC[row_of[at] - 1] - row_price[row_of[at]] - column_price[1:]
            shorter = ~done[1:] & (reduced < distance[1:])
            distance[1:][shorter], came_from[1:][shorter] = reduced[shorter], at
            following = int(np.where(done, np.inf, distance).argmin())
            step = distance[following]
            row_price[row_of[done]] += step
            column_price[done] -= step
            distance[~done] -= step
            at = following
        while at:
            row_of[at] = row_of[came_from[at]]
            at = came_from[at]
    taken = np.flatnonzero(row_of[1:])
    return float(-cost_RC[row_of[1:][taken] - 1, taken].sum())


def scales_differ(predicted: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether one side is normalised to 0-1 and the other plainly is not: then overlap says nothing."""
    if not predicted or not reference:
        return False
    small, large = sorted((max(map(abs, predicted)), max(map(abs, reference))))
    return small <= 1.0 and large > 2.0 and small > 0.0
