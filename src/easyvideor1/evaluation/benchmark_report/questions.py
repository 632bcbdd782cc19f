"""The question browser: a bounded choice of questions, each with the frames, the answers and what was made of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from easyvideor1.benchmarks.metrics import Answered
from easyvideor1.evaluation.benchmark_report.drawing import (
    Marks,
    TimeBar,
    answer_marks,
    box_overlay,
    reference_marks,
    time_bar,
)
from easyvideor1.evaluation.benchmark_report.tables import failure_of
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.gallery import FrameLookup, Strip, strips
from easyvideor1.evaluation.templating import clean
from easyvideor1.records.trajectories import MediaRecord, SampleRecord
from easyvideor1.rewards.readers.geometry import Scale, declared_scale
from easyvideor1.rewards.tags import ANSWER, Grammar, grammar_of
from easyvideor1.rewards.types import ColumnError
from easyvideor1.types import ConfigError

#: Groups of the browser, in order, and what they hold.
KINDS: Mapping[str, str] = {
    "flipped": "right from one model and wrong from another",
    "wrong": "wrong from every model",
    "right": "right from every model",
    "failed": "without a score from at least one model",
    "longest": "with the longest answers",
}
#: Base64 characters of pictures that a page holds at most.
PICTURES = 16 * 2**20
#: Models whose answers a question shows.
ANSWERS = 8
_LARGE, _SMALL = 200, 128  # heights of frames in pixels, with and without boxes
_HEAD, _TAIL = 1500, 1000  # characters of a long text that are shown
_RIGHT = 0.5
#: A medium on a line of its own, which goes onto the line of the text.
_PLACEHOLDER = re.compile(r"(<(?:video|image)>)\n+")


@dataclass(frozen=True, slots=True)
class Asked:
    """The records of one result on its benchmark; ``colour`` is the CSS class of its model."""

    label: str
    colour: str
    certificate: Certificate
    records: Sequence[SampleRecord]


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a model or a row: its head, and where it is long, how many characters are left out before its tail."""

    head: str
    omitted: int = 0
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame with the boxes over it; ``seconds`` is ``None`` for an image."""

    uri: str
    seconds: float | None
    overlay: Markup


@dataclass(frozen=True, slots=True)
class Film:
    """The frames of one medium, and the models that saw these, if others saw other frames."""

    strip: Strip
    pictures: tuple[Picture, ...]
    seen_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What one model said; ``failure`` says why there is no score.

    ``colour`` is the CSS class of its boxes and spans.
    """

    label: str
    colour: str
    text: Text
    parsed: Text
    accuracy: float | None
    failure: str
    reason: str
    tokens: int
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One question of the browser."""

    id: str
    task: str
    category: str
    question: Text
    options: tuple[Text, ...]
    reference: Text
    films: tuple[Film, ...]
    bar: TimeBar | None
    notes: tuple[str, ...]
    replies: tuple[Reply, ...]
    drawn: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """The questions of one kind: some of ``count``."""

    kind: str
    meaning: str
    count: int
    cards: tuple[Card, ...]


class Pictures:
    """Frames for cards, up to ``room`` characters of pictures; ``full`` says that some were left out."""

    def __init__(self, frames: FrameLookup, room: int = PICTURES, *, own_code: bool = False) -> None:
        self._own_code = own_code
        self._frames = frames
        self._room = room
        self.taken = 0
        self.full = False

    def strips(self, media: Sequence[MediaRecord], near: Sequence[float], height: int) -> tuple[Strip, ...]:
        """The strips of a question's media; without pictures once there is no more room."""
        if self.taken >= self._room:
            self.full = True
            return tuple(_without_pictures(item) for item in media)
        found = strips(media, self._frames, near=near, height=height, own_code=self._own_code)
        self.taken += sum(len(frame.uri) for strip in found for frame in strip.thumbnails)
        return found


