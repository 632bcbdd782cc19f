"""Tubes and tracks: a span in seconds and boxes by second, in the forms that models write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.readers import geometry
from easyvideor1.rewards.readers.boxes import BOX_KEYS, SECOND_KEYS, boxes_by_second, names_of
from easyvideor1.rewards.readers.geometry import Box, Span
from easyvideor1.rewards.readers.json_answers import SEVERAL, NoAnswerError, read_json_answer, read_json_reply
from easyvideor1.rewards.readers.time_spans import NO_SPAN, ONE_TIME, read_spans, spans_of
from easyvideor1.rewards.types import Reading

NO_TUBE = "no time span and no boxes by second were found"
NO_TRACK = "no boxes by second were found"

_TRACKS = ("track", "tracks", "frames", "tube", "trajectory", "objects", "detections", "answer", "result")


@dataclass(frozen=True, slots=True)
class Tube:
    """A span in seconds and boxes by second; ``time`` is ``None`` for a track, or when an answer left it out.

    An unreadable box of an answer is kept as ``None``: its second still counts as predicted.
    """

    time: Span | None
    boxes: Mapping[float, Box | None]

    def __str__(self) -> str:
        return f"time={self.time}, boxes={dict(self.boxes)}"


def _seconds(value: Any) -> dict[float, Box | None] | None:
    """Boxes by second in the form that is asked for; ``None`` where a key is not a second."""
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


def _has_whole_second(span: Span) -> bool:
    return math.floor(span[1]) >= math.ceil(span[0])


def asked_tube(data: Any) -> Tube | None:
    """A tube in the form that is asked for; it is without boxes only where no whole second lies in its span."""
    time, boxes = (data.get("time"), data.get("boxes")) if isinstance(data, dict) else (None, None)
    span, read = geometry.span(time), _seconds(boxes)
    if span is None or read is None or None in read.values() or not (read or not _has_whole_second(span)):
        return None
    return Tube(span, read)


def asked_track(data: Any) -> Tube | None:
    """A track in the form that is asked for."""
    read = _seconds(data.get("boxes")) if isinstance(data, dict) else None
    return Tube(None, read) if read and None not in read.values() else None


def _boxes_in(data: Any, depth: int = 3) -> dict[float, Box | None]:
    """The boxes by second that JSON holds under one of the usual keys, or is."""
    if depth and isinstance(data, Mapping):
        keyed = names_of(data)
        for name in (*BOX_KEYS, *_TRACKS):
            if name in keyed and (boxes := _boxes_in(keyed[name], depth - 1)):
                return boxes
        if any(name in keyed for name in SECOND_KEYS):
            data = [data]
    return boxes_by_second(data) or {}


def tube_of(data: Any) -> Tube:
    """The span and the boxes that JSON holds; either half alone is a partial answer.

    Raises:
        NoAnswerError: it holds neither.
    """
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], Mapping):
        data = data[0]
    reason, time = NO_TUBE, None
    if isinstance(data, Mapping):
        try:
            spans = spans_of({key: value for key, value in data.items() if key not in ("answer", "result")})
            time = spans[0] if len(spans) == 1 else None
            reason = NO_TUBE if len(spans) == 1 else SEVERAL
        except NoAnswerError as error:
            reason = NO_TUBE if str(error) in (NO_SPAN, ONE_TIME) else str(error)
        for name in ("answer", "result"):
            if time is None and isinstance(inner := data.get(name), Mapping) and inner is not data:
                return tube_of({key: value for key, value in inner.items() if key not in ("answer", "result")})
    boxes = _boxes_in(data)
    if time is None and not boxes:
        raise NoAnswerError(reason)
    return Tube(time, boxes)


def track_of(data: Any) -> Tube:
    """The boxes by second that JSON holds.

    Raises:
        NoAnswerError: it holds none.
    """
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], Mapping):
        data = data[0]
    boxes = _boxes_in(data)
    if not boxes:
        raise NoAnswerError(NO_TRACK)
    return Tube(None, boxes)


def read_tube(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"time": [start, end], "boxes": {"second": [x1, y1, x2, y2], ...}}``; either half alone is a partial answer.

    Understood as well: the spans that ``read_spans`` understands, seconds such as "1.0s" and "00:01", and lists of
    ``{"time": second, "bbox_2d": [x1, y1, x2, y2]}``. Words alone can state the span.
    """
    reading = read_json_answer(text, tube_of, NO_TUBE, asked_tube)
    if reading.reason == NO_TUBE and "{" not in text:
        spans = read_spans(text, options)
        if spans is not None and spans.value is not None and len(spans.value) == 1:
            return Reading(Tube(spans.value[0], {}), canonical=False)
    return reading


def read_track(text: str, options: tuple[str, ...]) -> Reading | None:
    """``{"boxes": {"second": [x1, y1, x2, y2], ...}}``; also the other boxes by second that ``read_tube`` reads."""
    return read_json_answer(text, track_of, NO_TRACK, asked_track)


def read_tube_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    return read_json_reply(text, lambda whole: read_json_answer(whole, tube_of, NO_TUBE, asked_tube), NO_TUBE)


def read_track_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    return read_json_reply(text, lambda whole: read_json_answer(whole, track_of, NO_TRACK, asked_track), NO_TRACK)
