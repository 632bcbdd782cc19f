"""How ranks that compute one row together cut it: columns, media, and the response tokens that have logits.

Columns are cut into equal parts in their order; the row is padded for that at its end, where nobody looks. Media are
cut anew, so that every rank encodes as many patches, wherever they stand in the row. Response tokens, too, are shared
out anew, since they may all stand in the last part: each rank computes the logits of as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.attention.layout import Layout, SplitLayout
from easyvideor1.attention.sequence_parallel import RowExchange, SequenceRanks, gather_rows
from easyvideor1.packing.prefix_tree import Forest
from easyvideor1.types import Prompt, Turn


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """Texts of turns in one row that holds every shared prefix once.

    ``ids`` is int64 ``(1, L)``, ``positions`` ``(3, 1, L)``; ``columns`` are those of every turn's text. ``media`` are
    the row's, in its order, and ``visual``, bool ``(L,)``, is true at their tokens.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    layout: Layout
    columns: tuple[NDArray[np.int64], ...]
    media: list[Prompt]
    visual: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RowSplit:
    """What the ranks of a row do with its T response tokens, of which each computes ``ranks.bounds(T)``.

    ``predictors`` are int64 columns of this rank's part that predict tokens, for all ranks one after the other, as
    ``exchange`` says; ``order``, int64, is the place of each token of this rank among those that come.
    """

    ranks: SequenceRanks
    predictors: torch.Tensor
    exchange: RowExchange
    order: torch.Tensor
    total: int

    @classmethod
    def of(cls, predictor_columns: NDArray[np.int64], length: int, ranks: SequenceRanks) -> RowSplit:
        """Of tokens that are predicted at columns of a row of ``length``, a multiple of the number of ranks."""
        part = length // ranks.count
        total = len(predictor_columns)
        bounds = ranks.bounds(total)
        owner_T = predictor_columns // part
        taker_T = np.repeat(np.arange(ranks.count), np.diff(bounds))
        sends = np.bincount(taker_T[owner_T == ranks.index], minlength=ranks.count)
        coming = owner_T[bounds[ranks.index] : bounds[ranks.index + 1]]
        return cls(
            ranks,
            torch.from_numpy(predictor_columns[owner_T == ranks.index] - ranks.index * part),
            RowExchange(ranks, tuple(sends.tolist()), tuple(np.bincount(coming, minlength=ranks.count).tolist())),
            torch.from_numpy(np.argsort(np.argsort(coming, kind="stable"))),
            total,
        )

    def to(self, device: torch.device) -> RowSplit:
        """The same with its tensors on ``device``."""
        return replace(self, predictors=self.predictors.to(device), order=self.order.to(device))

    def handed_out(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of the hidden states ``(L / N, D)`` of this rank's columns those that predict its tokens; all ranks call."""
        return self.exchange(hidden[self.predictors])[self.order]

    def own(self, values_T: torch.Tensor) -> torch.Tensor:
        """Those of this rank's tokens."""
        bounds = self.ranks.bounds(self.total)
        return values_T[bounds[self.ranks.index] : bounds[self.ranks.index + 1]]

    def whole(self, own: torch.Tensor) -> torch.Tensor:
        """Values ``(T, ...)`` of all ranks' tokens, on every rank: see ``gather_rows``."""
        return gather_rows(own, self.ranks, self.total)


def visual_columns(forest: Forest, turns: Sequence[Turn]) -> NDArray[np.bool_]:
    """Which columns of a row hold visual tokens, bool ``(L,)``."""
    found = np.zeros(forest.layout.length, dtype=bool)
    for stretch, (start, _, _) in zip(forest.stretches, forest.layout.stretches, strict=True):
        for span in turns[stretch.turn].prompt.spans:
            if stretch.start <= span.start < stretch.stop:
                first = start + span.start - stretch.start
                found[first : first + span.length] = True
    return found


def padded_row(row: PackedRow, ranks: SequenceRanks, pad_token_id: int) -> PackedRow:
    """The row at a length that the ranks can divide, with a layout that says so; padding sees itself alone."""
    length = row.layout.length
    missing = -length % ranks.count
    whole, stretches = length + missing, row.layout.stretches
    if missing:
        stretches = (*stretches, (length, whole, whole))
    return replace(
        row,
        ids=np.pad(row.ids, ((0, 0), (0, missing)), constant_values=pad_token_id),
        positions=np.pad(row.positions, ((0, 0), (0, 0), (0, missing))),
        layout=SplitLayout(stretches, whole, ranks),
        visual=np.pad(row.visual, (0, missing)),
    )


def own_columns(row: PackedRow, ranks: SequenceRanks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids ``(1, L / N)`` and positions ``(3, 1, L / N)`` of this rank's part of a padded row."""
    part = row.layout.length // ranks.count
    own = slice(ranks.index * part, (ranks.index + 1) * part)
    return np.ascontiguousarray(row.ids[:, own]), np.ascontiguousarray(row.positions[:, :, own])


def visual_bounds(row: PackedRow, ranks: SequenceRanks) -> list[int]:
    """Visual tokens before each rank's part of a padded row, and all of them at the end."""
    counts = row.visual.reshape(ranks.count, -1).sum(1)
    return [0, *np.cumsum(counts).tolist()]
