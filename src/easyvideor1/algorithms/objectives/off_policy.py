"""Offline responses in on-policy groups: what their tokens add to the loss."""

from __future__ import annotations

import math

import torch

from easyvideor1.algorithms.objectives.batch import TokenBatch, missing
from easyvideor1.config import StageConfig
from easyvideor1.config.algorithms import LuffyShaping, OfflineSFT, OffPolicyOptions


def off_policy_loss(options: OffPolicyOptions, values_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The loss per token ``(T,)`` with that of offline tokens replaced.

    - ``none``: nothing is replaced. Where old log-probs are the trainer's own, the ratio of an offline token starts
      at 1 whoever wrote it, so that it is learnt like an example, weighted with its advantage (what EasyVideoR1 did).
    - ``importance``: nothing is replaced either; ``old_logprobs`` of these tokens are those of the policy that wrote
      them (``ratio_base``), so that the ratio is the true one and clipped as all others (Precup et al. 2000, per
      decision, under PPO's clipping).
    - ``luffy``: ``-A f(p)`` with ``f(p) = p / (p + gamma)``, ``p`` the token's probability, no clipping (Yan et al.
      2025, LUFFY, policy shaping). Its slope in ``log p`` is ``gamma p / (p + gamma)^2``: largest at ``p = gamma``,
      where the slope without shaping, ``p``, is small.
    - ``sft``: ``-coef * log p``, whatever the advantage: a term of imitation beside the policy gradient
      (after Rajeswaran et al. 2018, DAPG, where it also decays).

    Raises:
        ValueError: the batch does not say which tokens are offline.
    """
    if isinstance(options, LuffyShaping):
        return luffy_shaped(values_T, batch, options.gamma)
    if isinstance(options, OfflineSFT):
        return torch.where(_offline(batch, "off_policy: sft"), -options.coef * batch.logprobs, values_T)
    return values_T


def luffy_shaped(values_T: torch.Tensor, batch: TokenBatch, gamma: float) -> torch.Tensor:
    """The loss per token with ``-A p / (p + gamma)`` for offline tokens (LUFFY); see ``off_policy_loss``."""
    # p / (p + gamma) = sigmoid(log p - log gamma), which does not lose small p to rounding.
    shaped = torch.sigmoid(batch.logprobs - math.log(gamma))
    return torch.where(_offline(batch, "luffy"), -batch.advantages * shaped, values_T)


def _offline(batch: TokenBatch, who: str) -> torch.Tensor:
    if batch.offline is None:
        raise missing("offline", who)
    return batch.offline


def ratio_base(
    options: StageConfig, current_T: torch.Tensor, engine_T: torch.Tensor, offline_T: torch.Tensor | None = None
) -> torch.Tensor:
    """The log-probabilities ``(T,)`` that ratios are taken against: ``TokenBatch.old_logprobs``.

    Those of the policy's own tokens are ``current_T``, or with ``old_logprobs: engine`` the engine's (Schulman et al.
    2017, PPO, sec. 3, where they are of the policy that wrote the response). Those of offline tokens are the ones that
    came with them under ``off_policy: importance`` alone; else their ratio starts at 1, whoever wrote them.

    Args:
        options: ``old_logprobs`` and ``off_policy`` decide.
        current_T: the trainer's own, without gradient.
        engine_T: those that came with the responses; NaN where unknown, and there ``current_T`` is taken.
        offline_T: bool, tokens of offline responses; ``None`` if there are none.
    """
    offline = torch.zeros_like(engine_T, dtype=torch.bool) if offline_T is None else offline_T
    taken = torch.zeros_like(offline)
    if options.old_logprobs == "engine":
        taken |= ~offline
    if options.off_policy.name == "importance":
        taken |= offline
    return torch.where(taken & ~engine_T.isnan(), engine_T, current_T)
