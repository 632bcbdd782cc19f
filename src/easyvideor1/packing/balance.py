"""Which turns share a forward and backward pass: few micro-batches of like work, within a bound of tokens.

The same number of tokens may be very different work: visual tokens have a vision tower behind them, attention grows
with the square of a text, and only response tokens have logits. Work is estimated from the shapes of a model.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from easyvideor1.families.family import Family
from easyvideor1.packing.prefix_tree import PackedTurns, build_forest, media_of
from easyvideor1.types import MediaPlan


@dataclass(frozen=True, slots=True)
class Costs:
    """Floating-point operations of one forward pass: two per weight and token of every matrix product.

    ``token`` and ``pair`` (of a query and a key that it sees) are of all language layers, ``target`` of the logits of a
    response token, ``patch`` and ``patch_pair`` of vision tower and merger. Norms and activations are left out.
    """

    token: float
    pair: float
    target: float
    patch: float
    patch_pair: float

    def media(self, plans: Iterable[MediaPlan]) -> float:
        """Of the vision tower: patches of one temporal step attend to each other."""
        total = 0.0
        for plan in plans:
            steps, rows, columns = plan.grid
            total += steps * rows * columns * (self.patch + self.patch_pair * rows * columns)
        return total


def model_costs(family: Family, model: Any) -> Costs:
    """The costs of a model, counted from its modules."""
    groups = family.groups(model)
    text = model.config.get_text_config()
    vision = model.config.vision_config
    target = 0.0
    for module in _modules(groups["language"]):
        if isinstance(module, torch.nn.Linear) and module.out_features == text.vocab_size:
            target += 2 * module.weight.numel()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    attending = sum("linear" not in kind for kind in kinds)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    merged = family.geometry.merge_size**2
    patch = sum(2.0 * p.numel() for m in _modules(groups["vision"]) for p in _matrices(m))
    patch += sum(2 * p.numel() / merged for m in _modules(groups["merger"]) for p in _matrices(m))
    width = vision.embed_dim if hasattr(vision, "embed_dim") else vision.hidden_size
    return Costs(
        token=products_per_token(groups["language"], text),
        pair=4.0 * text.num_attention_heads * head * attending,
        target=target,
        patch=patch,
        patch_pair=4.0 * width * vision.depth,
    )


def products_per_token(roots: Iterable[torch.nn.Module], text: Any) -> float:
    """Operations of matrix products per token, in a forward pass of modules of the language model.

    Args:
        roots: the modules; those of logits count nothing.
        text: configuration of the language model.
    """
    share = (getattr(text, "num_experts_per_tok", None) or 1) / (getattr(text, "num_experts", None) or 1)
    token = 0.0
    for module in _modules(roots):
        if isinstance(module, torch.nn.Linear) and module.out_features != text.vocab_size:
            token += 2 * module.weight.numel()
        # Experts are one tensor (experts, in, out); a token meets some of them.
        token += sum(2 * p.numel() * share for p in module.parameters(recurse=False) if p.dim() == 3)
    return token


def turns_cost(unit: PackedTurns, costs: Costs) -> float:
    """Operations of a forward pass over some turns in one row; those of a training step are proportional."""
    forest = build_forest(unit.turns)
    layout = forest.layout
    plans = [plan for each in forest.stretches for _, plan in media_of(each, unit.turns[each.turn].prompt)]
    targets = sum(len(turn.response_ids) for turn in unit.turns)
    return layout.length * costs.token + layout.pairs * costs.pair + targets * costs.target + costs.media(plans)


def _modules(roots: Iterable[torch.nn.Module]) -> Iterable[torch.nn.Module]:
    seen: dict[int, torch.nn.Module] = {id(module): module for root in roots for module in root.modules()}
    return seen.values()


def _matrices(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    """Weights that a patch is multiplied with: of linear layers and of the convolution that is one over patches."""
    if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)):
        yield module.weight


#: The rows of a micro-batch: texts in one row, or one row each where layers cannot branch.
MicroBatchRows = list[PackedTurns]

#: Estimated work of some turns in one row; any unit.
Cost = Callable[[PackedTurns], float]


def split_rows(
    rows: Sequence[PackedTurns], max_tokens: int, cost: Cost | None = None, together: Sequence[int] | None = None
) -> list[MicroBatchRows]:
    """Micro-batches of at most ``max_tokens`` tokens; a row that cannot be split to fit (``_fitting``) goes alone.

    As few as a first fit in order of size finds, and of nearly equal ``cost`` (tokens, if not given). Rows that are not
    shared are padded to the longest of their batch, which counts; with ``together``, a number per turn, those of one
    number stay in one batch even so.
    """
    if not all(row.shared for row in rows):
        return _split_padded(rows, max_tokens) if together is None else _split_whole(rows, max_tokens, together)
    lengths = {row.sequences: row.row_length for row in rows}
    rows = [part for row in rows for part in _fitting(row, lengths[row.sequences], max_tokens, together)]
    lengths = {row.sequences: lengths.get(row.sequences) or row.row_length for row in rows}
    costs = {row.sequences: lengths[row.sequences] if cost is None else cost(row) for row in rows}
    size = _Sizes(lengths, costs, max_tokens)
    batches = [sorted(batch, key=lambda row: row.sequences) for batch in _evened(_spread(rows, size), size)]
    return sorted(batches, key=lambda batch: batch[0].sequences)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Tokens and costs of rows, by their sequences, and the bound of tokens."""

    lengths: Mapping[tuple[int, ...], int]
    costs: Mapping[tuple[int, ...], float]
    max_tokens: int

    def cost(self, batch: MicroBatchRows) -> float:
        return sum(self.costs[row.sequences] for row in batch)

    def room(self, batch: MicroBatchRows, row: PackedTurns) -> bool:
        """Whether ``row`` fits beside ``batch``; what is alone always does."""
        held = sum(self.lengths[other.sequences] for other in batch)
        return not batch or held + self.lengths[row.sequences] <= self.max_tokens


