"""Tubes: spatio-temporal references that are counted in frames, as references in seconds.

What is measured is in the score of ``spatial_temporal_grounding`` (docs/rewards.md): ``temporal_iou``, and the sIoU and
stIoU of LLaVA-ST (arXiv 2501.08282, ``inference/src/metrics.py``) as ``box_iou_common`` and ``box_iou_union``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.release import Raw
from easyvideor1.rewards.references import read_reference
from easyvideor1.types import DataError


def st_align(row: Raw) -> dict[str, Any]:
    """The columns of a row of ST-Align-Benchmark, counted in seconds.

    ``asked`` is the question, ``gold`` the reference, ``start`` and ``end`` are the part of the video that the row is
    about (``meta.split``), ``columns`` the scale of its boxes and the size of the picture.

    Raises:
        QuestionError: the row has no frame rate, or a reference that is no tube.
    """
    meta = row["meta"]
    span = [meta["time_token"]["<s>"], meta["time_token"]["<e>"]]
    gold = tube_in_seconds(span, meta["spatial_token"]["<bboxes>"], meta.get("fps"))
    first, last = meta["split"]
    return {
        "asked": row["conversations"][0]["value"].replace("<video>", ""),
        "gold": gold,
        "start": first / meta["fps"],
        "end": last / meta["fps"],
        "columns": {"coordinates": "pixel", "image_size": [meta["width"], meta["height"]]},
    }


def tube_in_seconds(span: Sequence[Any], boxes: Mapping[str, Sequence[Any]], fps: Any) -> str:
    """A span and boxes by frame as the reference of ``spatial_temporal_grounding``: a box for every whole second.

    Args:
        span: first and last frame, from 0.
        boxes: frame -> ``[x, y, width, height]``; the result has ``[x1, y1, x2, y2]`` in the same unit.
        fps: frames per second of the video.

    Raises:
        QuestionError: the frame rate is not known, or the span does not end after it starts.
    """
    rate = _number(fps)
    if not rate or rate <= 0:
        raise QuestionError(f"its span and boxes are counted in frames, and {fps!r} frames per second say no time")
    first, last = (_number(limit) for limit in span) if len(span) == 2 else (None, None)
    if first is None or last is None or not 0 <= first < last:
        raise QuestionError(f"its span {list(span)!r} is not a first and a last frame")
    found = {}
    for second in range(math.ceil(first / rate), math.floor(last / rate) + 1):
        if box := boxes.get(str(round(second * rate))):
            found[str(second)] = _corners(box)
    return json.dumps({"time": [first / rate, last / rate], "boxes": found})


def in_gold(column: str) -> Callable[[Raw], str]:
    """Whether the tube in a column has boxes: ``yes`` or ``no``. A span may hold no whole second, and so no box.

    Raises:
        QuestionError: it is no tube.
    """

    def says(row: Raw) -> str:
        try:
            tube = read_reference("spatial_temporal_grounding", str(row[column]), ())
        except DataError as error:
            raise QuestionError(str(error)) from None
        return "yes" if tube.boxes else "no"

    return says


def _corners(box: Sequence[Any]) -> list[float]:
    read = [_number(side) for side in box]
    if len(read) != 4 or None in read:
        raise QuestionError(f"its box {box!r} is not x, y, width and height")
    x, y, width, height = (side or 0.0 for side in read)
    return [x, y, x + width, y + height]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
