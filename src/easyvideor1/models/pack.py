"""Groups become tensors: one row per prompt, its responses behind it, each seeing the prompt and itself alone.

A group of G responses is processed as ``[prompt | r1 | ... | rG]``. A block mask keeps siblings apart and every
response continues the prompt's rotary positions, so the result equals G separate sequences while the prompt and the
vision tower are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from easyvideor1.models.family import Family, Visual
from easyvideor1.types import DataError, Frames, MediaPlan, MediaRef, Prompt, Turn

if TYPE_CHECKING:
    from easyvideor1.models.features import FeatureCache

LoadFrames = Callable[[MediaRef, MediaPlan], Frames]


@dataclass(frozen=True, slots=True)
class PackedTurns:
    """The turns of one prompt, on their way into a batch; ``sequences`` are their indices in the whole step."""

    turns: tuple[Turn, ...]
    sequences: tuple[int, ...]

    @property
    def row_length(self) -> int:
        # The last token of a response predicts nothing, so it is not fed.
        return len(self.turns[0].prompt) + sum(max(len(turn.response_ids) - 1, 0) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass over B rows of length L that hold T response tokens of N sequences.

    Response tokens are flat: entry ``i`` was predicted at ``(predictor_rows[i], predictor_columns[i])``, is token
    ``targets[i]`` and belongs to sequence ``sequence[i]`` of the whole step. ``engine_logprobs`` holds NaN where the
    engine gave none.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    visual: Visual | None
    predictor_rows: torch.Tensor
    predictor_columns: torch.Tensor
    targets: torch.Tensor
    sequence: torch.Tensor
    engine_logprobs: torch.Tensor

    def attention_mask(self) -> torch.Tensor:
        """Bool ``(B, 1, L, L)``: causal, and only within the prompt (segment 0) and the query's own segment."""
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        length = self.segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.segments.device).tril()
        # Padding is segment -1: it sees itself, so that no row of the softmax is empty.
        return (causal & ((key == query) | ((key == 0) & (query > 0))))[:, None]


def pack_turns(turns: Sequence[Turn], *, share_prefix: bool) -> list[PackedTurns]:
    """Turns that answer the same prompt object share a row; without ``share_prefix`` every turn has its own."""
    if not share_prefix:
        return [PackedTurns((turn,), (index,)) for index, turn in enumerate(turns)]
    rows: dict[int, list[int]] = {}
    for index, turn in enumerate(turns):
        rows.setdefault(id(turn.prompt), []).append(index)
    return [PackedTurns(tuple(turns[i] for i in row), tuple(row)) for row in rows.values()]


def split_rows(rows: Sequence[PackedTurns], max_tokens: int) -> list[list[PackedTurns]]:
    """Micro-batches of at most ``max_tokens`` tokens including padding; a longer row goes alone.

    Rows of similar length travel together, which keeps padding small.
    """
    batches: list[list[PackedTurns]] = []
    for row in sorted(rows, key=lambda r: (r.row_length, r.sequences)):
        if batches and row.row_length * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def load_checked(ref: MediaRef, plan: MediaPlan, load: LoadFrames) -> Frames:
    """The frames of one medium.

    Raises:
        DataError: what was loaded is not what the plan says.
    """
    loaded = load(ref, plan)
    shape = (len(plan.frame_indices), plan.height, plan.width, 3)
    if loaded.plan.digest != plan.digest or loaded.pixels.shape != shape:
        raise DataError(
            f"frames of plan {plan.digest[:12]} came as {loaded.pixels.shape} of plan {loaded.plan.digest[:12]}, "
            f"but the prompt holds {plan.tokens} visual tokens for {shape}: the frame store is damaged or "
            "was written by another version; run `evr1 cache verify`"
        )
    return loaded


def load_media(prompt: Prompt, load: LoadFrames) -> list[Frames]:
    """The frames of all media of a prompt, in its order.

    Raises:
        DataError: as ``load_checked``.
    """
    return [load_checked(ref, plan, load) for ref, plan in zip(prompt.media, prompt.plans, strict=True)]


def load_visual(
    prompts: Sequence[Prompt],
    family: Family,
    load: LoadFrames,
    *,
    features: FeatureCache | None = None,
    device: torch.device | None = None,
) -> Visual | None:
    """All media of some prompts as the model takes them; engine and trainer both read them here.

    Features where a cache of them is given, and no frames are read for those it has; else patches.

    Raises:
        DataError: as ``load_checked``.
    """
    if features is not None:
        return features.read(prompts, load)
    return family.visual_inputs([frames for prompt in prompts for frames in load_media(prompt, load)], device)


def collate(
    rows: Sequence[PackedTurns],
    family: Family,
    load: LoadFrames,
    *,
    features: FeatureCache | None = None,
    device: torch.device | None = None,
) -> Batch:
    """Tensors of a micro-batch; those of its media are on ``device``, where pixels arrive as uint8.

    Raises:
        DataError: a medium's pixels disagree with the visual tokens of its prompt (see ``load_checked``).
    """
    length = max(row.row_length for row in rows)
    input_ids = np.full((len(rows), length), family.pad_token_id, dtype=np.int64)
    positions = np.zeros((3, len(rows), length), dtype=np.int64)
    segments = np.full((len(rows), length), -1, dtype=np.int64)
    rows_T, columns_T, targets_T, sequence_T = ([np.empty(0, np.int64)] for _ in range(4))
    engine_T = [np.empty(0, np.float32)]
    for index, row in enumerate(rows):
        prompt = row.turns[0].prompt
        cursor = len(prompt)
        input_ids[index, :cursor] = prompt.token_ids
        positions[:, index, :cursor], first = family.positions(prompt)
        segments[index, :cursor] = 0
        for segment, (turn, sequence) in enumerate(zip(row.turns, row.sequences, strict=True), start=1):
            count = len(turn.response_ids)
            fed = max(count - 1, 0)
            input_ids[index, cursor : cursor + fed] = turn.response_ids[:fed]
            positions[:, index, cursor : cursor + fed] = np.arange(first, first + fed)
            segments[index, cursor : cursor + fed] = segment
            # The first token is predicted by the prompt's last one, each other by the one before it.
            columns_T.append(np.concatenate([[len(prompt) - 1], np.arange(cursor, cursor + fed)])[:count])
            rows_T.append(np.full(count, index))
            targets_T.append(turn.response_ids)
            sequence_T.append(np.full(count, sequence))
            engine_T.append(np.full(count, np.nan, np.float32) if turn.logprobs is None else turn.logprobs)
            cursor += fed
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        positions=torch.from_numpy(positions),
        segments=torch.from_numpy(segments),
        visual=load_visual([row.turns[0].prompt for row in rows], family, load, features=features, device=device),
        predictor_rows=torch.from_numpy(np.concatenate(rows_T)),
        predictor_columns=torch.from_numpy(np.concatenate(columns_T)),
        targets=torch.from_numpy(np.concatenate(targets_T)),
        sequence=torch.from_numpy(np.concatenate(sequence_T)),
        engine_logprobs=torch.from_numpy(np.concatenate(engine_T).astype(np.float32)),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on ``device``."""
    moved: dict[str, Any] = {}
    for name in batch.__dataclass_fields__:
        value = getattr(batch, name)
        moved[name] = None if value is None else value.to(device)
    return Batch(**moved)
