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
from easyvideor1.rewards.types import ColumnError
from easyvideor1.types import ConfigError
from easyvideor1.viewer.colouring import COLOURS, Piece, coloured, plain_pieces
from easyvideor1.viewer.library import run_config, setting
from easyvideor1.viewer.overlay import Layer, Overlay, overlays
from easyvideor1.viewer.token_text import NO_TOKENIZER, text_of, tokenizer_of

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
    """Everything that the page of a group shows; ``parts`` are the names of the parts of its rewards."""

    record: SampleRecord
    replies: tuple[Reply, ...]
    parts: tuple[str, ...]
    bar: TimeBar | None
    drawings: tuple[tuple[Overlay, ...], ...]
    notes: tuple[str, ...]
    colours: tuple[str, ...]
    colour: str


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
    replies = tuple(
        _reply(record, place, each, tokenizer, colour, grammar) for place, each in enumerate(record.trajectories)
    )
    lanes = [("reference", "truth", truth)]
    lanes += [
        (f"response {reply.place + 1}", reply.colour, marks) for reply, marks in zip(replies, answers, strict=True)
    ]
    notes += dict.fromkeys(marks.note for _, _, marks in lanes if marks.note)
    return GroupView(
        record=record,
        replies=replies,
        parts=tuple(dict.fromkeys(name for reply in replies for name in reply.parts)),
        bar=time_bar(record, [(name, css, marks) for name, css, marks in lanes if marks.spans or css == "truth"]),
        drawings=_drawings(record, truth, answers),
        notes=tuple(notes),
        colours=tuple(COLOURS) if turns else (),
        colour=colour if turns and tokenizer is not None else "",
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


def _reply(
    record: SampleRecord, place: int, response: TrajectoryRecord, tokenizer: Any, colour: str, grammar: Grammar
) -> Reply:
    answer = answer_read(record, response, grammar) if response.score.parsed else None
    span = None
    if answer is not None and response.response.startswith(answer.text, answer.start):
        span = (answer.start, answer.start + len(answer.text))
    notes: list[str] = []
    pieces = None
    if colour and tokenizer is not None and response.turns:
        pieces = coloured(tokenizer, response, span)
        if pieces is None:
            notes.append("Its tokens do not give its text again, so they are not coloured.")
    versions = [turn.versions[turn.versions >= 0] for turn in response.turns if turn.versions is not None]
    known = [int(one) for each in versions for one in (each.min(initial=1 << 60), each.max(initial=-1)) if len(each)]
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


def _drawings(record: SampleRecord, truth: Marks, answers: Sequence[Marks]) -> tuple[tuple[Overlay, ...], ...]:
    """The drawings over the frames of each medium, one per frame."""
    layers = [Layer("truth", "ref", truth)]
    layers += [
        Layer(f"s{place % _COLOURS} r{place}", str(place + 1), marks, place) for place, marks in enumerate(answers)
    ]
    return tuple(
        overlays(layers, item.timestamps if item.kind == "video" else (None,), item.width, item.height)
        for item in record.media
    )
