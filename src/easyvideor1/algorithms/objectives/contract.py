"""What an objective is given, how it is called, and what all of them share: offline tokens, KL, entropy bonus."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.config import StageConfig
from easyvideor1.config.algorithms import LuffyShaping, OfflineSFT, OffPolicyOptions
from easyvideor1.options import own_options
from easyvideor1.registry import Registry


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The T response tokens of one micro-batch; all tensors are ``(T,)`` but where said.

    ``logprobs`` carry the gradient. ``old_logprobs`` are of the policy that the ratio is taken against,
    ``ref_logprobs`` of the reference policy (``None`` when no KL is asked for). ``sequence`` numbers sequences over the
    whole step; a sequence is never split between micro-batches. ``weights`` are zero for tokens not trained on; over
    the whole step they sum to 1, before token weighters and corrections multiply them.

    The fields below are ``None`` unless a stage needs them (``stage_needs``). ``base_weights`` are the weights before
    that multiplication (``None``: there was none) and ``total_weight`` is their sum over the whole step, 1 but for
    ``aggregation: fixed``. ``group`` numbers groups over the whole step. ``entropy`` carries a gradient if there is a
    bonus. ``full_kl`` is KL over the vocabulary, with gradient. ``values`` of the critic carry a gradient,
    ``old_values`` and ``returns`` none. ``offline`` is bool. ``pairs``, int64 ``(K, 2)``, numbers a better and a worse
    sequence of this micro-batch each, ``pair_weights`` ``(K,)`` sum to 1 over the step. ``kl_coef`` goes before the
    stage's, for an adaptive one.
    """

    logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    ref_logprobs: torch.Tensor | None
    advantages: torch.Tensor
    sequence: torch.Tensor
    weights: torch.Tensor
    base_weights: torch.Tensor | None = None
    total_weight: float = 1.0
    group: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    full_kl: torch.Tensor | None = None
    values: torch.Tensor | None = None
    old_values: torch.Tensor | None = None
    returns: torch.Tensor | None = None
    offline: torch.Tensor | None = None
    pairs: torch.Tensor | None = None
    pair_weights: torch.Tensor | None = None
    kl_coef: float | None = None

    @property
    def base(self) -> torch.Tensor:
        """Every token's share of the step by the aggregation alone."""
        return self.weights if self.base_weights is None else self.base_weights

    @property
    def trained(self) -> torch.Tensor:
        """Which tokens are trained on, whatever a weighter or a correction makes of them."""
        return self.base > 0

    def mean(self, values_T: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of the step's weighted mean."""
        # where, not multiplication alone: an infinite value of a token that is not trained on must not become NaN. (Its
        # gradient would be NaN even so: whoever fills the batch keeps log-probabilities of such tokens finite.)
        return (torch.where(self.weights > 0, values_T, 0.0) * self.weights).sum()

    def plain_mean(self, values_T: torch.Tensor) -> torch.Tensor:
        """The same with the base weights: for terms that are no policy gradient, KL and entropy."""
        return (torch.where(self.base > 0, values_T, 0.0) * self.base).sum()

    def report(self, values_T: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of a metric: a mean with the base weights, which over the step sum to 1 here."""
        return self.plain_mean(values_T.detach()) / self.total_weight


Metrics = Mapping[str, torch.Tensor]

#: Log-ratios are cut to this size: exp(20) is finite in float32.
LOG_RATIO = 20.0


def missing_field(what: str, who: str) -> ValueError:
    """The error of a batch that lacks a field which a stage's options ask for."""
    return ValueError(f"{who} needs {what}, which this batch does not have; stage_needs says what to fill in")


def log_ratio(batch: TokenBatch) -> torch.Tensor:
    """``log(pi / old)`` per token, ``(T,)``; 0 where nothing is trained on."""
    return torch.where(batch.trained, batch.logprobs - batch.old_logprobs, 0.0)


def off_policy_loss(options: OffPolicyOptions, values_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The loss per token ``(T,)`` with that of offline tokens replaced.

    - ``none``: nothing is replaced. Where old log-probs are the trainer's own, the ratio of an offline token starts
      at 1 whoever wrote it: it is trained on like an example, weighted with its advantage (what EasyVideoR1 did).
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
        raise missing_field("offline", who)
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


#: A batch and the objective's own options -> the loss and its metrics, numbers each. With ``@token_objective`` both
#: are per token, ``(T,)``.
Objective = Callable[[TokenBatch, Any], tuple[torch.Tensor, Metrics]]
F = TypeVar("F", bound=Callable[..., Any])

OBJECTIVES: Registry[Objective] = Registry("objective")


def token_objective(function: F) -> F:
    """Decorator that declares of an objective that it returns the loss of every token, and metrics per token.

    The stage's aggregation makes a mean of them, and ``off_policy`` says how offline tokens are trained on.
    """
    function.per_token = True  # type: ignore[attr-defined]
    return function


def objective_loss(
    objective: Objective, batch: TokenBatch, options: StageConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a micro-batch, with the KL term and the entropy bonus that the stage asks for, and metrics.

    ``loss + kl.coef * mean(kl) - entropy_coef * mean(entropy)``, with the aggregation's own weights. The KL as a term
    of the loss is that of GRPO (Shao et al. 2024, eq. 3), the entropy bonus that of Williams and Peng 1991.

    Raises:
        ValueError: the batch lacks what one of them is made of.
    """
    loss, found = objective(batch, own_options(objective, options.objective))
    metrics = dict(found)
    if getattr(objective, "per_token", False):
        loss = batch.mean(off_policy_loss(options.off_policy, loss, batch))
        metrics = {name: batch.report(metric_T) for name, metric_T in metrics.items()}
    if options.kl.estimator != "none" and options.kl.placement == "loss":
        kl_T = kl_tokens(batch, options.kl.estimator)
        coefficient = options.kl.coef if batch.kl_coef is None else batch.kl_coef
        loss = loss + coefficient * batch.plain_mean(kl_T)
        metrics["policy/kl"] = batch.report(kl_T)
    if options.objective.entropy_coef > 0:
        if batch.entropy is None:
            raise missing_field("entropy", "entropy_coef")
        loss = loss - options.objective.entropy_coef * batch.plain_mean(batch.entropy)
    return loss, metrics


def kl_tokens(batch: TokenBatch, kind: str) -> torch.Tensor:
    """KL to the reference per token, ``(T,)``, by the estimator of that name.

    Raises:
        ValueError: the batch has no reference, or for ``full`` no KL over the vocabulary.
    """
    if kind == "full":
        if batch.full_kl is None:
            raise missing_field("full_kl", "kl: full")
        return batch.full_kl
    if batch.ref_logprobs is None:
        raise missing_field("ref_logprobs", f"kl: {kind}")
    return kl_estimate(kind, batch.logprobs, batch.ref_logprobs)
