"""Advantages: pure functions of rewards and groups.

``(rewards_N, group_N) -> advantages_N``: float ``(N,)`` rewards, int64 ``(N,)`` group indices in contiguous blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from easyvideor1.registry import Registry

Advantage = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ADVANTAGES: Registry[Advantage] = Registry("advantage")


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


@ADVANTAGES.register("grpo")
def grpo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``(r - mean) / (std + 1e-6)`` within the group, unbiased std (Shao et al. 2024, DeepSeekMath, sec. 4.1.2).

    A group of one has no deviation and gets 0.
    """
    mean, size = group_mean(rewards_N, group_N)
    centred = rewards_N - mean
    square, _ = group_mean(centred.square(), group_N)
    std = (square * size / (size - 1).clamp_min(1)).sqrt()
    return centred / (std + 1e-6)


@ADVANTAGES.register("dr_grpo")
def dr_grpo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` within the group, without the division by std (Liu et al. 2025, Dr.GRPO, eq. 3)."""
    return rewards_N - group_mean(rewards_N, group_N)[0]


@ADVANTAGES.register("rloo")
def rloo(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r`` minus the mean of the other responses of the group (Ahmadian et al. 2024, RLOO). 0 for a group of one."""
    mean, size = group_mean(rewards_N, group_N)
    return (rewards_N - mean) * size / (size - 1).clamp_min(1)


@ADVANTAGES.register("ones")
def ones(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """1 for every sequence, whatever its reward: supervised learning from trajectories."""
    return torch.ones_like(rewards_N)
