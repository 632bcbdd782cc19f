"""Advantages of whole responses with a baseline or a scale beyond their own group."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.advantages.contract import ADVANTAGES, AdvantageContext
from easyvideor1.algorithms.advantages.grouped import dr_grpo, grpo
from easyvideor1.algorithms.needs import group_centred, requires
from easyvideor1.algorithms.sequences import whiten
from easyvideor1.config.algorithms import GDPOOptions
from easyvideor1.types import EasyVideoError


@ADVANTAGES.register("reinforce_plus_plus_baseline")
@group_centred
def reinforce_plus_plus_baseline(rewards_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """``r - mean`` of the group, then ``(x - mean) / (std + 1e-8)`` over the step (Hu et al. 2025, the baseline form).

    The scale is the batch's, not the group's: an easy group with one wrong answer is not blown up. Its authors keep
    the KL out of this reward and take ``k2`` as a term of the loss (``kl: k2``). Mean and deviation of
    the second step are over responses, each counting once.
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
@group_centred
@requires("parts")
def gdpo(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
    """Each part normalised by itself: ``sum_k w_k grpo(r_k)``, then ``(x - mean) / (std + 1e-8)`` over the step.

    Liu et al. 2026, GDPO, sec. 3. Summed first, as ``grpo`` has it, different combinations of parts become the same
    advantage. ``part_weights`` gives the weights; ``accuracy`` and ``format``, 1 each, if it is empty. A part that a
    group's task type does not have is the same for all of its responses and adds 0. The total reward is not read, so
    that neither the weights of ``rewards`` nor what is taken off the total counts here.
    """
    if not context.parts:
        raise EasyVideoError("advantage gdpo needs the parts of the score, which its caller did not give")
    options: GDPOOptions = context.options
    total = torch.zeros_like(rewards_N)
    for name, weight in (options.part_weights or {"accuracy": 1.0, "format": 1.0}).items():
        if name in context.parts:
            total = total + weight * grpo(context.parts[name].to(rewards_N.dtype), group_N)
    return whiten(total, 1e-8)
