"""Turns become tensors: a micro-batch is one row without padding that holds every shared prefix once.

Every response continues the rotary positions of its prompt and sees only its prefix and itself. So the result equals
separate sequences, while shared prefixes and the vision tower are computed once (``packing.prefix_tree`` says what is
shared, ``attention.layout`` which tokens see which). Families whose layers cannot branch get a padded row per turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from easyvideor1.attention.functions import takes_layout
from easyvideor1.attention.layout import Layout, dense_mask
from easyvideor1.attention.sequence_parallel import SequenceRanks
from easyvideor1.families.family import Family, Visual
from easyvideor1.families.features import FeatureCache, load_visual
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.families.split_media import load_split_visual
from easyvideor1.packing.prefix_tree import Forest, PackedTurns, build_forest, fed_tokens, media_of, pack_turns
from easyvideor1.packing.row_split import (
    PackedRow,
    RowSplit,
    own_columns,
    padded_row,
    visual_bounds,
    visual_columns,
)
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt, Turn


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tensors of one forward pass over B rows of length L that hold T response tokens of N sequences.

    ``reach`` is int64 ``(B, L)``: a key is seen by the queries from its own column up to, and without, that one.
    ``layout`` says the same of a row that is not padded (B is 1), else it is ``None``. ``visual`` are the media of all
    rows; a medium of several rows is there once, and its features are repeated.

    Response tokens are flat: entry ``i`` was predicted at ``(predictor_rows[i], predictor_columns[i])``, is token
    ``targets[i]`` and belongs to sequence ``sequence[i]`` of the whole step. ``engine_logprobs`` holds NaN where the
    engine gave none.

    Where several ranks compute the row together, ``input_ids``, ``positions`` and ``visual`` are of this one's part of
    it, and ``split`` says how they share the response tokens; all else is of the whole row.
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
    split: RowSplit | None = None

    def own(self, values_T: torch.Tensor) -> torch.Tensor:
        """Of values of the response tokens those that this rank computes: all, if no other computes the row."""
        return values_T if self.split is None else self.split.own(values_T)

    def whole(self, own: torch.Tensor) -> torch.Tensor:
        """Values of all response tokens from those that each rank computes; its ranks all call this."""
        return own if self.split is None else self.split.whole(own)

    def attention_mask(self) -> torch.Tensor:
        """Bool ``(B, 1, L, L)``, for attention that takes no layout."""
        return dense_mask(self.reach)

    def visibility(self, model: Any) -> torch.Tensor | Layout | None:
        """``mask`` of ``Family.decode``: the layout, or the mask it stands for if ``model`` takes none.

        Padded rows need none: padding is behind the text, and attention is causal.
        """
        if self.layout is None:
            return None
        return self.layout if takes_layout(model) else self.attention_mask()


def collate(
    rows: Sequence[PackedTurns],
    family: Family,
    load: LoadFrames,
    *,
    features: FeatureCache | None = None,
    device: torch.device | None = None,
    ranks: SequenceRanks | None = None,
) -> MicroBatch:
    """Tensors of a micro-batch; those of its media are on ``device``, where pixels arrive as uint8.

    With ``ranks``, which all call this, it is this one's part of the row.

    Raises:
        ValueError: ``ranks`` are given, and a text has a row of its own.
        DataError: a medium's pixels disagree with the visual tokens of its prompt (see ``load_checked``).
    """
    repeats = split = packed = None
    turns = [turn for row in rows for turn in row.turns]
    sequences = [sequence for row in rows for sequence in row.sequences]
    counts = [len(turn.response_ids) for turn in turns]
    if all(row.shared for row in rows):
        packed = one_row(turns, family)
        if ranks is not None:
            packed = padded_row(packed, ranks, family.pad_token_id)
        ids, positions, layout, columns = packed.ids, packed.positions, packed.layout, packed.columns
        reach, in_row, media = layout.reach()[None], [0] * len(turns), packed.media
    else:
        ids, positions, reach, columns = _padded_rows(turns, family)
        layout, in_row = None, list(range(len(turns)))
        media, repeats = _distinct([turn.prompt for turn in turns])
    # The first token is predicted by the prompt's last one, each other by the one before it.
    predictors = np.concatenate(
        [column[len(turn.prompt) - 1 :][:count] for turn, column, count in zip(turns, columns, counts, strict=True)]
    ).astype(np.int64)
    visual: Visual | None
    if ranks is None:
        visual = load_visual(media, family, load, features=features, device=device)
    elif packed is None:
        raise ValueError(
            f"texts of {type(family).__name__} have rows of their own, which ranks cannot compute together"
        )
    else:
        ids, positions = own_columns(packed, ranks)
        split = RowSplit.of(predictors, packed.layout.length, ranks)
        wanted = visual_bounds(packed, ranks)
        visual = load_split_visual(media, family, load, ranks, wanted, features=features, device=device)
    if visual is not None and repeats is not None:
        visual = visual.take(torch.from_numpy(repeats))
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        reach=reach,
        layout=layout,
        visual=visual,
        predictor_rows=torch.from_numpy(np.repeat(np.asarray(in_row, np.int64), counts)),
        predictor_columns=torch.from_numpy(predictors),
        targets=torch.from_numpy(np.concatenate([turn.response_ids for turn in turns]).astype(np.int64)),
        sequence=torch.from_numpy(np.repeat(np.asarray(sequences, np.int64), counts)),
        engine_logprobs=engine_logprobs(turns),
        split=split,
    )


def engine_logprobs(turns: Sequence[Turn]) -> torch.Tensor:
    """The engine's log-probs of all responses, one after the other, float32 ``(T,)``; NaN where it gave none."""
    known = [np.full(len(t.response_ids), np.nan) if t.logprobs is None else t.logprobs for t in turns]
    return torch.from_numpy(np.concatenate(known).astype(np.float32))


