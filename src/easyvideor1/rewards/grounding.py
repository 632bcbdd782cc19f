"""Grounding in time and space: spans, boxes, tubes and tracks.

Reversed spans and boxes are no answers: they are not repaired. Nothing is clipped: what lies outside costs through the
union, and where the row has a ``duration`` in seconds, the share of an answer beyond the video is reported beside it.
Keys of seconds are numbers, so ``"1.0"`` is ``"1"``, and the later of two counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards import geometry
from easyvideor1.rewards.answer import Places, Reading, Rule, Verdict
from easyvideor1.rewards.geometry import Box, Point, Span, box_iou, corners, scaled_box, span_iou

_SUCCESS = (0.3, 0.5, 0.7)


@dataclass(frozen=True, slots=True)
class Tube:
    """A span in seconds and boxes by second; ``time`` is ``None`` for a track, or when an answer left it out.

    A box of an answer that cannot be read is kept as ``None``: its second was claimed.
    """

    time: Span | None
    boxes: Mapping[float, Box | None]

    def __str__(self) -> str:
        return f"time={self.time}, boxes={dict(self.boxes)}"


def _list_of(value: Any, one: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """One item, or a list of up to ``MOST_ITEMS`` items, every one of them readable."""
    single = one(value)
    if single is not None:
        return (single,)
    if not isinstance(value, list) or not 0 < len(value) <= geometry.MOST_ITEMS:
        return None
    items = tuple(one(entry) for entry in value)
    return None if None in items else items


def _read_list(text: str, key: str, one: Callable[[Any], Any]) -> Reading | None:
    data = geometry.find_json(text)
    if isinstance(data, dict):
        items = _list_of(data.get(key), one)
        return None if items is None else Reading(items)
    items = _list_of(data, one)
    return None if items is None else Reading(items, canonical=False)


def read_spans(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"time": [start, end]}`` or a list of such pairs; the bare list is understood but not the form asked for."""
    return _read_list(text, "time", geometry.span)


def read_boxes(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"boxes": [x1, y1, x2, y2]}`` or a list of boxes; the bare list is understood but not the form asked for."""
    return _read_list(text, "boxes", geometry.box)


def _seconds(value: Any) -> dict[float, Box | None] | None:
    if not isinstance(value, dict):
        return None
    boxes: dict[float, Box | None] = {}
    for key, entry in value.items():
        try:
            second = float(key)
        except ValueError:
            return None
        if not math.isfinite(second):
            return None
        boxes[second] = geometry.box(entry)
    return boxes


def read_tube(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"time": [start, end], "boxes": {"second": [x1, y1, x2, y2], ...}}``; either half alone is a partial answer."""
    data = geometry.find_json(text)
    if not isinstance(data, dict):
        return None
    time, boxes = geometry.span(data.get("time")), _seconds(data.get("boxes"))
    if time is None and not boxes:
        return None
    whole = time is not None and bool(boxes) and None not in (boxes or {}).values()
    return Reading(Tube(time, boxes or {}), canonical=whole)


def read_track(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"boxes": {"second": [x1, y1, x2, y2], ...}}``."""
    data = geometry.find_json(text)
    boxes = _seconds(data.get("boxes")) if isinstance(data, dict) else None
    return Reading(Tube(None, boxes), canonical=None not in boxes.values()) if boxes else None


def _matched_iou(predicted: Sequence[Any], reference: Sequence[Any], iou: Callable[[Any, Any], float]) -> float:
    """Summed IoU of the best one-to-one matching over the larger count: extra and missing items both cost."""
    total = geometry.matched([[iou(p, r) for r in reference] for p in predicted])
    return total / max(len(predicted), len(reference))


def duration_of(row: Mapping[str, Any]) -> float | None:
    """Seconds of the video if the row has them in ``duration``; words such as "short" stand there too in real rows."""
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


def compare_boxes(predicted: tuple[Box, ...], reference: tuple[Box, ...], row: Mapping[str, Any]) -> Verdict:
    """Box IoU; several boxes by maximum matching over the larger count."""
    return Verdict(_matched_iou(predicted, reference, box_iou))


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
    box counts 0. ``box_iou_common`` is the published form, over the seconds that both sides have.
    """
    if reference.time is None:
        raise ValueError("the reference of a tube has no time")
    start, end = reference.time
    seconds = set(reference.boxes) | {second for second in predicted.boxes if start <= second <= end}
    tiou = 0.0 if predicted.time is None else span_iou(predicted.time, reference.time)
    mean = math.fsum(_iou_at(predicted, reference, second) for second in seconds) / len(seconds)
    parts = {"temporal_iou": tiou, "box_iou": mean, "box_iou_common": _common_iou(predicted, reference)}
    return Verdict((tiou + mean) / 2, parts)


