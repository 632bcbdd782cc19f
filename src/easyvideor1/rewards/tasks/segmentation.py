"""Segmentation prompts: a box with points inside and outside the object, and the time of the frame for videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.rewards.readers import geometry
from easyvideor1.rewards.readers.boxes import BOX_KEYS, box_of, names_of, point_of, second_of
from easyvideor1.rewards.readers.geometry import (
    Box,
    Point,
    corners,
    declared_scale,
    factors,
    has_area,
    picture_size,
    scaled_box,
)
from easyvideor1.rewards.readers.json_answers import (
    SEVERAL,
    NoAnswerError,
    load_json,
    read_json_answer,
    read_json_reply,
    reference_json,
)
from easyvideor1.rewards.types import ColumnError, Places, Reading, Rule, Verdict, cannot_judge

NO_PROMPTS = "no box of an object was found"
NO_POINTS = "a point is none"

_MASK_PIXELS = 1 << 26
_POSITIVE = ("positive_points", "positive_point", "positive", "point_2d", "points_2d", "points", "point")
_NEGATIVE = ("negative_points", "negative_point", "negative")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a segmentation model for one object; ``time`` in seconds. ``mask`` is COCO RLE as written."""

    box: Box
    positive: tuple[Point, ...]
    negative: tuple[Point, ...]
    time: float | None = None
    mask: Any = None

    def __str__(self) -> str:
        at = "" if self.time is None else f", time={self.time}"
        return f"box={self.box}, positive={self.positive}, negative={self.negative}{at}"


def _points(value: Any) -> tuple[Point, ...]:
    if value is None:
        return ()
    single = point_of(value)
    if single is not None:
        return (single,)
    if not isinstance(value, list):
        raise NoAnswerError(NO_POINTS)
    if len(value) > geometry.MOST_ITEMS:
        raise NoAnswerError("too many points are given")
    read = [point_of(entry) for entry in value]
    if None in read:
        raise NoAnswerError(NO_POINTS)
    return tuple(entry for entry in read if entry is not None)


def prompts_of(data: Any) -> Prompts:
    """The box, the points and the time that JSON holds.

    Raises:
        NoAnswerError: the box is missing, or one of them cannot be read.
    """
    if isinstance(data, list) and data and all(isinstance(entry, Mapping) for entry in data):
        data = _one_object(data)
    if not isinstance(data, Mapping):
        raise NoAnswerError(NO_PROMPTS)
    keyed = names_of(data)
    boxes = [keyed[name] for name in BOX_KEYS if name in keyed]
    if len(boxes) > 1 and any(other != boxes[0] for other in boxes):
        raise NoAnswerError(SEVERAL)
    if not boxes and not all(side in keyed for side in ("x1", "y1", "x2", "y2")):
        raise NoAnswerError(NO_PROMPTS)
    box = box_of(boxes[0] if boxes else keyed)
    positive, negative = (
        _points(next((keyed[name] for name in names if keyed.get(name) is not None), None))
        for names in (_POSITIVE, _NEGATIVE)
    )
    time = next((second_of(keyed[name]) for name in ("time", "timestamp", "second") if name in keyed), None)
    return Prompts(box, positive, negative, time, keyed.get("mask"))


