"""Sequence parallelism: several ranks compute one row together, each a part of its tokens.

All but attention works on tokens one by one. For attention the ranks exchange tokens for heads: each gets all tokens of
its share of the heads, attends as a single process would, and gives the tokens back (all-to-all; Jacobs et al. 2023,
"DeepSpeed Ulysses", sec. 3.1). So any pattern of who sees whom, such as shared prefixes, works as it is.

Everything here is called by all ranks of a group, in the same order, forward and backward. The numbers that it carries
back are gradients of one loss, which all ranks of a group compute from the same gathered numbers: what a rank gets for
its own rows is its part of the gradient, and sums over ranks are the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class SequenceRanks:
    """Ranks that compute one row together: their process group, and the place of this one among them."""

    group: dist.ProcessGroup
    index: int
    count: int

    def bounds(self, total: int) -> tuple[int, ...]:
        """Where the parts of ``total`` rows begin, and their end: parts of one size, less or nothing at the end."""
        size = -(-total // self.count)
        return tuple(min(index * size, total) for index in range(self.count + 1))


@dataclass(frozen=True, slots=True)
class RowExchange:
    """Rows that go from every rank of a group to every other.

    ``sends`` are the numbers of rows for each of them, which lie one after the other; ``receives`` those that come.
    """

    ranks: SequenceRanks
    sends: tuple[int, ...]
    receives: tuple[int, ...]

    @classmethod
    def between(cls, ranks: SequenceRanks, held: Sequence[int], wanted: Sequence[int]) -> RowExchange:
        """Of rows that rank ``i`` has from ``held[i]`` to ``held[i + 1]``, and needs likewise by ``wanted``."""

        def common(first: Sequence[int], i: int, second: Sequence[int], j: int) -> int:
            return max(0, min(first[i + 1], second[j + 1]) - max(first[i], second[j]))

        own, others = ranks.index, range(ranks.count)
        sends = tuple(common(held, own, wanted, other) for other in others)
        return cls(ranks, sends, tuple(common(held, other, wanted, own) for other in others))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows that come ``(R, ...)`` for those that go, with gradient."""
        found: torch.Tensor = _AllToAll.apply(rows, self.sends, self.receives, self.ranks.group)  # type: ignore[no-untyped-call]
        return found


def gather_rows(rows: torch.Tensor, ranks: SequenceRanks, total: int) -> torch.Tensor:
    """All ``total`` rows on every rank, of which each has the part that ``ranks.bounds`` says, with gradient.

    All ranks must compute the same from them: a rank's gradient is that of its own rows, and is not summed.
    """
    size = -(-total // ranks.count)
    padded = torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])
    found: torch.Tensor = _Gather.apply(padded, ranks)  # type: ignore[no-untyped-call]
    return found[:total]


def tokens_for_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ranks: SequenceRanks
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All tokens of this rank's heads, for its tokens of all heads.

    Where there are fewer keys than ranks, or other numbers of them, keys are repeated: a rank needs those of its
    queries.

    Args:
        query: ``(1, H, T / N, D)`` of N ranks, H a multiple of N.
        key: ``(1, K, T / N, D)``, K a divisor of H.
        value: like ``key``.
        ranks: all of which call this with as many tokens.

    Returns:
        ``(1, H / N, T, D)`` and twice ``(1, lcm(K, N) / N, T, D)``.
    """
    repeats = math.lcm(key.shape[1], ranks.count) // key.shape[1]
    parts = [query, *(tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))]
    by_rank = [part[0].reshape(ranks.count, -1, *part.shape[2:]) for part in parts]
    together = _all_to_all(torch.cat(by_rank, dim=1), ranks)  # (N, heads, T / N, D), by the rank that has the tokens
    found = together.transpose(0, 1).flatten(1, 2)[None]
    sizes = [part.shape[1] for part in by_rank]
    query, key, value = torch.split(found, sizes, dim=1)
    return query, key, value


def heads_for_tokens(out: torch.Tensor, ranks: SequenceRanks) -> torch.Tensor:
    """The way back: ``(1, H / N, T, D)`` to ``(1, H, T / N, D)``."""
    heads, tokens, width = out.shape[1:]
    by_rank = out[0].reshape(heads, ranks.count, tokens // ranks.count, width).transpose(0, 1)
    return _all_to_all(by_rank, ranks).flatten(0, 1)[None]


def _all_to_all(by_rank: torch.Tensor, ranks: SequenceRanks) -> torch.Tensor:
    """One entry of ``(N, ...)`` to each rank."""
    ones = (1,) * ranks.count
    found: torch.Tensor = _AllToAll.apply(by_rank, ones, ones, ranks.group)  # type: ignore[no-untyped-call]
    return found


def _exchanged(
    rows: torch.Tensor, sends: Sequence[int], receives: Sequence[int], group: dist.ProcessGroup
) -> torch.Tensor:
    found = rows.new_empty(sum(receives), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), list(receives), list(sends), group=group)
    return found


class _AllToAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, sends: tuple[int, ...], receives: tuple[int, ...], group: dist.ProcessGroup
    ) -> torch.Tensor:
        ctx.sends, ctx.receives, ctx.group = sends, receives, group
        return _exchanged(rows, sends, receives, group)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _exchanged(gradients[0], ctx.receives, ctx.sends, ctx.group), None, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, ranks: SequenceRanks) -> torch.Tensor:
        ctx.own = slice(ranks.index * len(rows), (ranks.index + 1) * len(rows))
        found = rows.new_empty(ranks.count * len(rows), *rows.shape[1:])
        dist.all_gather(list(found.chunk(ranks.count)), rows.contiguous(), group=ranks.group)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0][ctx.own], None