#: Token ids ``(T,)`` of prompt and response but its last token, and their rotary positions ``(3, T)``.
Text = tuple[NDArray[np.int64], NDArray[np.int64]]
#: What ``Family.positions`` says of prompts, by their id.
Places = dict[int, tuple[NDArray[np.int64], int]]


def texts_of(turns: Sequence[Turn], family: Family, places: Places | None = None) -> list[Text]:
    """The texts of turns as they are fed; positions of a prompt, of which a long video has many, are computed once.

    ``places``, where given, are used, and filled with those of further prompts.
    """
    found = []
    of_prompt: Places = {} if places is None else places
    for turn in turns:
        if id(turn.prompt) not in of_prompt:
            of_prompt[id(turn.prompt)] = family.positions(turn.prompt)
        positions, first = of_prompt[id(turn.prompt)]
        fed = fed_tokens(turn)
        following = np.broadcast_to(np.arange(first, first + len(fed)), (3, len(fed)))
        ids = np.concatenate([turn.prompt.token_ids, fed])
        found.append((ids, np.concatenate([positions, following], axis=1)))
    return found


def one_row(
    turns: Sequence[Turn], family: Family, *, forest: Forest | None = None, places: Places | None = None
) -> PackedRow:
    """Texts of turns in one row that holds every shared prefix once.

    ``forest`` is ``build_forest(turns)`` and ``places`` as in ``texts_of``, for callers that use them, too.
    """
    forest = build_forest(turns) if forest is None else forest
    ids = np.empty((1, forest.layout.length), dtype=np.int64)
    positions = np.empty((3, 1, forest.layout.length), dtype=np.int64)
    texts = texts_of(turns, family, places)
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
    return PackedRow(ids, positions, forest.layout, forest.columns, media, visual_columns(forest, turns))


def _padded_rows(
    turns: Sequence[Turn], family: Family
) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, tuple[NDArray[np.int64], ...]]:
    """Ids ``(B, L)``, positions ``(3, B, L)``, reach ``(B, L)`` and columns per turn; padding is behind the text."""
    texts = texts_of(turns, family)
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
    """Prompts that hold each medium of some prompts once, and the place there of every visual token; None if equal."""
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


def idle_batch(family: Family, device: torch.device, sequence: SequenceRanks | None = None) -> MicroBatch:
    """The smallest micro-batch: a response of one token to a prompt of one, in no sequence of the step (-1)."""
    token = np.asarray([family.stop_token_ids[0]], dtype=np.int64)
    turn = Turn(Prompt(token, (), ()), token, np.zeros(1, dtype=bool), None, "stop", "")
    batch = collate(pack_turns([turn], share_prefix=family.shares_prefix), family, _no_media, ranks=sequence)
    batch.sequence.fill_(-1)
    return to_device(batch, device)


def equal_micro_batches(
    batches: Iterable[tuple[Sequence[int], MicroBatch]],
    count: int,
    family: Family,
    device: torch.device,
    ranks: dist.ProcessGroup | None = None,
    sequence: SequenceRanks | None = None,
) -> Iterator[tuple[Sequence[int], MicroBatch]]:
    """A rank's micro-batches, then idle ones until it has as many as the rank with the most.

    Every rank must run as many forward and backward passes as the others. An idle micro-batch comes with no indices of
    turns; it goes through model and loss like the others, and its one token has weight 0.

    Args:
        batches: from ``ForwardPasses.batches``.
        count: how many there are.
        family: of the model.
        device: of the model.
        ranks: those that share the model; all if None. Each of them must call this, and iterate.
        sequence: those that compute a micro-batch together; they have the same ones.

    Raises:
        ValueError: there were not ``count`` micro-batches.
    """
    most = torch.tensor(count, device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(most, dist.ReduceOp.MAX, group=ranks)
    given = 0
    for batch in batches:
        given += 1
        yield batch
    if given != count:
        raise ValueError(f"{given} micro-batches where {count} were announced to the other ranks")
    for _ in range(int(most) - count):
        yield (), idle_batch(family, device, sequence)


def _no_media(ref: MediaRef, plan: MediaPlan) -> Frames:
    raise RuntimeError(f"an idle micro-batch has no media, not {ref.path!r} of plan {plan.digest[:12]}")
