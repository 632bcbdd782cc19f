"""Samples, prompts and an engine of known answers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from answering import AnsweringEngine
from easyvideor1.engines.engine import Request
from easyvideor1.rollout.strategies import PromptBuilder, SingleTurn
from easyvideor1.types import (
    Completion,
    FinishReason,
    MediaError,
    MediaPlan,
    MediaRef,
    Prompt,
    Sample,
    Score,
    Trajectory,
    Turn,
)


def make_sample(number: int, task: str = "multiple_choice", answer: str = "A", video: str | None = None) -> Sample:
    path = video or f"clip_{number}.mp4"
    return Sample(
        id=f"q{number}",
        question=f"<video>Question {number}?",
        task=task,
        answer=answer,
        media=(MediaRef("video", path),),
        options=("A. red", "B. blue") if task == "multiple_choice" else (),
    )


def make_plan(digest: str, frames: int = 8, side: int = 64) -> MediaPlan:
    return MediaPlan(
        kind="video",
        fingerprint=f"f-{digest}",
        frame_indices=tuple(range(frames)),
        timestamps=tuple(i / 4 for i in range(frames)),
        height=side,
        width=side,
        grid=(frames // 2, side // 16, side // 16),
        tokens=frames // 2 * (side // 32) ** 2,
        source_fps=4.0,
        sample_fps=4.0,
        digest=digest,
    )


def render(sample: Sample) -> Prompt:
    """The sample's number is its prompt; ``broken`` clips cannot be planned."""
    if any("broken" in ref.path for ref in sample.media):
        raise MediaError(f"{sample.media[0].path}: no video stream", path=sample.media[0].path)
    plans = tuple(make_plan(ref.path.replace(".mp4", "")) for ref in sample.media)
    return Prompt(np.array([int(sample.id[1:])], np.int64), media=sample.media, plans=plans, text=sample.question)


#: One turn with these prompts; what else a strategy may use is not there.
ASKING = SingleTurn(PromptBuilder(render, None, None))  # type: ignore[arg-type]


def letter_score(sample: Sample, completion: Completion) -> Score:
    """1 for the reference letter; a reference of ``?`` cannot be judged."""
    if sample.answer == "?":
        return Score(0.0, 0.0, 0.0, applicable=False, reason="no reference")
    response = completion.text
    right = float(response.strip() == sample.answer)
    return Score(right, 1.0, 0.9 * right + 0.1, parts={"letter": right}, parsed=response.strip())


class TableEngine(AnsweringEngine):
    """An engine whose knowledge is a table: question number -> greedy answer.

    Sampled answers are the greedy one or ``Z``, drawn from the request's own seed, as an engine must.
    ``unreadable`` are numbers of questions whose frames cannot be read at generation time.
    """

    def __init__(self, table: Mapping[int, str], unreadable: Sequence[int] = ()) -> None:
        super().__init__()
        self.table = dict(table)
        self.unreadable = set(unreadable)
        self.batches: list[list[Request]] = []

    def answer(self, request: Request) -> Sequence[Trajectory]:
        if int(request.prompt.token_ids[0]) in self.unreadable:
            raise MediaError(f"{request.prompt.media[0].path}: truncated", reason="truncated")
        return self._answers(request)

    def submit(self, requests: Sequence[Request]) -> list[int]:
        self.batches.append(list(requests))
        return super().submit(requests)

    def _answers(self, request: Request) -> list[Trajectory]:
        known = self.table[int(request.prompt.token_ids[0])]
        rng = np.random.default_rng(request.seed)
        texts = [known if request.sampling.greedy or rng.random() < 0.5 else "Z" for _ in range(request.n)]
        return [self._trajectory(request, text) for text in texts]

    @staticmethod
    def _trajectory(request: Request, text: str) -> Trajectory:
        ids = np.array([7] * min(3, request.sampling.max_new_tokens), np.int64)
        finish: FinishReason = "stop" if len(ids) == 3 else "length"
        return Trajectory((Turn(request.prompt, ids, np.ones(len(ids), bool), None, finish, text),))
