"""Which rows travel in one forward and backward pass: few micro-batches, of like work, within a bound of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from easyvideor1.packing.prefix_tree import PackedTurns

#: A micro-batch.
Rows = list[PackedTurns]

#: Estimated work of some turns in one row; any unit.
Cost = Callable[[PackedTurns], float]


def split_rows(
    rows: Sequence[PackedTurns], max_tokens: int, cost: Cost | None = None, together: Sequence[int] | None = None
) -> list[Rows]:
    """Micro-batches of at most ``max_tokens`` tokens; a row that no splitting makes fit (``_fitting``) goes alone.

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

    def cost(self, batch: Rows) -> float:
        return sum(self.costs[row.sequences] for row in batch)

    def room(self, batch: Rows, row: PackedTurns) -> bool:
        """Whether ``row`` fits beside ``batch``; what is alone always does."""
        held = sum(self.lengths[other.sequences] for other in batch)
        return not batch or held + self.lengths[row.sequences] <= self.max_tokens


def _spread(rows: Sequence[PackedTurns], size: _Sizes) -> list[Rows]:
    """As few micro-batches as a first fit finds; the dearest rows first, each into the cheapest that has room (Graham
    1969). Where that fails for want of room, the first fit stands."""
    fitted: list[Rows] = []
    for row in sorted(rows, key=lambda row: (-size.lengths[row.sequences], row.sequences)):
        open_ = next((batch for batch in fitted if size.room(batch, row)), None)
        if open_ is None:
            fitted.append([row])
        else:
            open_.append(row)
    spread: list[Rows] = [[] for _ in fitted]
    for row in sorted(rows, key=lambda row: (-size.costs[row.sequences], row.sequences)):
        roomy = [batch for batch in spread if size.room(batch, row)]
        if not roomy:
            return fitted
        min(roomy, key=size.cost).append(row)
    return [batch for batch in spread if batch]


def _evened(batches: list[Rows], size: _Sizes) -> list[Rows]:
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

    Turns of one number of ``together`` stay in one part. Where one of those alone does not fit, nothing is won: the
    bound is passed anyhow, and the row stays whole rather than have its prompt computed once per response.
    """
    if length <= max_tokens or len(row.turns) == 1:
        return [row]
    atoms: dict[int, list[int]] = {}
    for place, sequence in enumerate(row.sequences):
        atoms.setdefault(sequence if together is None else together[sequence], []).append(place)
    parts: list[PackedTurns] = []
    for places in atoms.values():
        new = PackedTurns(tuple(row.turns[i] for i in places), tuple(row.sequences[i] for i in places))
        if new.row_length > max_tokens:
            return [row]
        if parts:
            joined = PackedTurns((*parts[-1].turns, *new.turns), (*parts[-1].sequences, *new.sequences))
            if joined.row_length <= max_tokens:
                parts[-1] = joined
                continue
        parts.append(new)
    return parts


def _split_padded(rows: Sequence[PackedTurns], max_tokens: int) -> list[Rows]:
    """Rows of similar length travel together, which keeps padding small."""
    batches: list[Rows] = []
    for length, row in sorted(((row.row_length, row) for row in rows), key=lambda r: (r[0], r[1].sequences)):
        if batches and length * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _split_whole(rows: Sequence[PackedTurns], max_tokens: int, together: Sequence[int]) -> list[Rows]:
    """Rows of one number travel together, as many numbers at a time as fit."""
    units: dict[int, list[PackedTurns]] = {}
    for row in rows:
        units.setdefault(together[row.sequences[0]], []).append(row)
    batches: list[Rows] = []
    for unit in units.values():
        joined = [*(batches[-1] if batches else []), *unit]
        if batches and len(joined) * max(row.row_length for row in joined) <= max_tokens:
            batches[-1] = joined
        else:
            batches.append(list(unit))
    return batches
