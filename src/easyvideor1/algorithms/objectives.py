"""Objectives: what one micro-batch adds to the loss.

An objective is ``(batch: TokenBatch, options: StageConfig) -> (loss, metrics)``. ``batch.mean`` weights every token by
its share of the **whole** optimisation step, so micro-batches sum to the step's loss however it is split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.config import StageConfig
from easyvideor1.registry import Registry


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The T response tokens of one micro-batch; all tensors are ``(T,)``.

    ``logprobs`` carry the gradient. ``old_logprobs`` are of the policy that the ratio is taken against,
    ``ref_logprobs`` of the reference policy (``None`` when no KL is asked for). ``sequence`` numbers sequences over the
    whole step. ``weights`` are zero for tokens that are not learnt and sum to 1 over the whole step.
    """

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    ref_logprobs: torch.Tensor | None
    advantages: torch.Tensor
    sequence: torch.Tensor
    weights: torch.Tensor

    def mean(self, values_T: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of the step's weighted mean."""
        # where, not multiplication alone: an infinite value of a token that is not learnt must not become NaN. (Its
        # gradient would be NaN even so: whoever fills the batch keeps log-probabilities of such tokens finite.)
        return (torch.where(self.weights > 0, values_T, 0.0) * self.weights).sum()


Metrics = Mapping[str, torch.Tensor]
Objective = Callable[[TokenBatch, StageConfig], tuple[torch.Tensor, Metrics]]

OBJECTIVES: Registry[Objective] = Registry("objective")


def token_weights(learn_T: torch.Tensor, sequence_T: torch.Tensor, aggregation: str) -> torch.Tensor:
    """Weights ``(T,)`` over all response tokens of a step; they sum to 1 (to 0 if nothing is learnt).

    ``token``: every learnt token counts the same (DAPO, Yu et al. 2025, eq. 8). ``sequence``: every sequence counts the
    same, its tokens share (GRPO, Shao et al. 2024, eq. 3).

    Raises:
        ValueError: there is no such aggregation.
    """
    learn = learn_T.to(torch.float32)
    if aggregation == "token":
        return learn / learn.sum().clamp_min(1)
    if aggregation == "sequence":
        sequences = int(sequence_T.max()) + 1 if len(sequence_T) else 0
        length = learn.new_zeros(sequences).index_add(0, sequence_T, learn)
        return learn / (length[sequence_T].clamp_min(1) * (length > 0).sum().clamp_min(1))
    raise ValueError(f"unknown aggregation {aggregation!r}: token or sequence")


@OBJECTIVES.register("ppo_clip")
def ppo_clip(batch: TokenBatch, options: StageConfig) -> tuple[torch.Tensor, Metrics]:
    """``-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)``, with ``rho = exp(logprob - old)``.

    Schulman et al. 2017, eq. 7; separate clip ranges from DAPO (Yu et al. 2025, eq. 10). The log-ratio is clamped to
    20 in size.
    """
    ratio = (batch.logprobs - batch.old_logprobs).clamp(-20.0, 20.0).exp()
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    surrogate = torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
    loss = -batch.mean(surrogate)
    metrics = {
        "policy/clip_fraction": batch.mean((surrogate < ratio * batch.advantages).float()),
        "policy/ratio": batch.mean(ratio),
    }
    return _add_kl(loss, metrics, batch, options)


@OBJECTIVES.register("reinforce")
def reinforce(batch: TokenBatch, options: StageConfig) -> tuple[torch.Tensor, Metrics]:
    """``-A log pi``: the plain policy gradient (Williams 1992), on-policy only."""
    return _add_kl(-batch.mean(batch.advantages * batch.logprobs), {}, batch, options)


@OBJECTIVES.register("sft")
def sft(batch: TokenBatch, options: StageConfig) -> tuple[torch.Tensor, Metrics]:
    """Negative log-likelihood of the trajectories, weighted by their advantages (``ones`` for plain SFT)."""
    return _add_kl(-batch.mean(batch.advantages * batch.logprobs), {}, batch, options)


def _add_kl(
    loss: torch.Tensor, metrics: dict[str, torch.Tensor], batch: TokenBatch, options: StageConfig
) -> tuple[torch.Tensor, Metrics]:
    if batch.ref_logprobs is None or options.kl == "none":
        return loss, metrics
    kl = batch.mean(kl_estimate(options.kl, batch.logprobs, batch.ref_logprobs))
    return loss + options.kl_coef * kl, {**metrics, "policy/kl": kl}
