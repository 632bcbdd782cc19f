"""What answers and references point at: boxes on frames, spans on a bar of time.

An answer is drawn as it was scored: it is read again from the response by the parser of the rewards, and left out where
that does not give what the record says was parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from easyvideor1.evaluation.charts import nice_ticks
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.rewards.extraction import parse
from easyvideor1.rewards.readers.boxes import TokenBoxes
from easyvideor1.rewards.readers.geometry import Box, Scale, Size, Span, declared_scale, factors, number, picture_size
from easyvideor1.rewards.readers.tubes import Tube
from easyvideor1.rewards.references import AnyOf, read_reference
from easyvideor1.rewards.score import shown
from easyvideor1.rewards.tags import Grammar
from easyvideor1.rewards.tasks.segmentation import Prompts
from easyvideor1.rewards.types import Answer, ColumnError
from easyvideor1.types import Completion, DataError

#: Tasks whose answers are places.
DRAWN = ("temporal_grounding", "spatial_grounding", "spatial_temporal_grounding", "tracking", "segmentation")
NO_SCALE = "The scale of the boxes is not recorded, so they are not drawn."
NO_SIZE = "The boxes are in pixels and the size of the picture is not recorded, so they are not drawn."
#: A box belongs to the frames at most this many seconds from its own second.
_NEAR = 0.51
_MOST = 64


@dataclass(frozen=True, slots=True)
class Dot:
    """A point on an object, or beside it."""

    x: float
    y: float
    inside: bool


@dataclass(frozen=True, slots=True)
class Marks:
    """Places in a video: ``spans`` in seconds, ``boxes`` on every frame, ``timed`` boxes by second.

    Coordinates are shares of the picture's width and height. ``dots`` are on every frame, or on those around the second
    ``dotted``. ``note`` says why boxes are not drawn.
    """

    spans: tuple[Span, ...] = ()
    boxes: tuple[Box, ...] = ()
    timed: Mapping[float, Box] = field(default_factory=dict)
    note: str = ""
    dots: tuple[Dot, ...] = ()
    dotted: float | None = None

    def at(self, seconds: float | None) -> tuple[Box, ...]:
        """The boxes of a frame; those by second are of the frames around their second."""
        near = [] if seconds is None else sorted((abs(second - seconds), second) for second in self.timed)
        return (*self.boxes, *((self.timed[near[0][1]],) if near and near[0][0] <= _NEAR else ()))

    def dots_at(self, seconds: float | None) -> tuple[Dot, ...]:
        """The dots of a frame."""
        there = self.dotted is None or (seconds is not None and abs(self.dotted - seconds) <= _NEAR)
        return self.dots if there else ()


def reference_marks(record: SampleRecord, declared: Scale | None) -> Marks:
    """The places of a reference; empty where its task has none or it cannot be read.

    Args:
        record: the question.
        declared: the scale of boxes that the scorer was configured with; ``None`` if it was not.
    """
    if record.task not in DRAWN:
        return Marks()
    try:
        value = read_reference(record.task, record.answer, record.options)
    except DataError:
        return Marks()
    return _marks(value.values[0] if isinstance(value, AnyOf) else value, record, _stated(record) or declared)


def answer_marks(
    record: SampleRecord, response: TrajectoryRecord | None, declared: Scale | None, grammar: Grammar
) -> Marks:
    """The places of a response, as it was scored; empty where it has none."""
    if response is None or record.task not in DRAWN or not response.score.parsed:
        return Marks()
    answer = answer_read(record, response, grammar)
    return Marks() if answer is None else _marks(answer.value, record, declared or _stated(record))


def answer_read(record: SampleRecord, response: TrajectoryRecord, grammar: Grammar) -> Answer | None:
    """The answer of a response, read as it was when it was scored; ``None`` where that gives something else."""
    for thinking in (False, True):
        completion = Completion(response.response, response.finish, thinking)
        answer = parse(record.task, completion, record.options, grammar)
        if answer.value is not None and shown(answer) == response.score.parsed:
            return answer
    return None


def _stated(record: SampleRecord) -> Scale | None:
    try:
        return declared_scale(record.measures)
    except ColumnError:
        return None


def _marks(value: Any, record: SampleRecord, scale: Scale | None) -> Marks:
    if isinstance(value, TokenBoxes):
        value, scale = value.boxes, "thousand"
    if record.task == "temporal_grounding":
        return Marks(spans=tuple(value[:_MOST]))
    if isinstance(value, Prompts):
        return _prompt_marks(value, record, scale)
    boxes = value.boxes.values() if isinstance(value, Tube) else value
    by, note = _to_shares([box for box in boxes if box is not None], record, scale)
    spans = (value.time,) if isinstance(value, Tube) and value.time is not None else ()
    if by is None:
        return Marks(spans, note=note)
    if isinstance(value, Tube):
        timed = {second: _shares(box, by) for second, box in value.boxes.items() if box is not None}
        return Marks(spans, timed=timed)
    return Marks(boxes=tuple(_shares(box, by) for box in value[:_MOST]))


def _prompt_marks(value: Prompts, record: SampleRecord, scale: Scale | None) -> Marks:
    """Those of a segmentation: a box, points inside and outside, on the frame of its time."""
    points = [*((point, True) for point in value.positive), *((point, False) for point in value.negative)][:_MOST]
    by, note = _to_shares([value.box, *((*point, *point) for point, _ in points)], record, scale)
    if by is None:
        return Marks(note=note)
    dots = tuple(Dot(x * by[0], y * by[1], inside) for (x, y), inside in points)
    box = _shares(value.box, by)
    if value.time is None:
        return Marks(boxes=(box,), dots=dots)
    return Marks(timed={value.time: box}, dots=dots, dotted=value.time)


def _to_shares(boxes: Sequence[Box], record: SampleRecord, scale: Scale | None) -> tuple[Size | None, str]:
    """The factors that make shares of the picture of coordinates; else why there are none."""
    if scale is None:
        within = all(0 <= side <= 1 for box in boxes for side in box)
        return ((1.0, 1.0), "") if within else (None, NO_SCALE)
    try:
        by = factors(scale, "normalized", picture_size(record.measures))
    except ColumnError:
        by = None
    return by, "" if by else NO_SIZE


def _shares(box: Box, by: Size) -> Box:
    """A box as shares of the picture, cut at its edges."""
    left, top, right, bottom = (min(1.0, max(0.0, side * by[place % 2])) for place, side in enumerate(box))
    return (left, top, right, bottom)


def box_overlay(layers: Iterable[tuple[str, Sequence[Box]]]) -> Markup:
    """An SVG to lay over a frame: the boxes of each layer, whose name is the CSS class of its colour."""
    drawn = [
        f'<rect class="{escape(name)}" x="{100 * x1:.2f}" y="{100 * y1:.2f}" '
        f'width="{100 * (x2 - x1):.2f}" height="{100 * (y2 - y1):.2f}"/>'
        for name, boxes in layers
        for x1, y1, x2, y2 in boxes
    ]
    if not drawn:
        return Markup("")
    content = "".join(drawn)
    return Markup(f'<svg class="boxes" viewBox="0 0 100 100" preserveAspectRatio="none">{content}</svg>')


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of a time bar: who says it, the CSS class of its colour, the spans drawn and as text."""

    name: str
    colour: str
    svg: Markup
    text: str


