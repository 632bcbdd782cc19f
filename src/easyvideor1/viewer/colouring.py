"""A response as pieces of text: its answer marked, its tokens coloured by what was kept of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from easyvideor1.records.trajectories import TrajectoryRecord
from easyvideor1.viewer import token_text

#: What tokens can be coloured by.
COLOURS: Mapping[str, str] = {"logprob": "log-prob", "advantage": "advantage", "weights": "age of weights"}
#: What a run does not write, so that nobody looks for it.
NOT_KEPT = (
    "Entropy and importance ratio of single tokens are not kept: a run writes the log-probs that its tokens were drawn "
    "with, and not those of the trainer. Their means are among the metrics of the run."
)
#: Upper ends of the steps of colour of a negative log-prob, in nats.
_SURPRISE = (0.02, 0.1, 0.3, 0.7, 1.2, 2.0, 3.0, 5.0)
#: Upper ends of those of an advantage without its sign.
_WEIGHT = (0.05, 0.4, 0.9, 1.6)
_OLDEST = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text, the CSS classes that colour it, and what is said of it."""

    text: str
    classes: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """What was kept of one token; ``None`` where it is not known."""

    text: str
    special: bool
    trained: bool
    logprob: float | None
    advantage: float | None
    version: int | None


def plain_pieces(text: str, span: tuple[int, int] | None) -> list[Piece]:
    """A text with its answer marked."""
    if span is None or span[0] >= span[1]:
        return [Piece(text)] if text else []
    cut = (text[: span[0]], text[span[0] : span[1]], text[span[1] :])
    return [Piece(part, css) for part, css in zip(cut, ("", "answer", ""), strict=True) if part]


def coloured(
    tokenizer: Any, response: TrajectoryRecord, span: tuple[int, int] | None, newest: int
) -> list[Piece] | None:
    """The tokens of the last turn of a response; ``None`` if they do not give its text again.

    Args:
        tokenizer: of the model.
        response: with the arrays of its turns.
        span: where its answer stands in its text.
        newest: the version of the weights that the age of others is counted from.
    """
    tokens = list(_tokens(tokenizer, response))
    spoken = "".join(token.text for token in tokens if not token.special)
    if spoken.strip() != response.response.strip():
        return None
    # Engines may leave blanks at the ends out of the text.
    at = response.response.find(spoken.strip()[:40]) - spoken.find(spoken.strip()[:40]) if spoken.strip() else 0
    found = []
    for token in tokens:
        begin, end = at, at + (0 if token.special else len(token.text))
        at = end
        inside = span is not None and begin < span[1] and end > span[0]
        classes = [
            "t",
            *_classes(token, newest),
            *(["answer"] if inside else []),
            *(["special"] if token.special else []),
        ]
        found.append(Piece(token.text, " ".join(classes), _title(token)))
    return found


def _tokens(tokenizer: Any, response: TrajectoryRecord) -> Iterator[Token]:
    turn = response.turns[-1]
    texts = token_text.pieces(tokenizer, turn.response_ids.tolist())
    columns = [
        _column(values, len(texts)) for values in (turn.response_mask, turn.logprobs, turn.advantages, turn.versions)
    ]
    for piece, mask, logprob, advantage, version in zip(texts, *columns, strict=True):
        yield Token(
            piece.text,
            piece.special,
            bool(mask),
            _known(logprob),
            _known(advantage),
            None if version is None or version < 0 else int(version),
        )


def _column(values: np.ndarray[Any, Any] | None, count: int) -> Sequence[Any]:
    return [None] * count if values is None else values.tolist()


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _classes(token: Token, newest: int) -> Iterator[str]:
    if token.logprob is not None:
        yield f"l{sum(-token.logprob > limit for limit in _SURPRISE)}"
    if token.advantage is not None:
        yield f"{'n' if token.advantage < 0 else 'p'}{sum(abs(token.advantage) > limit for limit in _WEIGHT)}"
    if token.version is not None:
        yield f"w{min(_OLDEST, max(0, newest - token.version))}"
    if not token.trained:
        yield "masked"


def _title(token: Token) -> str:
    parts = [repr(token.text)] if token.special else []
    if token.logprob is not None:
        parts.append(f"log-prob {token.logprob:.4f}, probability {math.exp(min(0.0, token.logprob)):.3g}")
    if token.advantage is not None:
        parts.append(f"advantage {token.advantage:.4g}")
    if token.version is not None:
        parts.append(f"weights {token.version}")
    if not token.trained:
        parts.append("not trained on")
    return " · ".join(parts)
