"""Turns become tensors: a micro-batch is one row without padding, in which everything shared is there once.

Every response continues the rotary positions of its prompt and sees what it continues and itself, so the result equals
separate sequences while shared beginnings and the vision tower are computed once (``packing.prefix_tree`` says what is
shared, ``attention.functions`` who sees whom). Families whose layers cannot branch get a padded row per turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.attention.functions import Layout, dense_mask, takes_layout
from easyvideor1.families.family import Family, Visual
from easyvideor1.packing.prefix_tree import PackedTurns, build_forest, fed_tokens, media_of, pack_turns
from easyvideor1.packing.row_balance import split_rows
from easyvideor1.types import DataError, Frames, MediaPlan, MediaRef, Prompt, Turn

if TYPE_CHECKING:
    from easyvideor1.packing.features import FeatureCache

__all__ = [
    "LoadFrames",
    "MicroBatch",
    "PackedTurns",
    "collate",
    "engine_logprobs",
    "load_checked",
    "load_media",
    "load_visual",
    "pack_turns",
    "split_rows",
    "text_of",
    "to_device",
]

LoadFrames = Callable[[MediaRef, MediaPlan], Frames]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tensors of one forward pass over B rows of length L that hold T response tokens of N sequences.

    ``reach`` is int64 ``(B, L)``: a key is seen by the queries from its own column up to, and without, that one.
    ``layout`` says the same of a row that is not padded (B is 1), else it is ``None``. ``visual`` are the media of all
    rows; those that several rows hold are there once, and their features are repeated.

    Response tokens are flat: entry ``i`` was predicted at ``(predictor_rows[i], predictor_columns[i])``, is token
    ``targets[i]`` and belongs to sequence ``sequence[i]`` of the whole step. ``engine_logprobs`` holds NaN where the
    engine gave none.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    reach: torch.Tensor
    layout: Layout | None
    visual: Visual | None
    predictor_rows: torch.Tensor
    predictor_columns: torch.Tensor
    targets: torch.Tensor
    sequence: torch.Tensor
    engine_logprobs: torch.Tensor

    def attention_mask(self) -> torch.Tensor:
        """Bool ``(B, 1, L, L)``, for attention that takes no layout."""
        return dense_mask(self.reach)

    def visibility(self, model: Any) -> torch.Tensor | Layout | None:
        """``mask`` of ``Family.hidden_states``: the layout, or the mask it stands for if ``model`` takes none.

        In padded rows padding is behind the text, where no token of it looks, so that nothing need be said.
        """
        if self.layout is None:
            return None
        return self.layout if takes_layout(model) else self.attention_mask()


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
) -> MicroBatch:
    """Tensors of a micro-batch; those of its media are on ``device``, where pixels arrive as uint8.

    Raises:
        DataError: a medium's pixels disagree with the visual tokens of its prompt (see ``load_checked``).
    """
    repeats = None
    turns = [turn for row in rows for turn in row.turns]
    sequences = [sequence for row in rows for sequence in row.sequences]
    if all(row.shared for row in rows):
        ids, positions, layout, columns, media = _one_row(turns, family)
        reach, in_row = layout.reach()[None], [0] * len(turns)
    else:
        ids, positions, reach, columns = _padded_rows(turns, family)
        layout, in_row = None, list(range(len(turns)))
        media, repeats = _distinct([turn.prompt for turn in turns])
    counts = [len(turn.response_ids) for turn in turns]
    visual = load_visual(media, family, load, features=features, device=device)
    if visual is not None and repeats is not None:
        visual = visual.take(torch.from_numpy(repeats))
    # The first token is predicted by the prompt's last one, each other by the one before it.
    predictors = [
        column[len(turn.prompt) - 1 :][:count] for turn, column, count in zip(turns, columns, counts, strict=True)
    ]
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        reach=reach,
        layout=layout,
        visual=visual,
        predictor_rows=torch.from_numpy(np.repeat(np.asarray(in_row, np.int64), counts)),
        predictor_columns=torch.from_numpy(np.concatenate(predictors).astype(np.int64)),
        targets=torch.from_numpy(np.concatenate([turn.response_ids for turn in turns]).astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(np.asarray(sequences, np.int64), counts)),
        engine_logprobs=engine_logprobs(turns),
    )


def engine_logprobs(turns: Sequence[Turn]) -> torch.Tensor:
    """What came with the responses, one after the other, float32 ``(T,)``; NaN where nothing did."""
    known = [np.full(len(t.response_ids), np.nan) if t.logprobs is None else t.logprobs for t in turns]
    return torch.from_numpy(np.concatenate(known).astype(np.float32))


def text_of(turn: Turn, family: Family) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids ``(T,)`` of prompt and response but its last token, and their rotary positions ``(3, T)``."""
    fed = fed_tokens(turn)
    positions, first = family.positions(turn.prompt)
    following = np.broadcast_to(np.arange(first, first + len(fed)), (3, len(fed)))
    return np.concatenate([turn.prompt.token_ids, fed]), np.concatenate([positions, following], axis=1)


