"""One group as its page shows it: what the model saw, and its responses side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.benchmark_report.drawing import (
    Marks,
    TimeBar,
    answer_marks,
    answer_read,
    reference_marks,
    time_bar,
)
from easyvideor1.evaluation.templating import clean
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.rewards.readers.geometry import Scale, declared_scale
from easyvideor1.rewards.tags import ANSWER, Grammar, grammar_of
from easyvideor1.rewards.types import Answer, ColumnError
from easyvideor1.types import ConfigError
from easyvideor1.viewer.colouring import COLOURS, Piece, coloured, plain_pieces
from easyvideor1.viewer.library import run_config, setting
from easyvideor1.viewer.overlay import Layer, Overlay, overlays
from easyvideor1.viewer.token_text import NO_TOKENIZER, text_of, tokenizer_of

#: Why places are left out where a question has several pictures.
_WHICH = (
    "Places that are pointed at are not drawn: the question has several media, and no row says which one they lie on."
)
#: Series colours that responses take in turn.
_COLOURS = 8


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a conversation: ``role`` is ``prompt`` or ``response``."""

    role: str
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One response. ``pieces`` are its text, cut where its answer, or a token, begins and ends.

    ``located`` says whether the answer that was scored is marked in it. ``weights`` are the versions of the weights
    that drew its tokens, the first and the last.
    """

    place: int
    record: TrajectoryRecord
    colour: str
    pieces: tuple[Piece, ...]
    located: bool
    parts: Mapping[str, float]
    conversation: tuple[Said, ...]
    weights: tuple[int, int] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupView:
    """Everything that the page of a group shows; ``parts`` are the names of the parts of its rewards.

    ``newest`` is the latest version of the weights that drew any of its tokens; ``None`` if it is not known.
    """

    record: SampleRecord
    replies: tuple[Reply, ...]
    parts: tuple[str, ...]
    bar: TimeBar | None
    drawings: tuple[tuple[Overlay, ...], ...]
    notes: tuple[str, ...]
    colours: tuple[str, ...]
    colour: str
    newest: int | None


def group_view(run: Path, record: SampleRecord, colour: str = "", fault: str = "") -> GroupView:
    """The view of a record.

    Args:
        run: the directory that says how it was scored, and has the tokenizer.
        record: with the arrays of its turns, where they were kept.
        colour: what colours the tokens: a key of ``COLOURS``, or empty.
        fault: why there are no arrays; empty if nothing is wrong.
    """
    grammar, scale = _scoring(run)
    turns = any(trajectory.turns for trajectory in record.trajectories)
    needs_text = bool(colour) or any(len(trajectory.turns) > 1 for trajectory in record.trajectories)
    tokenizer = tokenizer_of(run) if turns and needs_text else None
    notes = [fault] if fault else []
    if turns and needs_text and tokenizer is None:
        notes.append(NO_TOKENIZER)
    if colour and not turns and not fault:
        notes.append("No arrays of tokens were kept beside this step, so there is nothing to colour tokens by.")
    truth = reference_marks(record, scale)
    answers = [answer_marks(record, each, scale, grammar) for each in record.trajectories]
    newest = max((version for each in record.trajectories for version in _versions(each)), default=None)
    replies = tuple(
        _reply(record.trajectories[place], place, answer, tokenizer, colour, newest)
        for place, answer in enumerate(
            answer_read(record, each, grammar) if each.score.parsed else None for each in record.trajectories
        )
    )
    lanes = [("reference", "truth", truth)]
    lanes += [
        (f"response {reply.place + 1}", reply.colour, marks) for reply, marks in zip(replies, answers, strict=True)
    ]
    notes += dict.fromkeys(marks.note for _, _, marks in lanes if marks.note)
    if any(_media_of(record, marks) is None for _, _, marks in lanes):
        notes.append(_WHICH)
    return GroupView(
        record=record,
        replies=replies,
        parts=tuple(dict.fromkeys(name for reply in replies for name in reply.parts)),
        bar=time_bar(record, [(name, css, marks) for name, css, marks in lanes if marks.spans or css == "truth"]),
        drawings=_drawings(record, truth, answers),
        notes=tuple(notes),
        colours=tuple(COLOURS) if turns else (),
        colour=colour if turns and tokenizer is not None else "",
        newest=newest,
    )


def _scoring(run: Path) -> tuple[Grammar, Scale | None]:
    """The tags and the scale of boxes that the responses were scored by; the usual ones where they cannot be read."""
    config = run_config(run)
    named = setting(config, "rewards", "grammar") or "answer"
    blocks = tuple(tuple(one) if isinstance(one, list) else one for one in named) if isinstance(named, list) else named
    try:
        grammar = grammar_of(blocks)
    except (ConfigError, TypeError):
        grammar = ANSWER
    try:
        return grammar, declared_scale({"coordinates": setting(config, "rewards", "coordinates")})
    except ColumnError:
        return grammar, None


def _versions(response: TrajectoryRecord) -> list[int]:
    """The versions of the weights that drew its tokens, the first and the last of each turn."""
    found = [turn.versions[turn.versions >= 0] for turn in response.turns if turn.versions is not None]
    return [int(one) for each in found if len(each) for one in (each.min(), each.max())]


def _reply(
    response: TrajectoryRecord, place: int, answer: Answer | None, tokenizer: Any, colour: str, newest: int | None
) -> Reply:
    span = None
    if answer is not None and response.response.startswith(answer.text, answer.start):
        span = (answer.start, answer.start + len(answer.text))
    notes: list[str] = []
    pieces = None
    if colour and tokenizer is not None and response.turns:
        pieces = coloured(tokenizer, response, span, newest or 0)
        if pieces is None:
            notes.append("Its tokens do not give its text again, so they are not coloured.")
    known = _versions(response)
    return Reply(
        place=place,
        record=response,
        colour=f"s{place % _COLOURS}",
        pieces=tuple(pieces if pieces is not None else plain_pieces(response.response, span)),
        located=span is not None,
        parts=response.score.parts,
        conversation=_conversation(response, tokenizer),
        weights=(min(known), max(known)) if known else None,
        notes=tuple(notes),
    )


def _conversation(response: TrajectoryRecord, tokenizer: Any) -> tuple[Said, ...]:
    """The messages of a trajectory of several turns; of others none. Of a prompt that continues the turn before only
    what it adds is shown."""
    turns = response.turns
    if len(turns) < 2 or tokenizer is None:
        return tuple(Said("response", at, clean(text)) for at, text in enumerate(response.responses, 1))
    said: list[Said] = []
    told: list[int] = []
    for number, turn in enumerate(turns, 1):
        ids, own = turn.prompt_ids.tolist(), turn.response_ids.tolist()
        added = ids[len(told) :] if told and ids[: len(told)] == told else ids
        said.append(Said("prompt", number, clean(text_of(tokenizer, added))))
        said.append(Said("response", number, clean(text_of(tokenizer, own))))
        told = [*ids, *own]
    return tuple(said)


def _media_of(record: SampleRecord, marks: Marks) -> list[int] | None:
    """The media, by their places, that marks lie on; ``None`` where that is not known. Marks with a time are of the
    video. Several entries of one file, without effects, are one medium in parts."""
    if not (marks.boxes or marks.timed or marks.dots):
        return []
    timed = bool(marks.timed) or marks.dotted is not None
    found = [place for place, item in enumerate(record.media) if item.kind == "video" or not timed]
    media = [record.media[place] for place in found]
    same = len(media) <= 1 or (len({item.path for item in media}) == 1 and not any(item.effects for item in media))
    return found if same else None


def _drawings(record: SampleRecord, truth: Marks, answers: Sequence[Marks]) -> tuple[tuple[Overlay, ...], ...]:
    """The drawings over the frames of each medium, one per frame."""
    layers = [Layer("truth", "ref", truth)]
    layers += [
        Layer(f"s{place % _COLOURS} r{place}", str(place + 1), marks, place) for place, marks in enumerate(answers)
    ]
    lie = [_media_of(record, layer.marks) or [] for layer in layers]
    return tuple(
        overlays(
            [layer for layer, places in zip(layers, lie, strict=True) if place in places],
            item.timestamps if item.kind == "video" else (None,),
            item.width,
            item.height,
        )
        for place, item in enumerate(record.media)
    )