def compare_common_tubes(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """The published form: 0.5 temporal IoU + 0.5 mean box IoU over the seconds that both sides have."""
    verdict = compare_tubes(predicted, reference, row)
    return Verdict((verdict.parts["temporal_iou"] + verdict.parts["box_iou_common"]) / 2, verdict.parts)


def compare_tracks(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """Mean box IoU over all annotated seconds, missing ones 0; ``success_t`` is the share of seconds with IoU >= t."""
    ious = [_iou_at(predicted, reference, second) for second in reference.boxes]
    success = {f"success_{t}": sum(iou >= t for iou in ious) / len(ious) for t in _SUCCESS}
    return Verdict(math.fsum(ious) / len(ious), success)


def compare_common_tracks(predicted: Tube, reference: Tube, row: Mapping[str, Any]) -> Verdict:
    """The published form: mean box IoU over the seconds that both sides have, so one easy second can be enough."""
    return Verdict(_common_iou(predicted, reference), compare_tracks(predicted, reference, row).parts)


def _box_points(boxes: Sequence[Box]) -> list[Point]:
    return [point for box in boxes for point in corners(box)]


def _scaled_boxes(boxes: Sequence[Box], x: float, y: float) -> tuple[Box, ...]:
    return tuple(scaled_box(box, x, y) for box in boxes)


def _tube_points(tube: Tube) -> list[Point]:
    return _box_points([box for box in tube.boxes.values() if box is not None])


def _scaled_tube(tube: Tube, x: float, y: float) -> Tube:
    boxes = {second: None if box is None else scaled_box(box, x, y) for second, box in tube.boxes.items()}
    return Tube(tube.time, boxes)


def reference_json(text: str) -> Any:
    """The JSON of a reference: the whole text must be JSON; a reference is not searched for."""
    data = geometry.load_json(text)
    if data is None:
        raise ValueError("it is not JSON")
    return data


def has_area(box: Box) -> bool:
    """Whether a box can overlap anything."""
    return box[2] > box[0] and box[3] > box[1]


def _spans_reference(text: str, options: tuple[str, ...]) -> tuple[Span, ...]:
    reference_json(text)
    reading = read_spans(text, options)
    if reading is None:
        raise ValueError('it has no "time" of [start, end] with start before end')
    spans: tuple[Span, ...] = reading.value
    if any(start == end for start, end in spans):
        raise ValueError("a span has no length")
    return spans


def _boxes_reference(text: str, options: tuple[str, ...]) -> tuple[Box, ...]:
    reference_json(text)
    reading = read_boxes(text, options)
    if reading is None:
        raise ValueError('it has no "boxes" of [x1, y1, x2, y2] with x1 < x2 and y1 < y2')
    boxes: tuple[Box, ...] = reading.value
    if not all(map(has_area, boxes)):
        raise ValueError("a box has no area")
    return boxes


def _tube_reference(text: str, options: tuple[str, ...], read: Callable[..., Reading | None] = read_tube) -> Tube:
    reference_json(text)
    reading = read(text, options)
    if reading is None or not reading.canonical:
        raise ValueError('a "time" or a box is missing or malformed' if read is read_tube else "a box is malformed")
    tube: Tube = reading.value
    if tube.time is not None and tube.time[0] == tube.time[1]:
        raise ValueError("the span has no length")
    if not all(box is not None and has_area(box) for box in tube.boxes.values()):
        raise ValueError("a box has no area")
    return tube


def _track_reference(text: str, options: tuple[str, ...]) -> Tube:
    return _tube_reference(text, options, read_track)


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
)
SPATIAL = Rule(
    read_boxes,
    _boxes_reference,
    compare_boxes,
    '{"boxes": [x1, y1, x2, y2]}',
    "block",
    form="iou",
    places=_BOX_PLACES,
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
)