@dataclass(frozen=True, slots=True)
class TimeBar:
    """Spans of the reference and of answers over the length of the video.

    ``ticks`` are ``(place in percent, label)``. ``frames`` is a drawing of the times of the frames that the model saw.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, str], ...]
    frames: Markup


def time_bar(record: SampleRecord, lanes: Sequence[tuple[str, str, Marks]]) -> TimeBar | None:
    """The bar of a question; ``None`` if nobody says a span.

    It ends with the video, or with the reference where that ends later; what answers say beyond is cut off there.

    Args:
        record: the question, with the frames that were seen.
        lanes: name, CSS class and places of the reference first, then of each answer.
    """
    if not any(marks.spans for _, _, marks in lanes):
        return None
    seen = [time for media in record.media if media.kind == "video" for time in media.timestamps]
    known = [*seen, *(end for end in [number(record.measures.get("duration"))] if end)]
    known += [side for span in lanes[0][2].spans for side in span]
    if not known:
        known = [side for _, _, marks in lanes for span in marks.spans for side in span]
    low, high = min(known), max(known)
    low = 0.0 if low < high / 2 else low
    high = high if high > low else low + 1.0

    def place(seconds: float) -> float:
        return min(100.0, max(0.0, 100 * (seconds - low) / (high - low)))

    return TimeBar(
        tuple(_lane(name, colour, marks, place) for name, colour, marks in lanes),
        tuple((place(tick), f"{tick:.6g} s") for tick in nice_ticks(low, high, 4)),
        _svg("".join(f'<path d="M{place(time):.2f} 0V100"/>' for time in seen), "seen"),
    )


def _lane(name: str, colour: str, marks: Marks, place: Any) -> Lane:
    drawn = []
    for start, end in marks.spans:
        left, right = place(start), place(end)
        left, width = min(left, 99.4), max(0.6, right - left)
        drawn.append(f'<rect class="{escape(colour)}" x="{left:.2f}" y="8" width="{width:.2f}" height="84"/>')
    text = ", ".join(f"{start:.6g}\N{EN DASH}{end:.6g} s" for start, end in marks.spans[:6])
    more = len(marks.spans) - 6
    return Lane(name, colour, _svg("".join(drawn), "span"), text + (f" and {more} more" if more > 0 else ""))


def _svg(content: str, name: str) -> Markup:
    return Markup(f'<svg class="{name}" viewBox="0 0 100 100" preserveAspectRatio="none">{content}</svg>')
