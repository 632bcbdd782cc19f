"""Bytes that the first rank sends to each of the others, for prompts and responses of real length, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from easyvideor1.config import StageConfig
from easyvideor1.packing.balance import MicroBatchRows, rank_shares, split_rows
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.training.ranks.messages import Call
from easyvideor1.training.ranks.shares import Share, ShareSender
from easyvideor1.training.ranks.wire import packed
from easyvideor1.types import MediaPlan, MediaRef, Prompt, Turn, VisualSpan


@dataclass(frozen=True, slots=True)
class Pass:
    """A call of a step that is about turns, and its micro-batches."""

    method: str
    what: UpdateBatch | Sequence[Turn]
    micro_batches: Sequence[MicroBatchRows]

    def shares(self, groups: int) -> list[Share]:
        """Those of so many groups of ranks; a token is a unit of work."""
        parts = rank_shares(self.micro_batches, groups, lambda rows: sum(row.row_length for row in rows))
        return [Share.of(self.what, part) for part in parts]


def driver_bytes_per_sample(frames: int, response_tokens: int, group_size: int, *, ranks: int = 2) -> list[float]:
    """Bytes of the calls of a step to each of the ranks but the first, by sample with its ``group_size`` responses.

    The step has log-probs of its own, and two epochs of updates with 4 of its 16 samples each.
    """
    samples = step_samples(frames, response_tokens, group_size)
    sender, sent = ShareSender(range(1, ranks)), [0] * ranks
    for each in step_passes(samples, 4):
        head = len(packed(Call(each.method, (), {}, passes=True, cached_features=False, seed=1)))
        for rank, data in sender.pack(each.shares(ranks)):
            sent[rank] += head + len(data)
    return [found / len(samples) for found in sent[1:]]


def step_samples(frames: int, response_tokens: int, group_size: int, count: int = 16) -> list[list[Turn]]:
    """Samples with a video each. Responses of one have half of ``response_tokens``, those of another one and a half
    times as many: so a sample goes to one rank for its log-probs and may go to another one for the update."""
    lengths = [round(response_tokens * (0.5 + n / (count - 1))) for n in range(count)]
    np.random.default_rng(0).shuffle(lengths)
    return [turns_of(video_prompt(n + 1, frames), [length] * group_size, n + 1) for n, length in enumerate(lengths)]


def step_passes(samples: Sequence[Sequence[Turn]], mini_batch: int) -> Iterator[Pass]:
    """A step with log-probs of its own and two epochs of updates, of so many samples each."""
    turns = [turn for sample in samples for turn in sample]
    lengths = [len(turn.response_ids) for turn in turns]
    noise = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(0))
    before = torch.split(noise, lengths)
    yield Pass("logprobs", turns, _plan(turns))
    for _ in range(2):
        end = 0
        for start in range(0, len(samples), mini_batch):
            size = sum(map(len, samples[start : start + mini_batch]))
            part = slice(end, end := end + size)
            options, advantages = StageConfig(name="grpo"), torch.linspace(-1, 1, size)
            batch = UpdateBatch.of(turns[part], advantages, options, rollout_logprobs=before[part])
            yield Pass("forward_backward", batch, _plan(turns[part]))


def _plan(turns: Sequence[Turn]) -> list[MicroBatchRows]:
    """Micro-batches of a sample each."""
    rows = pack_turns(turns, share_prefix=True)
    return split_rows(rows, max(row.row_length for row in rows))


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
