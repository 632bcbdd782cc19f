"""Token weighters: how much each token's policy gradient counts.

A weighter is ``(tokens: TokenStatistics, options) -> (T,)`` factors, no gradient, that multiply the tokens' weights in
the loss. They are not normalised: what a weighter leaves out is not given to the others, unless its docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.sequences import reindex, sum_by
from easyvideor1.config.algorithms import EntropyMeanOneOptions, EntropyTopOptions, TWGRPOOptions, WeighterOptions
from easyvideor1.registry import Registry


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """What is known of the T response tokens of some whole groups; all tensors are ``(T,)``.

    ``entropy`` is in nats; ``divergence`` is ``position_divergence`` at the token's position in its response. Either is
    ``None`` unless the weighter needs it.
    """

    sequence: torch.Tensor
    group: torch.Tensor
    trained: torch.Tensor
    entropy: torch.Tensor | None = None
    divergence: torch.Tensor | None = None


Weighter = Callable[[TokenStatistics, Any], torch.Tensor]

WEIGHTERS: Registry[Weighter] = Registry("token weighter")


@WEIGHTERS.register("none")
def none(tokens: TokenStatistics, options: WeighterOptions) -> torch.Tensor:
    """``1`` for every token."""
    return torch.ones(len(tokens.sequence), device=tokens.sequence.device)


@WEIGHTERS.register("tw_grpo")
@requires("full_logits", "group_ids")
def tw_grpo(tokens: TokenStatistics, options: TWGRPOOptions) -> torch.Tensor:
    """``1 + (alpha - 1) (D - min D) / (max D - min D)``, extremes over the positions of the group.

    Dang et al. 2025, TW-GRPO: positions at which the responses of a group expect different tokens count for more. ``D``
    is ``position_divergence``; all responses of a group share the weight of a position. Where all positions are equal
    the weight is 1. The mean weight is above 1, so that the step is longer than without.
    """
    if tokens.divergence is None:
        raise ValueError("tw_grpo needs the divergence of every position; see position_divergence")
    count, index_T = reindex(tokens.group)
    value = tokens.divergence.detach()
    low = value.new_zeros(count).scatter_reduce(0, index_T, value, "amin", include_self=False)[index_T]
    high = value.new_zeros(count).scatter_reduce(0, index_T, value, "amax", include_self=False)[index_T]
    scaled = torch.where(high > low, (value - low) / (high - low).clamp_min(torch.finfo(value.dtype).tiny), 0.0)
    return 1 + (options.alpha - 1) * scaled


@WEIGHTERS.register("entropy_top")
@requires("entropy", "group_ids")
def entropy_top(tokens: TokenStatistics, options: EntropyTopOptions) -> torch.Tensor:
    """1 for the ``share`` of trained tokens with the highest entropy, else 0 (Wang et al. 2025, sec. 5).

    The paper takes the share of a micro-batch; here it is of each group, so that splitting a step otherwise changes
    nothing. At least one token per group is kept, and all that are as uncertain as the last one.
    """
    if tokens.entropy is None:
        raise ValueError("entropy_top needs the entropy of every token")
    entropy = tokens.entropy.detach()
    weights = torch.zeros_like(entropy)
    for group in torch.unique(tokens.group).tolist():
        mine = (tokens.group == group) & tokens.trained
        values = entropy[mine]
        if len(values):
            # Not ceil of the product as it comes: 0.28 * 25 is a little more than 7.
            kept = max(math.ceil(round(options.share * len(values), 9)), 1)
            weights[mine] = (values >= values.topk(kept).values[-1]).to(weights.dtype)
    return weights


@WEIGHTERS.register("entropy_mean_one")
@requires("entropy", "group_ids")
def entropy_mean_one(tokens: TokenStatistics, options: EntropyMeanOneOptions) -> torch.Tensor:
    """``v / mean(v)`` with ``v = max(minmax_t(H), floor)``, extremes and mean over the trained tokens of a sequence.

    The element weights of Stream-R1 2026 (arXiv 2605.03849: min-max, floor, mean 1), with the entropy of a token in
    place of the saliency of a reward model. Their mean is 1, so the step is no longer than without, unlike with
    ``tw_grpo``. All are 1 where the entropies of a sequence are equal; tokens that are not trained on have 0.
    """
    if tokens.entropy is None:
        raise ValueError("entropy_mean_one needs the entropy of every token")
    count, index_T = reindex(tokens.sequence)
    value, trained = tokens.entropy.detach(), tokens.trained
    low = value.new_full((count,), float("inf")).scatter_reduce(0, index_T[trained], value[trained], "amin")[index_T]
    high = value.new_full((count,), float("-inf")).scatter_reduce(0, index_T[trained], value[trained], "amax")[index_T]
    scaled = torch.where(high > low, (value - low) / (high - low).clamp_min(torch.finfo(value.dtype).tiny), 1.0)
    floored = torch.where(trained, scaled.clamp_min(options.floor), 0.0)
    number = sum_by(trained.to(value.dtype), index_T, count)
    mean = sum_by(floored, index_T, count) / number.clamp_min(1)
    return floored / torch.where(mean > 0, mean, 1.0)[index_T]


#: Logits that ``position_divergence`` has temporaries of at once.
SLICE_LOGITS = 1 << 22


def position_divergence(
    logits_GCV: torch.Tensor, alive_GC: torch.Tensor, *, clamp: float = 11.0, slice_logits: int = SLICE_LOGITS
) -> torch.Tensor:
    """How differently the G responses of a group predict, at C positions: ``(C,)``.

    ``D_t = mean_g sum_v (exp(d) - d - 1)`` with ``d = clamp(m_t(v) - l_{g,t}(v))``, ``l`` the log-probabilities and
    ``m`` their mean over the group (Dang et al. 2025, TW-GRPO; stated there as a KL divergence, which it is not: tokens
    are not weighted with their probability, and ``m`` is no distribution). Where no clamp acts this is
    ``mean_g sum_v exp(m - l) - V``, so that improbable tokens dominate it.

    Positions do not mix: call it for some at a time. The vocabulary is gone through in slices, so that the memory
    beyond the logits themselves is a few times ``slice_logits``, whatever ``G C V`` is.

    Args:
        logits_GCV: of each response at each position; ``-inf`` excludes a token, for all alike.
        alive_GC: bool, false where a response has ended; it counts as uniform there.
        clamp: bound on the size of ``d``.
        slice_logits: logits in a slice of the vocabulary; it changes no more than the order of sums.
    """
    size = max(slice_logits // max(alive_GC.numel(), 1), 1)
    alive = alive_GC[..., None]
    normaliser = count = None
    for part in torch.split(logits_GCV, size, -1):
        allowed = _allowed(part, alive)
        # Where a response has ended its logits may be anything; its normaliser is not read.
        found = torch.logsumexp(part.masked_fill(~allowed, float("-inf")), -1, keepdim=True)
        normaliser = found if normaliser is None else torch.logaddexp(normaliser, found)
        number = allowed.sum(-1, keepdim=True)
        count = number if count is None else count + number
    if normaliser is None or count is None:
        return logits_GCV.new_zeros(logits_GCV.shape[1])
    uniform = -count.to(logits_GCV.dtype).log()
    total = logits_GCV.new_zeros(logits_GCV.shape[1])
    for part in torch.split(logits_GCV, size, -1):
        allowed = _allowed(part, alive)
        log = torch.where(alive, part - normaliser, uniform).masked_fill(~allowed, 0.0)
        d = (log.mean(0, keepdim=True) - log).clamp(-clamp, clamp)
        total += (d.exp() - d - 1).masked_fill(~allowed, 0.0).sum(-1).mean(0)
    return total


def _allowed(part_GCS: torch.Tensor, alive_GC1: torch.Tensor) -> torch.Tensor:
    """Which tokens of a slice no living response excludes, bool ``(1, C, S)``."""
    return ((part_GCS != float("-inf")) | ~alive_GC1).all(0, keepdim=True)