def _one_object(entries: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """A list of objects, one with the box and others with a point each, as one object."""
    boxed = [names_of(entry) for entry in entries if any(name in BOX_KEYS for name in names_of(entry))]
    if len(boxed) != 1 or len(entries) > geometry.MOST_ITEMS:
        raise NoAnswerError("one box is asked for and several are given" if len(boxed) > 1 else NO_PROMPTS)
    joined: dict[str, Any] = dict(boxed[0])
    pointed = [names_of(entry) for entry in entries if names_of(entry) != boxed[0]]
    if pointed:
        off = [entry for entry in pointed if "negative" in str(entry.get("label", "")).lower()]
        on = [entry for entry in pointed if entry not in off]
        own = next((_points(joined.get(name)) for name in _POSITIVE if joined.get(name) is not None), ())
        joined = {key: value for key, value in joined.items() if key not in _POSITIVE}
        joined["positive_points"] = [*map(list, own), *on]
        joined["negative_points"] = off if off else joined.get("negative_points")
    return joined


def _asked(data: Any) -> Prompts | None:
    """The form that is asked for: one box, lists of points, and a number of seconds, if any."""
    if not isinstance(data, dict):
        return None
    boxes = data.get("boxes")
    box = geometry.box(boxes[0] if isinstance(boxes, list) and len(boxes) == 1 else boxes)
    positive, negative = (_asked_points(data.get(name)) for name in ("positive_points", "negative_points"))
    time = geometry.number(data.get("time"))
    if box is None or positive is None or negative is None or (time is None and "time" in data):
        return None
    return Prompts(box, positive, negative, time, data.get("mask"))


def _asked_points(value: Any) -> tuple[Point, ...] | None:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > geometry.MOST_ITEMS:
        return None
    read = [geometry.point(entry) for entry in value]
    return tuple(entry for entry in read if entry is not None) if None not in read else None


def read_prompts(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"boxes": [x1, y1, x2, y2], "positive_points": [[x, y], ...], "negative_points": [...], "time": seconds}``.

    The box is required; points and time only where the reference has them. ``mask`` (COCO RLE) is kept if given.
    Understood as well: the keys that models use for a box, ``point_2d`` and ``points`` for points on the object, points
    as ``{"x": ..., "y": ...}``, times such as "3 s", nearly-JSON, and a list of one object with the box and others with
    a point each.
    """
    return read_json_answer(text, prompts_of, NO_PROMPTS, _asked)


def _read_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    return read_json_reply(text, lambda whole: read_json_answer(whole, prompts_of, NO_PROMPTS, _asked), NO_PROMPTS)


def decode_rle(rle: Any) -> NDArray[np.bool_]:
    """Decode COCO run-length encoding ``{"size": [h, w], "counts": [...] | "..."}`` to a mask of shape ``(h, w)``.

    Counts run down the columns and begin with background; the string form packs 5 bits a character and stores
    differences to the count two before (COCO API's ``maskApi.c``).

    Raises:
        ValueError: this is not COCO RLE.
    """
    size = rle.get("size") if isinstance(rle, Mapping) else None
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ValueError('a mask needs "size": [height, width]')
    height, width = size
    if height * width > _MASK_PIXELS:
        raise ValueError(f"a mask of {height}x{width} is too large")
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        counts = _unpacked(counts.encode("ascii", "replace") if isinstance(counts, str) else counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError('the "counts" of a mask must be numbers of pixels')
    if sum(counts) != height * width:
        raise ValueError(f"the counts of a mask cover {sum(counts)} pixels, not {height}x{width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def _unpacked(packed: bytes) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for byte in packed:
        byte -= 48
        if not 0 <= byte < 64 or shift > 60:
            raise ValueError("the packed counts of a mask are broken")
        value |= (byte & 31) << shift
        shift += 5
        if not byte & 32:
            if byte & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts


def _near(predicted: Sequence[Point], reference: Sequence[Point], reach: float) -> float:
    """Best one-to-one matching of points, each pair worth ``1 - distance / reach``, over the larger count."""
    worth = [[max(0.0, 1 - math.dist(p, r) / reach) for r in reference] for p in predicted]
    return geometry.best_matching(worth) / max(len(predicted), len(reference))


def _share_on(points: Sequence[Point], mask: NDArray[np.bool_], wanted: bool, count: int) -> float:
    """Share of points whose pixel is (not) on the mask; too few or too many count as wrong, a pixel counts once."""
    height, width = mask.shape
    pixels = {(int(x), int(y)) for x, y in points if 0 <= x < width and 0 <= y < height}
    right = sum(bool(mask[y, x]) == wanted for x, y in pixels)
    return min(right, count) / max(len(points), count)


def _column_mask(row: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    """The mask of the row's column, a value or JSON text; ``None`` without one.

    Raises:
        ColumnError: the column holds something else.
    """
    mask = row.get("mask")
    if isinstance(mask, str):
        mask = load_json(mask) or mask
    try:
        return None if mask is None else decode_rle(mask)
    except ValueError as error:
        raise ColumnError("mask", f"it is no COCO RLE: {error}") from error


def _check_columns(row: Mapping[str, Any]) -> None:
    _column_mask(row)


def compare_prompts(predicted: Prompts, reference: Prompts, row: Mapping[str, Any]) -> Verdict:
    """Mean of the similarities of what the reference has.

    Box IoU; positive and negative points against the reference's (linear in the distance, 0 from half the diagonal of
    the reference box on); time (linear, 0 from one second on). If the row or the reference has a ``mask``, points are
    scored by lying on it or off it instead, and a predicted ``mask`` by its IoU. Points are in pixels of the mask
    unless the row declares another scale.
    """
    box = reference.box
    parts = {"box_iou": geometry.box_iou(predicted.box, box)}
    try:
        mask = decode_rle(reference.mask) if reference.mask is not None else _column_mask(row)
        on_mask = (1.0, 1.0) if mask is None else _to_mask(mask, row)
    except ColumnError as error:
        return cannot_judge(error.cause)
    reach = math.dist(box[:2], box[2:]) / 2
    for name, mine, theirs, wanted in (
        ("positive_points", predicted.positive, reference.positive, True),
        ("negative_points", predicted.negative, reference.negative, False),
    ):
        if theirs and mask is not None:
            parts[name] = _share_on(_scaled_points(mine, *on_mask), mask, wanted, len(theirs))
        elif theirs:
            parts[name] = _near(mine, theirs, reach)
    if reference.time is not None:
        parts["time"] = 0.0 if predicted.time is None else max(0.0, 1 - abs(predicted.time - reference.time))
    if mask is not None and predicted.mask is not None:
        parts["mask_iou"] = _mask_iou(predicted.mask, mask)
    return Verdict(math.fsum(parts.values()) / len(parts), parts)


def _to_mask(mask: NDArray[np.bool_], row: Mapping[str, Any]) -> tuple[float, float]:
    """What x and y of the row's scale are multiplied by to be pixels of a mask."""
    scale = declared_scale(row)
    height, width = mask.shape
    if scale is None:
        return (1.0, 1.0)
    if scale == "pixel":
        size = picture_size(row) or (width, height)
        return (width / size[0], height / size[1])
    return factors(scale, "pixel", (width, height)) or (1.0, 1.0)


def _scaled_points(points: Sequence[Point], x: float, y: float) -> tuple[Point, ...]:
    return tuple((left * x, top * y) for left, top in points)


def _all_points(prompts: Prompts) -> list[Point]:
    return [*corners(prompts.box), *prompts.positive, *prompts.negative]


def _scaled(prompts: Prompts, x: float, y: float) -> Prompts:
    positive, negative = (_scaled_points(points, x, y) for points in (prompts.positive, prompts.negative))
    return replace(prompts, box=scaled_box(prompts.box, x, y), positive=positive, negative=negative)


def _mask_iou(rle: Any, truth: NDArray[np.bool_]) -> float:
    try:
        mask = decode_rle(rle)
    except ValueError:
        return 0.0  # the answer claims a mask and gives none
    if mask.shape != truth.shape:
        return 0.0
    union = np.logical_or(mask, truth).sum()
    return float(np.logical_and(mask, truth).sum() / union) if union else 1.0


def _reference(text: str, options: tuple[str, ...]) -> Prompts:
    prompts = _asked(reference_json(text))
    if prompts is None:
        raise ValueError("its box, points or time are missing or malformed")
    if not has_area(prompts.box):
        raise ValueError("the box has no area")
    if prompts.mask is not None:
        decode_rle(prompts.mask)
    return prompts


SEGMENTATION = Rule(
    read_prompts,
    _reference,
    compare_prompts,
    '{"boxes": [x1, y1, x2, y2], "positive_points": [[x, y], ...], "negative_points": [[x, y], ...]}',
    "block",
    columns=_check_columns,
    form="prompts",
    places=Places(_all_points, _scaled),
    read_reply=_read_reply,
)
