"""Bytes that the first rank sends to each of the others, for prompts and responses of real length, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from easyvideor1.config import StageConfig
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.training.ranks.messages import Call
from easyvideor1.training.ranks.wire import Sender
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Turn, VisualSpan


def driver_bytes_per_sample(frames: int, response_tokens: int, group_size: int, *, samples: int = 2) -> float:
    """Bytes of the calls of a step (``step_calls``), by sample with its ``group_size`` responses."""
    groups = [turns_of(video_prompt(n + 1, frames), [response_tokens] * group_size, n + 1) for n in range(samples)]
    sender = Sender()
    return sum(len(sender.pack(each)) for each in step_calls(groups)) / samples


def step_calls(groups: Sequence[Sequence[Turn]]) -> Iterator[Call]:
    """The calls of a step with log-probs of its own and two epochs of updates, one of each group."""
    turns = [turn for group in groups for turn in group]
    lengths = [len(turn.response_ids) for turn in turns]
    noise = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(0))
    before = torch.split(noise, lengths)
    yield call("logprobs", turns, None)
    for _ in range(2):
        begin = 0
        for group in groups:
            part = slice(begin, begin := begin + len(group))
            advantages = torch.linspace(-1, 1, len(group))
            options = StageConfig(name="grpo")
            yield call(
                "forward_backward",
                UpdateBatch.of(turns[part], advantages, options, rollout_logprobs=before[part]),
                None,
            )
            yield call("optimizer_step", 1)


def call(method: str, *arguments: Any) -> Call:
    """A call about turns."""
    return Call(method, arguments, {}, True, False, 1)


def video_prompt(seed: int, frames: int = 256, tokens_per_step: int = 128) -> Prompt:
    """A question about a video of ``frames`` frames: a span of visual tokens behind every time."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.4, 0.6, frames))
    ids, spans = list(rng.integers(0, 150_000, 60)), []
    for _ in range(frames // 2):
        ids += [*rng.integers(0, 150_000, 7)]
        spans.append(VisualSpan(0, len(ids), tokens_per_step))
        ids += [151_656] * tokens_per_step
    ids += list(rng.integers(0, 150_000, 60))
    plan = MediaPlan(
        "video",
        f"{seed:064x}",
        tuple(range(0, 12 * frames, 12)),
        tuple(times.tolist()),
        *(448, 256),
        (frames // 2, 28, 16),
        frames // 2 * tokens_per_step,
        *(30.0, 2.0),
        f"{seed + 1:064x}",
    )
    media = (MediaRef("video", f"/data/videos/{seed:012x}.mp4"),)
    return Prompt(np.array(ids, dtype=np.int64), media, (plan,), tuple(spans), "What happens in it? " * 20)


def turns_of(prompt: Prompt, lengths: Sequence[int], seed: int = 0) -> list[Turn]:
    """Responses to a prompt; their ids and log-probs hardly compress."""
    rng = np.random.default_rng(seed)
    return [
        Turn(
            prompt,
            rng.integers(0, 150_000, length),
            np.ones(length, dtype=bool),
            -rng.exponential(0.5, length).astype(np.float32),
            "stop",
            "words " * length,
            np.full(length, 7),
        )
        for length in lengths
    ]