def _without_pictures(item: MediaRecord) -> Strip:
    why = "Left out: the pictures of this page have reached their limit."
    return Strip(item.path, item.kind, len(item.timestamps), item.width, item.height, (), why)


def browse(asked: Sequence[Asked], category: str, pictures: Pictures, per_kind: int) -> tuple[Shelf, ...]:
    """The browser of one benchmark.

    Args:
        asked: its results; at least one. The first ``ANSWERS`` are shown.
        category: the facet whose values take turns among the chosen questions; empty for the task.
        pictures: where frames come from.
        per_kind: questions of each kind.
    """
    asked = asked[:ANSWERS]
    rows = _aligned(asked)
    sorted_out: dict[str, list[list[SampleRecord | None]]] = {kind: [] for kind in KINDS}
    for row in rows:
        sorted_out[_kind(row)].append(row)
    answered = [row for row in rows if any(record and record.greedy for record in row)]
    sorted_out["longest"] = sorted(answered, key=_length, reverse=True)
    shelves = []
    for kind, meaning in KINDS.items():
        of_kind = sorted_out[kind]
        chosen = of_kind[:per_kind] if kind == "longest" else _in_turn(of_kind, category, per_kind)
        cards = tuple(_card(row, asked, category, pictures) for row in chosen)
        if cards:
            meaning = meaning if len(asked) > 1 or kind == "longest" else ""  # the kind says it all of one model
            shelves.append(Shelf(kind, meaning, len(of_kind), cards))
    return tuple(shelves)


def _aligned(asked: Sequence[Asked]) -> list[list[SampleRecord | None]]:
    """The records of every question, one place for each result; ``None`` where a result does not have it.

    Questions are the same by id and text; where several are (sources merged by the user), by order of appearance.
    """
    rows: dict[tuple[str, str, int], list[SampleRecord | None]] = {}
    for place, one in enumerate(asked):
        seen: dict[tuple[str, str], int] = {}
        for record in one.records:
            key = (record.sample, record.question)
            seen[key] = seen.get(key, 0) + 1
            rows.setdefault((*key, seen[key]), [None] * len(asked))[place] = record
    return list(rows.values())


def _kind(row: Sequence[SampleRecord | None]) -> str:
    known = [Answered(record, record.greedy) for record in row if record is not None]
    if any(each.failed for each in known):
        return "failed"
    right = {each.accuracy >= _RIGHT for each in known}
    return "flipped" if len(right) > 1 else "right" if True in right else "wrong"


def _length(row: Sequence[SampleRecord | None]) -> int:
    return max(len(record.greedy.response) for record in row if record is not None and record.greedy is not None)


def _first(row: Sequence[SampleRecord | None]) -> SampleRecord:
    """The record that shows a question: one whose media were seen, because a failed one has no frames."""
    known = [record for record in row if record is not None]
    return next((record for record in known if record.seen), known[0])


def _in_turn(rows: Sequence[list[SampleRecord | None]], category: str, count: int) -> list[list[SampleRecord | None]]:
    """Rows in an order without a meaning, such that categories take turns."""

    def order(row: Sequence[SampleRecord | None]) -> str:
        return hashlib.sha256(_first(row).sample.encode(errors="replace")).hexdigest()

    turns: dict[str, int] = {}
    placed: list[tuple[int, int, list[SampleRecord | None]]] = []
    for row in sorted(rows, key=order):
        name = _category(_first(row), category)
        turns[name] = turns.get(name, 0) + 1
        placed.append((turns[name], len(placed), row))
    return [row for _, _, row in sorted(placed, key=lambda each: each[:2])[:count]]


def _category(record: SampleRecord, name: str) -> str:
    return Answered(record, record.greedy).facet(name or "task")


