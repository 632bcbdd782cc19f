"""Grounding in time and space: spans, boxes, tubes and tracks.

Reversed spans and boxes are not answers, and are not repaired. Nothing is clipped: what lies outside enlarges the
union. Where the row has a ``duration`` in seconds, the share of an answer beyond the video is reported beside the
accuracy. Keys of seconds are numbers, so ``"1.0"`` is ``"1"``, and the later of two counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyvideor1.rewards.readers import geometry
from easyvideor1.rewards.readers.boxes import TokenBoxes, read_boxes, read_boxes_reply
from easyvideor1.rewards.readers.geometry import (
    Box,
    Point,
    Span,
    box_iou,
    corners,
    declared_scale,
    factors,
    has_area,
    picture_size,
    scaled_box,
    span_iou,
)
from easyvideor1.rewards.readers.json_answers import reference_json
from easyvideor1.rewards.readers.time_spans import read_spans, read_spans_reply
from easyvideor1.rewards.readers.tubes import (
    Tube,
    asked_track,
    asked_tube,
    read_track,
    read_track_reply,
    read_tube,
    read_tube_reply,
)
from easyvideor1.rewards.types import ColumnError, Places, Rule, Verdict, cannot_judge

_SUCCESS = (0.3, 0.5, 0.7)
_NO_SIZE = "box tokens are on the scale 0-1000, and the row does not say the size of its picture in pixels"


def _matched_iou(predicted: Sequence[Any], reference: Sequence[Any], iou: Callable[[Any, Any], float]) -> float:
    """Summed IoU of the best one-to-one matching over the larger count: extra and missing items both cost."""
    total = geometry.best_matching([[iou(p, r) for r in reference] for p in predicted])
    return total / max(len(predicted), len(reference))


def duration_of(row: Mapping[str, Any]) -> float | None:
    """Seconds of the video if the row has them in ``duration``; real rows also have words such as "short"."""
    seconds = geometry.number(row.get("duration"))
    return seconds if seconds is not None and seconds > 0 else None


def beyond_video(spans: Sequence[Span], duration: float) -> float:
    """The share of the time in spans that lies before 0 or after the end of the video."""
    length = math.fsum(end - start for start, end in spans)
    inside = math.fsum(max(0.0, min(end, duration) - max(start, 0.0)) for start, end in spans)
    return 1.0 - inside / length if length > 0 else 0.0


def compare_spans(predicted: tuple[Span, ...], reference: tuple[Span, ...], row: Mapping[str, Any]) -> Verdict:
    """Temporal IoU; several segments by maximum matching over the larger count."""
    duration = duration_of(row)
    parts = {} if duration is None else {"beyond_video": beyond_video(predicted, duration)}
    return Verdict(_matched_iou(predicted, reference, span_iou), parts)


def compare_boxes(
    predicted: tuple[Box, ...] | TokenBoxes, reference: tuple[Box, ...], row: Mapping[str, Any]
) -> Verdict:
    """Box IoU; several boxes by maximum matching over the larger count.

    Boxes between the box tokens of Qwen2-VL are on 0-1000. They are converted to the declared scale of the reference,
    whatever scale was asked for.
    """
    if isinstance(predicted, TokenBoxes):
        try:
            moved = _moved_tokens(predicted, row)
        except ColumnError as error:
            return cannot_judge(error.cause)
        if moved is None:
            return Verdict(0.0, reason=_NO_SIZE)
        predicted = moved
    return Verdict(_matched_iou(predicted, reference, box_iou))


def _moved_tokens(predicted: TokenBoxes, row: Mapping[str, Any]) -> tuple[Box, ...] | None:
    stated = declared_scale(row)
    if stated is None:
        return predicted.boxes
    by = factors("thousand", stated, picture_size(row) if stated == "pixel" else None)
    return None if by is None else tuple(scaled_box(box, *by) for box in predicted.boxes)


def _iou_at(predicted: Tube, reference: Tube, second: float) -> float:
    p, r = predicted.boxes.get(second), reference.boxes.get(second)
    return 0.0 if p is None or r is None else box_iou(p, r)


def _common_iou(predicted: Tube, reference: Tube) -> float:
    """Mean IoU over the seconds that both sides have a box for: what is left out costs nothing."""
    common = reference.boxes.keys() & predicted.boxes.keys()
    return math.fsum(_iou_at(predicted, reference, second) for second in common) / len(common) if common else 0.0


def compare_tubes(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """0.5 temporal IoU + 0.5 mean box IoU.

    The mean runs over the annotated seconds and the predicted seconds inside the true span: a missing or an invented
    box counts 0. A reference without boxes, whose span holds no whole second, is scored on its span alone.
    ``box_iou_common`` is the published form, over the seconds that both sides have, and ``box_iou_union`` the sum of
    box IoU over the number of seconds that either side has (sIoU and stIoU of LLaVA-ST, arXiv 2501.08282).
    """
    if reference.time is None:
        raise ValueError("the reference of a tube has no time")
    start, end = reference.time
    tiou = 0.0 if predicted.time is None else span_iou(predicted.time, reference.time)
    if not reference.boxes:
        return Verdict(tiou, {"temporal_iou": tiou})
    seconds = set(reference.boxes) | {second for second in predicted.boxes if start <= second <= end}
    mean = math.fsum(_iou_at(predicted, reference, second) for second in seconds) / len(seconds)
    either = set(reference.boxes) | set(predicted.boxes)
    parts = {
        "temporal_iou": tiou,
        "box_iou": mean,
        "box_iou_common": _common_iou(predicted, reference),
        "box_iou_union": math.fsum(_iou_at(predicted, reference, second) for second in either) / len(either),
    }
    return Verdict((tiou + mean) / 2, parts)


def compare_common_tubes(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """The published form: 0.5 temporal IoU + 0.5 mean box IoU over the seconds that both sides have."""
    verdict = compare_tubes(predicted, reference, row)
    if not reference.boxes:
        return verdict
    return Verdict((verdict.parts["temporal_iou"] + verdict.parts["box_iou_common"]) / 2, verdict.parts)


def compare_tracks(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """Summed box IoU at the annotated seconds over the larger count of seconds: missing and extra boxes both cost.

    References have a box at every whole second where the object is, which is what the prompt asks for. So more boxes
    than the reference has are invented, within the annotated range or beyond it, and a box at a wrong second is not
    charged twice. An unreadable box is not counted. ``success_t`` is the share of the same count with IoU >= t.
    """
    count = max(len(reference.boxes), sum(box is not None for box in predicted.boxes.values()))
    ious = [_iou_at(predicted, reference, second) for second in reference.boxes]
    success = {f"success_{t}": sum(iou >= t for iou in ious) / count for t in _SUCCESS}
    return Verdict(math.fsum(ious) / count, success)


def compare_common_tracks(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """The published form: mean box IoU over the seconds that both sides have, so one easy second can be enough."""
    return Verdict(_common_iou(predicted, reference), compare_tracks(predicted, reference, row).parts)


def _box_points(boxes: Sequence[Box] | TokenBoxes) -> list[Point]:
    """The corners of boxes; none for box tokens, which have a scale of their own."""
    return [] if isinstance(boxes, TokenBoxes) else [point for box in boxes for point in corners(box)]


def _scaled_boxes(boxes: Sequence[Box] | TokenBoxes, x: float, y: float) -> tuple[Box, ...] | TokenBoxes:
    if isinstance(boxes, TokenBoxes):
        return boxes  # their scale is not the one that was asked for; ``compare_boxes`` converts them
    return tuple(scaled_box(box, x, y) for box in boxes)


def _tube_points(tube: Tube) -> list[Point]:
    return _box_points([box for box in tube.boxes.values() if box is not None])


def _scaled_tube(tube: Tube, x: float, y: float) -> Tube:
    boxes = {second: None if box is None else scaled_box(box, x, y) for second, box in tube.boxes.items()}
    return Tube(tube.time, boxes)


def _spans_reference(text: str, options: tuple[str, ...]) -> tuple[Span, ...]:
    stated = read_spans(text, options)
    spans: tuple[Span, ...] | None = None if stated is None else stated.value
    if spans is None:
        reference_json(text)  # says where broken JSON is broken
        raise ValueError('it has no "time" of [start, end] with start before end')
    if any(start == end for start, end in spans):
        raise ValueError("a span has no length")
    return spans


def _boxes_reference(text: str, options: tuple[str, ...]) -> tuple[Box, ...]:
    stated = read_boxes(text, options)
    value = None if stated is None else stated.value
    boxes: tuple[Box, ...] | None = value.boxes if isinstance(value, TokenBoxes) else value
    if boxes is None:
        reference_json(text)  # says where broken JSON is broken
        raise ValueError('it has no "boxes" of [x1, y1, x2, y2] with x1 < x2 and y1 < y2')
    if not all(map(has_area, boxes)):
        raise ValueError("a box has no area")
    return boxes


def _with_area(tube: Tube) -> Tube:
    if not all(box is not None and has_area(box) for box in tube.boxes.values()):
        raise ValueError("a box has no area")
    return tube


def _tube_reference(text: str, options: tuple[str, ...]) -> Tube:
    data = reference_json(text)
    if isinstance(data, dict) and data.get("boxes") is None:
        data = {**data, "boxes": {}}
    tube = asked_tube(data)
    if tube is None:
        raise ValueError('a "time" or a box is missing or malformed; only a span without a whole second has no boxes')
    if tube.time is not None and tube.time[0] == tube.time[1]:
        raise ValueError("the span has no length")
    return _with_area(tube)


def _track_reference(text: str, options: tuple[str, ...]) -> Tube:
    tube = asked_track(reference_json(text))
    if tube is None:
        raise ValueError("a box is malformed")
    return _with_area(tube)


def _spans_fit(reference: tuple[Span, ...], row: Mapping[str, Any]) -> None:
    """A reference may end a little after the video, as annotations do, but must have some of it."""
    duration = duration_of(row)
    if duration is not None and any(beyond_video([span], duration) >= 1.0 for span in reference):
        raise ValueError(f"a span lies outside the video of {duration:g} s")


def _tube_fits(reference: Tube, row: Mapping[str, Any]) -> None:
    if reference.time is not None:
        _spans_fit((reference.time,), row)


_BOX_PLACES = Places(_box_points, _scaled_boxes)
_TUBE_PLACES = Places(_tube_points, _scaled_tube)

TEMPORAL = Rule(
    read_spans,
    _spans_reference,
    compare_spans,
    '{"time": [start, end]} in seconds',
    "block",
    form="iou",
    fits=_spans_fit,
    read_reply=read_spans_reply,
)
SPATIAL = Rule(
    read_boxes,
    _boxes_reference,
    compare_boxes,
    '{"boxes": [x1, y1, x2, y2]}',
    "block",
    form="iou",
    places=_BOX_PLACES,
    read_reply=read_boxes_reply,
)
SPATIAL_TEMPORAL = Rule(
    read_tube,
    _tube_reference,
    compare_tubes,
    '{"time": [start, end], "boxes": {"second": [x1, y1, x2, y2], ...}}',
    "block",
    form="union",
    forms={"common": compare_common_tubes},
    places=_TUBE_PLACES,
    fits=_tube_fits,
    read_reply=read_tube_reply,
)
TRACKING = Rule(
    read_track,
    _track_reference,
    compare_tracks,
    '{"boxes": {"second": [x1, y1, x2, y2], ...}}',
    "block",
    form="annotated",
    forms={"common": compare_common_tracks},
    places=_TUBE_PLACES,
    read_reply=read_track_reply,
)
