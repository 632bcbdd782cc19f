"""Which tokens of a packed row see which."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from easyvideor1.attention.sequence_parallel import SequenceRanks


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tokens see which, in one packed row of ``length`` tokens.

    ``stretches`` are ``(start, stop, end)`` in the order of the row, without gaps: the tokens of a stretch are columns
    ``[start, stop)``; those that continue it, directly or through others, are ``[stop, end)``.
    """

    stretches: tuple[tuple[int, int, int], ...]
    length: int

    def reach(self) -> torch.Tensor:
        """The column behind the last one that sees a key, int64 ``(length,)``; none before the key does."""
        starts, stops, ends = torch.tensor(self.stretches, dtype=torch.int64).reshape(-1, 3).unbind(1)
        return torch.repeat_interleave(ends, stops - starts)

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees."""
        return sum((b - a) * (b - a + 1) // 2 + (b - a) * (end - b) for a, b, end in self.stretches)


@dataclass(frozen=True, slots=True)
class SplitLayout(Layout):
    """The layout of a whole row that ``ranks`` compute together: each has an equal part of its tokens, in order."""

    ranks: SequenceRanks


def dense_mask(reach: torch.Tensor) -> torch.Tensor:
    """Bool ``(B, 1, L, L)`` of ``reach`` ``(B, L)``, true where a query may look at a key: for small rows only."""
    column = torch.arange(reach.shape[1], device=reach.device)
    causal = column[:, None] >= column
    return (causal & (column[:, None] < reach[:, None, :]))[:, None]