def _spread(rows: Sequence[PackedTurns], size: _Sizes) -> list[MicroBatchRows]:
    """As few micro-batches as a first fit finds; the dearest rows first, each into the cheapest that has room (Graham
    1969). Where that fails for want of room, the first fit stands."""
    fitted: list[MicroBatchRows] = []
    for row in sorted(rows, key=lambda row: (-size.lengths[row.sequences], row.sequences)):
        open_ = next((batch for batch in fitted if size.room(batch, row)), None)
        if open_ is None:
            fitted.append([row])
        else:
            open_.append(row)
    spread: list[MicroBatchRows] = [[] for _ in fitted]
    for row in sorted(rows, key=lambda row: (-size.costs[row.sequences], row.sequences)):
        roomy = [batch for batch in spread if size.room(batch, row)]
        if not roomy:
            return fitted
        min(roomy, key=size.cost).append(row)
    return [batch for batch in spread if batch]


def _evened(batches: list[MicroBatchRows], size: _Sizes) -> list[MicroBatchRows]:
    """The same with rows of a dearest moved to the cheapest, as long as both are then cheaper than the dearest was."""
    while len(batches) > 1:
        cheapest, goal = min(batches, key=size.cost), max(map(size.cost, batches))
        movable = [
            (size.costs[row.sequences], row.sequences, row, batch)
            for batch in batches
            if len(batch) > 1 and size.cost(batch) == goal
            for row in batch
            if size.room(cheapest, row) and size.cost(cheapest) + size.costs[row.sequences] < goal
        ]
        if not movable:
            break
        *_, row, dearest = max(movable, key=lambda move: move[:2])
        dearest.remove(row)
        cheapest.append(row)
    return batches


def _fitting(row: PackedTurns, length: int, max_tokens: int, together: Sequence[int] | None) -> list[PackedTurns]:
    """The row, or if it is too long parts of it that fit, each of which holds what its turns share anew.

    Turns of one number of ``together`` stay in one part. Those that do not fit even alone exceed the bound anyhow: they
    stay in one part, so that a prompt that is too long is not computed once per response.
    """
    if length <= max_tokens or len(row.turns) == 1:
        return [row]
    atoms: dict[int, list[int]] = {}
    for place, sequence in enumerate(row.sequences):
        atoms.setdefault(sequence if together is None else together[sequence], []).append(place)
    parts: list[PackedTurns] = []
    too_long: list[int] = []
    for places in atoms.values():
        new = PackedTurns(tuple(row.turns[i] for i in places), tuple(row.sequences[i] for i in places))
        if new.row_length > max_tokens:
            too_long += places
            continue
        if parts:
            joined = PackedTurns((*parts[-1].turns, *new.turns), (*parts[-1].sequences, *new.sequences))
            if joined.row_length <= max_tokens:
                parts[-1] = joined
                continue
        parts.append(new)
    if too_long:
        too_long.sort()
        parts.append(PackedTurns(tuple(row.turns[i] for i in too_long), tuple(row.sequences[i] for i in too_long)))
    return parts


def _split_padded(rows: Sequence[PackedTurns], max_tokens: int) -> list[MicroBatchRows]:
    """MicroBatchRows of similar length travel together, which keeps padding small."""
    batches: list[MicroBatchRows] = []
    for length, row in sorted(((row.row_length, row) for row in rows), key=lambda r: (r[0], r[1].sequences)):
        if batches and length * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _split_whole(rows: Sequence[PackedTurns], max_tokens: int, together: Sequence[int]) -> list[MicroBatchRows]:
    """MicroBatchRows of one number travel together, as many numbers at a time as fit."""
    units: dict[int, list[PackedTurns]] = {}
    for row in rows:
        units.setdefault(together[row.sequences[0]], []).append(row)
    batches: list[MicroBatchRows] = []
    for unit in units.values():
        joined = [*(batches[-1] if batches else []), *unit]
        if batches and len(joined) * max(row.row_length for row in joined) <= max_tokens:
            batches[-1] = joined
        else:
            batches.append(list(unit))
    return batches


def rank_shares(
    micro_batches: Sequence[MicroBatchRows], ranks: int, cost: Callable[[MicroBatchRows], float]
) -> list[list[MicroBatchRows]]:
    """Micro-batches of each rank, in their order: equally many up to one, and of like work.

    Ranks that share a model run as many passes as the one with the most micro-batches. So the dearest comes first, and
    goes to the rank with the least work among those that have room (Graham 1969).
    """
    most = -(-len(micro_batches) // ranks)
    found: list[list[int]] = [[] for _ in range(ranks)]
    roomy = [(0.0, rank) for rank in range(ranks)]  # a heap: the work of each
    for price, number in sorted(((-cost(rows), number) for number, rows in enumerate(micro_batches))):
        work, rank = heapq.heappop(roomy)
        found[rank].append(number)
        if len(found[rank]) < most:
            heapq.heappush(roomy, (work - price, rank))
    return [[micro_batches[number] for number in sorted(numbers)] for numbers in found]
