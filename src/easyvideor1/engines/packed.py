"""Prompts, responses and errors in a small form that can be pickled, for engines in other processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from easyvideor1 import types
from easyvideor1.engines.engine import Sampling
from easyvideor1.types import (
    EasyVideoError,
    FinishReason,
    MediaError,
    MediaPlan,
    MediaRef,
    Prompt,
    Trajectory,
    Turn,
    VisualSpan,
)


@dataclass(frozen=True, slots=True, eq=False)
class PackedPrompt:
    """A prompt, whose token ``ids[i]`` comes ``counts[i]`` times: a span of equal visual tokens is one of them."""

    ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    media: tuple[MediaRef, ...]
    plans: tuple[MediaPlan, ...]
    spans: tuple[VisualSpan, ...]
    text: str
    opens_thinking: bool

    @classmethod
    def of(cls, prompt: Prompt) -> PackedPrompt:
        """The prompt, packed."""
        ids = prompt.token_ids
        begins = np.ones(len(ids), dtype=bool)
        for span in prompt.spans:
            inside = slice(span.start + 1, span.start + span.length)
            begins[inside] = ids[inside] != ids[span.start]
        starts = np.flatnonzero(begins)
        counts = np.diff(starts, append=len(ids))
        return cls(
            ids[starts].astype(np.int32),
            counts.astype(np.int32),
            prompt.media,
            prompt.plans,
            prompt.spans,
            prompt.text,
            prompt.opens_thinking,
        )

    def unpacked(self) -> Prompt:
        """The prompt."""
        ids = self.ids.astype(np.int64).repeat(self.counts)
        return Prompt(ids, self.media, self.plans, self.spans, self.text, self.opens_thinking)


@dataclass(frozen=True, slots=True, eq=False)
class PackedRequest:
    """A request under the trainer's ticket; ``prompt`` is the place of its prompt in ``Submit.prompts``."""

    ticket: int
    id: str
    prompt: int
    n: int
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """A turn without its prompt. ``mask`` is ``None`` if it is true everywhere."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_] | None
    logprobs: NDArray[np.float32] | None
    finish: FinishReason
    text: str
    versions: NDArray[np.int32] | None

    @classmethod
    def of(cls, trajectory: Trajectory) -> Response:
        """The one turn of an engine's trajectory."""
        (turn,) = trajectory.turns
        return cls.of_turn(turn)

    @classmethod
    def of_turn(cls, turn: Turn) -> Response:
        """Any turn."""
        return cls(
            turn.response_ids.astype(np.int32),
            None if turn.response_mask.all() else turn.response_mask,
            turn.logprobs,
            turn.finish,
            turn.text,
            None if turn.versions is None else turn.versions.astype(np.int32),
        )

    def trajectory(self, prompt: Prompt) -> Trajectory:
        """The trajectory of that turn alone."""
        return Trajectory((self.turn(prompt),))

    def turn(self, prompt: Prompt) -> Turn:
        """That turn."""
        return Turn(
            prompt,
            self.ids.astype(np.int64),
            np.ones(len(self.ids), dtype=bool) if self.mask is None else self.mask,
            self.logprobs,
            self.finish,
            self.text,
            None if self.versions is None else self.versions.astype(np.int64),
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """An error for the user, as plain text, so that classes of the user's own need not be importable or picklable.

    ``kind`` is the name of the nearest class in ``easyvideor1.types``.
    """

    kind: str
    message: str
    path: str = ""
    reason: str = ""

    @classmethod
    def of(cls, error: EasyVideoError) -> Fault:
        """The fault of an error."""
        kind = next(each.__name__ for each in type(error).__mro__ if getattr(types, each.__name__, None) is each)
        if isinstance(error, MediaError):
            return cls(kind, str(error), error.path, error.reason)
        return cls(kind, str(error))

    def error(self) -> EasyVideoError:
        """The error again."""
        if self.kind == "MediaError":
            return MediaError(self.message, path=self.path, reason=self.reason)
        error: EasyVideoError = getattr(types, self.kind)(self.message)
        return error