def _one_row(
    turns: Sequence[Turn], family: Family
) -> tuple[NDArray[np.int64], NDArray[np.int64], Layout, tuple[NDArray[np.int64], ...], list[Prompt]]:
    """Ids ``(1, L)``, positions ``(3, 1, L)``, layout, columns per turn, and the row's media in its order."""
    forest = build_forest(turns)
    ids = np.empty((1, forest.layout.length), dtype=np.int64)
    positions = np.empty((3, 1, forest.layout.length), dtype=np.int64)
    texts = [text_of(turn, family) for turn in turns]
    media = []
    for stretch, (start, stop, _) in zip(forest.stretches, forest.layout.stretches, strict=True):
        own_ids, own_positions = texts[stretch.turn]
        ids[0, start:stop] = own_ids[stretch.start : stretch.stop]
        positions[:, 0, start:stop] = own_positions[:, stretch.start : stretch.stop]
        prompt = turns[stretch.turn].prompt
        if found := media_of(stretch, prompt):
            refs, plans = zip(*found, strict=True)
            media.append(Prompt(prompt.token_ids, refs, plans))
    for (own_ids, own_positions), column in zip(texts, forest.columns, strict=True):
        if not (np.array_equal(ids[0, column], own_ids) and np.array_equal(positions[:, 0, column], own_positions)):
            raise RuntimeError(f"positions of {type(family).__name__} depend on later tokens: its texts share no row")
    return ids, positions, forest.layout, forest.columns, media


def _padded_rows(
    turns: Sequence[Turn], family: Family
) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, tuple[NDArray[np.int64], ...]]:
    """Ids ``(B, L)``, positions ``(3, B, L)``, reach ``(B, L)`` and columns per turn; padding is behind the text."""
    texts = [text_of(turn, family) for turn in turns]
    length = max(len(ids) for ids, _ in texts)
    ids = np.full((len(turns), length), family.pad_token_id, dtype=np.int64)
    positions = np.zeros((3, len(turns), length), dtype=np.int64)
    # Padding sees itself, so that no row of the softmax is empty.
    reach = torch.arange(1, length + 1).repeat(len(turns), 1)
    columns = []
    for row, (own_ids, own_positions) in enumerate(texts):
        count = len(own_ids)
        ids[row, :count], positions[:, row, :count], reach[row, :count] = own_ids, own_positions, count
        columns.append(np.arange(count))
    return ids, positions, reach, tuple(columns)


def _distinct(prompts: Sequence[Prompt]) -> tuple[list[Prompt], NDArray[np.int64] | None]:
    """Prompts that hold each medium of some prompts once, and which of their visual tokens make up all; None: those."""
    first: dict[tuple[str, tuple[int, int, int]], int] = {}
    kept, places = [], []
    count = 0
    for prompt in prompts:
        new = []
        for ref, plan in zip(prompt.media, prompt.plans, strict=True):
            key = (plan.digest, plan.grid)
            if key not in first:
                first[key] = count
                count += plan.tokens
                new.append((ref, plan))
            places.append(np.arange(first[key], first[key] + plan.tokens))
        if new:
            refs, plans = zip(*new, strict=True)
            kept.append(Prompt(prompt.token_ids, refs, plans))
    total = sum(len(place) for place in places)
    return kept, np.concatenate(places) if total > count else None


def to_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    """The batch with every tensor on ``device``."""
    moved = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    return MicroBatch(**{name: value.to(device) if hasattr(value, "to") else value for name, value in moved.items()})