def _card(row: Sequence[SampleRecord | None], asked: Sequence[Asked], category: str, pictures: Pictures) -> Card:
    shown = _first(row)
    declared = [_scale(one.certificate) for one in asked]
    reference = reference_marks(shown, next((scale for scale in declared if scale), None))
    answers = [
        (one.label, one.colour, _marks_of(record, one, scale))
        for record, one, scale in zip(row, asked, declared, strict=True)
        if record is not None
    ]
    lanes = [("reference", "truth", reference), *answers]
    notes = dict.fromkeys(marks.note for _, _, marks in lanes if marks.note)
    boxed = any(marks.boxes or marks.timed for _, _, marks in lanes)
    return Card(
        id=clean(shown.sample),
        task=shown.task,
        category=clean(_category(shown, category)) if category else "",
        question=_text(_PLACEHOLDER.sub(r"\1 ", shown.question)),
        options=tuple(_text(option) for option in shown.options[:30]),
        reference=_text(shown.answer),
        films=_films(row, asked, lanes, boxed, pictures),
        bar=time_bar(shown, lanes),
        notes=tuple(notes),
        replies=tuple(_reply(record, one) for record, one in zip(row, asked, strict=True)),
        drawn=boxed or any(marks.spans for _, _, marks in lanes),
    )


def _films(
    row: Sequence[SampleRecord | None],
    asked: Sequence[Asked],
    lanes: Sequence[tuple[str, str, Marks]],
    boxed: bool,
    pictures: Pictures,
) -> tuple[Film, ...]:
    """The frames that models saw; at most two sets, where models saw different ones."""
    seen: dict[tuple[MediaRecord, ...], list[str]] = {}
    for record, one in zip(row, asked, strict=True):
        if record is not None and record.seen:
            seen.setdefault(record.media, []).append(one.label)
    near = sorted({second for _, _, marks in lanes for second in marks.timed})
    films = []
    for media, names in list(seen.items())[:2]:
        for strip in pictures.strips(media, near, _LARGE if boxed else _SMALL):
            drawn = tuple(
                Picture(
                    frame.uri,
                    frame.seconds,
                    box_overlay([(colour, marks.at(frame.seconds)) for _, colour, marks in reversed(lanes)]),
                )
                for frame in strip.thumbnails
            )
            films.append(Film(strip, drawn, tuple(names) if len(seen) > 1 else ()))
    return tuple(films)


def _marks_of(record: SampleRecord, one: Asked, scale: Scale | None) -> Marks:
    return answer_marks(record, record.greedy, scale, _grammar(one.certificate))


def _reply(record: SampleRecord | None, one: Asked) -> Reply:
    response = None if record is None else record.greedy
    if record is None or response is None:
        why = "this result does not have the question" if record is None else failure_of(Answered(record, None))
        return Reply(one.label, one.colour, Text(""), Text(""), None, clean(why), "", 0, False)
    answered = Answered(record, response)
    return Reply(
        label=one.label,
        colour=one.colour,
        text=_text(response.response),
        parsed=_text(response.score.parsed),
        accuracy=None if answered.failed else response.score.accuracy,
        failure=clean(failure_of(answered)) if answered.failed else "",
        reason=clean(response.score.reason),
        tokens=response.tokens,
        cut_off=response.finish == "length",
    )


def _text(text: str) -> Text:
    text = clean(text)
    if len(text) <= _HEAD + _TAIL + 200:
        return Text(text)
    return Text(text[:_HEAD], len(text) - _HEAD - _TAIL, text[-_TAIL:])


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """The first setting of a name, however deep it is; ``None`` if there is none."""
    if name in settings:
        return settings[name]
    inner = (_setting(value, name) for value in settings.values() if isinstance(value, Mapping))
    return next((value for value in inner if value is not None), None)


def _scale(certificate: Certificate) -> Scale | None:
    try:
        return declared_scale({"coordinates": _setting(certificate.scoring, "coordinates")})
    except ColumnError:
        return None


def _grammar(certificate: Certificate) -> Grammar:
    """The tags that the responses were scored by."""
    try:
        return grammar_of(_setting(certificate.scoring, "grammar") or "answer")
    except ConfigError:
        return ANSWER
