"""Sums over sequences and groups of flat tensors.

Numbers of sequences and groups run over the whole step; a micro-batch holds some of them, each whole.
"""

from __future__ import annotations

import torch


def group_mean(values_N: torch.Tensor, group_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each sequence's group and the group's size, both ``(N,)``; equal values have exactly that mean."""
    groups = int(group_N.max()) + 1 if len(group_N) else 0
    zeros = values_N.new_zeros(groups)
    size = zeros.index_add(0, group_N, torch.ones_like(values_N))
    mean = zeros.index_add(0, group_N, values_N) / size.clamp_min(1)
    # The rounded sum of equal values is off by a unit in the last place, which a division by std would make a signal.
    low = zeros.scatter_reduce(0, group_N, values_N, "amin", include_self=False)
    high = zeros.scatter_reduce(0, group_N, values_N, "amax", include_self=False)
    mean = torch.where(low == high, low, mean)
    return mean[group_N], size[group_N]


def centred_by_group(values_N: torch.Tensor, group_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values less their group's mean, and the group's unbiased standard deviation (0 for a group of one), ``(N,)``."""
    mean, size = group_mean(values_N, group_N)
    centred = values_N - mean
    square, _ = group_mean(centred.square(), group_N)
    return centred, (square * size / (size - 1).clamp_min(1)).sqrt()


def whiten(values_N: torch.Tensor, epsilon: float) -> torch.Tensor:
    """``(x - mean) / (std + epsilon)`` over all values, unbiased std; equal values become exactly 0."""
    if not len(values_N):
        return values_N
    centred, std = centred_by_group(values_N, torch.zeros(len(values_N), dtype=torch.int64, device=values_N.device))
    return centred / (std + epsilon)


def reindex(sequence_T: torch.Tensor) -> tuple[int, torch.Tensor]:
    """How many different sequences there are, and the index of every token's among them, ``(T,)``."""
    present, index_T = torch.unique(sequence_T, return_inverse=True)
    return len(present), index_T


def sum_by(values_T: torch.Tensor, index_T: torch.Tensor, count: int) -> torch.Tensor:
    """Sums ``(count,)`` of the values of each index."""
    return values_T.new_zeros(count).index_add(0, index_T, values_T)


def first_by(values_T: torch.Tensor, index_T: torch.Tensor, count: int) -> torch.Tensor:
    """The value ``(count,)`` at the first entry of each index, such as the group of every sequence."""
    order = torch.arange(len(index_T), device=index_T.device)
    first = order.new_full((count,), len(index_T)).scatter_reduce(0, index_T, order, "amin")
    return values_T[first]
