"""Objectives of single tokens, and the loss of a critic."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.objectives.contract import (
    LOG_RATIO,
    OBJECTIVES,
    Metrics,
    TokenBatch,
    luffy_shaped,
    missing_field,
    token_objective,
)
from easyvideor1.config.algorithms import ClipOptions, DualClipOptions, LuffyOptions, ObjectiveOptions, SAPOOptions
from easyvideor1.config.stage_sections import CriticConfig


def _ratio(batch: TokenBatch) -> torch.Tensor:
    return (batch.logprobs - batch.old_logprobs).clamp(-LOG_RATIO, LOG_RATIO).exp()


def clipped_surrogate(batch: TokenBatch, options: DualClipOptions) -> tuple[torch.Tensor, Metrics]:
    """Loss and metrics per token of ``ppo_clip``."""
    ratio = _ratio(batch)
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    surrogate = torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
    metrics = {
        "policy/clip_fraction": (surrogate < ratio * batch.advantages).to(ratio.dtype),
        "policy/ratio": ratio,
    }
    if options.clip_dual is not None:
        bound = options.clip_dual * batch.advantages
        beyond = (batch.advantages < 0) & (surrogate < bound)
        surrogate = torch.where(beyond, bound, surrogate)
        metrics["policy/dual_clip_fraction"] = beyond.to(ratio.dtype)
    return -surrogate, metrics


@OBJECTIVES.register("ppo_clip")
@token_objective
def ppo_clip(batch: TokenBatch, options: DualClipOptions) -> tuple[torch.Tensor, Metrics]:
    """``-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)``.

    Schulman et al. 2017, PPO, eq. 7; separate ranges from DAPO (Yu et al. 2025, eq. 10). With ``clip_dual = c`` and
    ``A < 0`` the loss is at most ``-c A`` (dual clip, Ye et al. 2020), so that a token that has become much more
    likely since the rollout does not tear the policy away.
    """
    return clipped_surrogate(batch, options)


@OBJECTIVES.register("luffy")
@token_objective
@requires("offline")
def luffy(batch: TokenBatch, options: LuffyOptions) -> tuple[torch.Tensor, Metrics]:
    """``ppo_clip`` for the policy's own tokens; ``-A p / (p + gamma)`` for offline ones (Yan et al. 2025, LUFFY).

    The same as ``objective: ppo_clip`` with ``off_policy: luffy``.
    """
    values_T, metrics = clipped_surrogate(batch, options)
    return luffy_shaped(values_T, batch, options.gamma), metrics


@OBJECTIVES.register("cispo")
@token_objective
def cispo(batch: TokenBatch, options: ClipOptions) -> tuple[torch.Tensor, Metrics]:
    """``-stop(clip(rho, 1 - clip_low, 1 + clip_high)) A log pi`` (MiniMax 2025, MiniMax-M1, sec. 3.1).

    The weight is clipped, not the update: every token keeps a gradient. The paper has no lower bound
    (``clip_low: 1``).
    """
    ratio = _ratio(batch).detach()
    weight = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    metrics = {"policy/clip_fraction": (weight != ratio).to(ratio.dtype), "policy/ratio": ratio}
    return -weight * batch.advantages * batch.logprobs, metrics


@OBJECTIVES.register("sapo")
@token_objective
def sapo(batch: TokenBatch, options: SAPOOptions) -> tuple[torch.Tensor, Metrics]:
    """``-(4 / tau) sigmoid(tau (rho - 1)) A`` (Gao et al. 2025, SAPO, sec. 3).

    ``tau`` is ``tau_positive`` where ``A > 0``, else ``tau_negative``. At ``rho = 1`` the slope is ``A``, as without
    any clipping, and it fades smoothly to both sides.
    """
    ratio = _ratio(batch)
    tau = torch.where(batch.advantages > 0, options.tau_positive, options.tau_negative).to(ratio.dtype)
    gate = torch.sigmoid(tau * (ratio - 1)) * 4 / tau
    return -gate * batch.advantages, {"policy/ratio": ratio}


@OBJECTIVES.register("reinforce")
@token_objective
def reinforce(batch: TokenBatch, options: ObjectiveOptions) -> tuple[torch.Tensor, Metrics]:
    """``-A log pi``: the plain policy gradient (Williams 1992), on-policy only."""
    return -batch.advantages * batch.logprobs, {}


@requires("values")
def value_loss(batch: TokenBatch, options: CriticConfig) -> tuple[torch.Tensor, Metrics]:
    """``max((V - G)^2, (V_old + clip(V - V_old, -c, c) - G)^2) / 2`` per token, ``c = value_clip``.

    ``G`` are the returns of ``generalized_advantages``. Schulman et al. 2016 (GAE, sec. 5) for the regression; the
    clipping is that of the reference implementation of PPO (Engstrom et al. 2020, sec. 3). Without ``value_clip`` it is
    the plain squared error. An objective of the critic: it shares ``TokenBatch`` with those of the policy, and adds
    neither KL nor entropy.
    """
    if batch.values is None or batch.returns is None or batch.old_values is None:
        raise missing_field("values", "the loss of the critic")
    error = (batch.values - batch.returns).square()
    metrics = {"critic/value": batch.report(batch.values), "critic/return": batch.report(batch.returns)}
    clip = options.value_clip
    if clip is not None:
        near = batch.old_values + (batch.values - batch.old_values).clamp(-clip, clip)
        clipped = (near - batch.returns).square()
        metrics["critic/clip_fraction"] = batch.report((clipped > error).to(error.dtype))
        error = torch.maximum(error, clipped)
    loss = batch.plain_mean(error) / 2
    return loss, {**metrics, "critic/loss": loss.detach()}
