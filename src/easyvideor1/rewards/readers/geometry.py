"""Spans, boxes and points, their overlap, and their scales.

A row says in its column ``coordinates`` on which scale its reference is; the configuration says which one the prompt
asks for. Where only one of them says it, it holds for both. Pixels are those of ``image_size`` or ``video_size``
(``[width, height]``), of ``width`` and ``height``, or of the row's ``mask`` (COCO RLE, whose ``size`` is ``[height,
width]``), in this order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from easyvideor1.rewards.readers.json_answers import load_json
from easyvideor1.rewards.types import ColumnError

Span = tuple[float, float]
Box = tuple[float, float, float, float]
Point = tuple[float, float]
Item = TypeVar("Item")

#: A list of more spans, boxes or points is not an answer (which keeps the matching cheap).
MOST_ITEMS = 64


def number(value: Any) -> float | None:
    """A finite JSON number as float; ``None`` for anything else, strings and booleans included."""
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
    """``[start, end]`` in seconds; ``None`` for a reversed span."""
    read = numbers(value, 2)
    return (read[0], read[1]) if read is not None and read[0] <= read[1] else None


def box(value: Any) -> Box | None:
    """``[x1, y1, x2, y2]``; ``None`` for a box whose corners are the wrong way round."""
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
    """The top left and the bottom right corner of a box."""
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


def best_matching(scores: Sequence[Sequence[float]]) -> float:
    """The largest sum of entries with no two in one row or column.

    ``scores`` is a rectangle of finite numbers, none negative.
    """
    cost_RC: NDArray[np.float64] = -np.asarray(scores, dtype=np.float64)
    if cost_RC.size == 0:
        return 0.0
    if cost_RC.size == 1:
        return float(-cost_RC[0, 0])
    from scipy.optimize import linear_sum_assignment  # slow to import, and most answers are one box or span

    if cost_RC.shape[0] > cost_RC.shape[1]:
        cost_RC = cost_RC.T
    rows, columns = linear_sum_assignment(cost_RC)
    # In the order of the columns: the last digits of a sum depend on its order.
    return float(-cost_RC[rows, columns][columns.argsort()].sum())


def scales_differ(predicted: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether one side is normalised to 0-1 and the other plainly is not, so that overlap means nothing."""
    if not predicted or not reference:
        return False
    small, large = sorted((max(map(abs, predicted)), max(map(abs, reference))))
    return small <= 1.0 and large > 2.0 and small > 0.0


Scale = Literal["normalized", "thousand", "pixel"]
Size = tuple[float, float]

_NAMES: Mapping[str, Scale] = {
    "normalized": "normalized",
    "normalised": "normalized",
    "0-1": "normalized",
    "thousand": "thousand",
    "0-1000": "thousand",
    "pixel": "pixel",
    "pixels": "pixel",
}
_SHOWN: Mapping[str, str] = {"normalized": "0-1", "thousand": "0-1000", "pixel": "pixel"}
_SIZES = ("image_size", "video_size")
#: A coordinate up to this factor beyond its scale belongs to a box that leaves the picture, not to another scale.
_SLACK = 1.05


def declared_scale(row: Mapping[str, Any]) -> Scale | None:
    """The scale that the row declares for its reference.

    Raises:
        ColumnError: ``coordinates`` is not a known scale.
    """
    name = row.get("coordinates")
    if name is None:
        return None
    scale = _NAMES.get(name.strip().lower()) if isinstance(name, str) else None
    if scale is None:
        raise ColumnError("coordinates", f"it is {name!r}; write normalized (0-1), thousand (0-1000) or pixel")
    return scale


def picture_size(row: Mapping[str, Any]) -> Size | None:
    """``(width, height)`` in pixels of the picture that the boxes of a row lie in; ``None`` if the row has none.

    Raises:
        ColumnError: the column of the size holds something else.
    """
    for column in _SIZES:
        value = row.get(column)
        if value is None:
            continue
        sides = load_json(value) if isinstance(value, str) else value
        read = [number(side) for side in sides] if isinstance(sides, list | tuple) else []
        if len(read) != 2 or any(side is None or side <= 0 for side in read):
            raise ColumnError(column, f"it is {value!r}; write [width, height] in pixels")
        return (read[0] or 0.0, read[1] or 0.0)
    width, height = number(row.get("width")), number(row.get("height"))
    if width and height and width > 0 and height > 0:
        return (width, height)
    return _mask_size(row.get("mask"))


def _mask_size(mask: Any) -> Size | None:
    mask = load_json(mask) if isinstance(mask, str) else mask
    size = mask.get("size") if isinstance(mask, Mapping) else None
    sides = [number(side) for side in size] if isinstance(size, list | tuple) else []
    if len(sides) != 2 or not all(side is not None and side > 0 for side in sides):
        return None  # the rule that reads masks checks whether it is one
    return (sides[1] or 0.0, sides[0] or 0.0)


def off_scale(points: Iterable[Point], scale: Scale, size: Size | None) -> bool:
    """Whether points are plainly not on a scale.

    Beyond its end by more than 5%, or, on the larger scales, all within 0-1 (and not all 0).
    """
    points = list(points)
    if not points:
        return False
    across, down = max(abs(x) for x, _ in points), max(abs(y) for _, y in points)
    largest = max(across, down)
    if scale == "normalized":
        return largest > _SLACK
    if 0.0 < largest <= 1.0:
        return True
    if scale == "thousand":
        return largest > 1000.0 * _SLACK
    return size is not None and (across > size[0] * _SLACK or down > size[1] * _SLACK)


def factors(of: Scale, to: Scale, size: Size | None) -> Size | None:
    """Factors of x and y from the scale ``of`` to the scale ``to``; ``None`` if that needs a size that is missing."""
    if of == to:
        return (1.0, 1.0)
    unit = {"normalized": (1.0, 1.0), "thousand": (1000.0, 1000.0), "pixel": size}
    here, there = unit[of], unit[to]
    return None if here is None or there is None else (there[0] / here[0], there[1] / here[1])


def mismatch(side: str, scale: Scale | None) -> str:
    """Why answer and reference cannot be compared; the same words for the same cause."""
    if scale is None:
        return "scale mismatch: one of answer and reference is on the scale 0-1 and the other is not"
    return f"scale mismatch: the {side} is not on the declared scale ({_SHOWN[scale]})"


def undeclared_differ(predicted: Iterable[Point], reference: Iterable[Point]) -> bool:
    """Whether, with no scale declared, one side is normalised to 0-1 and the other plainly is not."""
    return scales_differ([side for point in predicted for side in point], [side for p in reference for side in p])


def check_scale(row: Mapping[str, Any], points: Iterable[Point], asked: Scale | None) -> None:
    """Check when data is loaded that the reference is on its scale, and that pixels can be converted where they must.

    Raises:
        ColumnError: ``coordinates`` or a size is invalid or missing.
        ValueError: the reference is plainly on another scale.
    """
    stated = declared_scale(row) or asked
    if stated is None:
        return
    asked = asked or stated
    size = picture_size(row) if "pixel" in (stated, asked) else None
    if off_scale(points, stated, size):
        raise ValueError(mismatch("reference", stated))
    if factors(asked, stated, size) is None:
        raise ColumnError(
            "image_size", "converting to or from pixels takes the size of the picture; write [width, height]"
        )


def has_area(box: Box) -> bool:
    """Whether a box can overlap anything."""
    return box[2] > box[0] and box[3] > box[1]
