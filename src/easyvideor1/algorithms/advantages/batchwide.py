"""Advantages of whole responses with a baseline or a scale beyond their own group."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.advantages.contract import ADVANTAGES, AdvantageContext
from easyvideor1.algorithms.advantages.grouped import dr_grpo, grpo
from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.sequences import whiten
from easyvideor1.types import EasyVideoError


@ADVANTAGES.register("reinforce_plus_plus")
def reinforce_plus_plus(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``(r - mean) / (std + 1e-8)`` over the whole step (Hu et al. 2025, REINFORCE++, sec. 3).

    Mean and deviation are over sequences, each counting once. The paper takes the KL off the reward
    (``kl: k1``, ``kl_in: reward``).
    """
    return whiten(rewards_N, 1e-8)


@ADVANTAGES.register("reinforce_plus_plus_baseline")
def reinforce_plus_plus_baseline(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` of the group, then ``(x - mean) / (std + 1e-8)`` over the step (Hu et al. 2025, the baseline form).

    The scale is the batch's, not the group's: an easy group with one wrong answer is not blown up.
    """
    return whiten(dr_grpo(rewards_N, group_N), 1e-8)


@ADVANTAGES.register("remax")
@requires("greedy")
def remax(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """``r - r(greedy)``: less the reward of the greedy response to the same prompt (Li et al. 2024, ReMax, eq. 6)."""
    if context.baseline_rewards is None:
        raise EasyVideoError("advantage remax needs the reward of a greedy response, which its caller did not give")
    return rewards_N - context.baseline_rewards.to(rewards_N.dtype)


@ADVANTAGES.register("gdpo")
@requires("parts")
def gdpo(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """Each part normalised by itself: ``sum_k w_k grpo(r_k)``, then ``(x - mean) / (std + 1e-8)`` over the step.

    Liu et al. 2026, GDPO, sec. 3. Summed first, as ``grpo`` has it, different combinations of parts become the same
    advantage. ``part_weights`` gives the weights; ``accuracy`` and ``format``, 1 each, if it is empty. The total reward
    is not read, so that what ``rewards`` weighs does not count here.
    """
    weights = context.options.part_weights or {"accuracy": 1.0, "format": 1.0}
    if absent := sorted(set(weights) - set(context.parts)):
        known = ", ".join(sorted(context.parts)) or "none"
        raise EasyVideoError(f"part_weights names {absent[0]!r}, which scores do not have; their parts are: {known}")
    total = torch.zeros_like(rewards_N)
    for name, weight in weights.items():
        total = total + weight * grpo(context.parts[name].to(rewards_N.dtype), group_N)
    return whiten(total, 1e-8)
