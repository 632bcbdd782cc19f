"""How an objective is called, and what all of them share: offline tokens, the KL term and the entropy bonus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.algorithms.needs import own_options
from easyvideor1.algorithms.objectives.batch import Metrics, TokenBatch, missing
from easyvideor1.algorithms.objectives.off_policy import off_policy_loss
from easyvideor1.config import StageConfig
from easyvideor1.registry import Registry

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
            raise missing("entropy", "entropy_coef")
        loss = loss - options.objective.entropy_coef * batch.plain_mean(batch.entropy)
    return loss, metrics


def kl_tokens(batch: TokenBatch, kind: str) -> torch.Tensor:
    """KL to the reference per token, ``(T,)``, by the estimator of that name.

    Raises:
        ValueError: the batch has no reference, or for ``full`` no KL over the vocabulary.
    """
    if kind == "full":
        if batch.full_kl is None:
            raise missing("full_kl", "kl: full")
        return batch.full_kl
    if batch.ref_logprobs is None:
        raise missing("ref_logprobs", f"kl: {kind}")
    return kl_estimate(kind, batch.logprobs, batch.ref_logprobs)
