"""Scales of boxes and points: declared by the row and by the prompt, checked, and converted before comparing.

A row says in its column ``coordinates`` on which scale its reference is; the configuration says which one the prompt
asks for. Where only one of them speaks, it speaks for both. Pixels are those of ``image_size`` or ``video_size``
(``[width, height]``), of ``width`` and ``height``, or of the row's ``mask`` (COCO RLE, whose ``size`` is ``[height,
width]``), in this order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from easyvideor1.rewards.answer import ColumnError
from easyvideor1.rewards.geometry import Point, load_json, number, scales_differ

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
#: A coordinate this far beyond the end of its scale is still a box that leaves the picture, not another scale.
_SLACK = 1.05


def declared_scale(row: Mapping[str, Any]) -> Scale | None:
    """The scale that the row declares for its reference.

    Raises:
        ColumnError: ``coordinates`` is no known scale.
    """
    name = row.get("coordinates")
    if name is None:
        return None
    scale = _NAMES.get(name.strip().lower()) if isinstance(name, str) else None
    if scale is None:
        raise ColumnError("coordinates", f"it is {name!r}; write normalized (0-1), thousand (0-1000) or pixel")
    return scale


def picture_size(row: Mapping[str, Any]) -> Size | None:
    """``(width, height)`` in pixels of the picture that the boxes of a row lie in; ``None`` if the row does not say.

    Raises:
        ColumnError: the column that should say it holds something else.
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
        return None  # whether a mask is one is for the rule to say that reads it
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
    """What x and y of scale ``of`` are multiplied by to be on ``to``; ``None`` if that takes a size nobody gave."""
    if of == to:
        return (1.0, 1.0)
    unit = {"normalized": (1.0, 1.0), "thousand": (1000.0, 1000.0), "pixel": size}
    here, there = unit[of], unit[to]
    return None if here is None or there is None else (there[0] / here[0], there[1] / here[1])


def mismatch(side: str, scale: Scale | None) -> str:
    """Why two sides cannot be compared; the same words for the same cause."""
    if scale is None:
        return "scale mismatch: one of answer and reference is on the scale 0-1 and the other is not"
    return f"scale mismatch: the {side} is not on the declared scale ({_SHOWN[scale]})"


def undeclared_differ(predicted: Iterable[Point], reference: Iterable[Point]) -> bool:
    """Whether, with no scale declared, one side is normalised to 0-1 and the other plainly is not."""
    return scales_differ([side for point in predicted for side in point], [side for p in reference for side in p])


def check_scale(row: Mapping[str, Any], points: Iterable[Point], asked: Scale | None) -> None:
    """Check when data is loaded that the reference is on its scale, and that pixels can be converted where they must.

    Raises:
        ColumnError: ``coordinates`` or a size is no such thing, or missing.
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
