"""What an objective gives back, and what all of them share: the KL term and the entropy bonus."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch

from easyvideor1.algorithms.kl import kl_estimate
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives.batch import Metrics, TokenBatch, missing
from easyvideor1.algorithms.objectives.off_policy import off_policy_loss
from easyvideor1.config import StageConfig
from easyvideor1.registry import Registry

Objective = Callable[[TokenBatch, StageConfig], tuple[torch.Tensor, Metrics]]

#: The loss of every token, ``(T,)``, and metrics per token, ``(T,)`` each.
TokenLoss = Callable[[TokenBatch, StageConfig], tuple[torch.Tensor, Metrics]]

OBJECTIVES: Registry[Objective] = Registry("objective")


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


def with_regularisers(
    loss: torch.Tensor, metrics: Metrics, batch: TokenBatch, options: StageConfig
) -> tuple[torch.Tensor, Metrics]:
    """The loss with the KL term and the entropy bonus that the stage asks for.

    ``loss + kl_coef * mean(kl) - entropy_coef * mean(entropy)``, with the aggregation's own weights. The KL as a term
    of the loss is that of GRPO (Shao et al. 2024, eq. 3), the entropy bonus that of Williams and Peng 1991.

    Raises:
        ValueError: the batch lacks what one of them is made of.
    """
    metrics = dict(metrics)
    if options.kl != "none" and options.kl_in == "loss":
        kl_T = kl_tokens(batch, options.kl)
        coefficient = options.kl_coef if batch.kl_coef is None else batch.kl_coef
        loss = loss + coefficient * batch.plain_mean(kl_T)
        metrics["policy/kl"] = batch.report(kl_T)
    if options.entropy_coef > 0:
        if batch.entropy is None:
            raise missing("entropy", "entropy_coef")
        loss = loss - options.entropy_coef * batch.plain_mean(batch.entropy)
    return loss, metrics


def token_objective(token_loss: TokenLoss) -> Objective:
    """An objective that is the weighted mean of a loss per token.

    Offline tokens in on-policy groups are learnt as ``off_policy`` says (``off_policy_loss``). The objective has the
    name, the docstring and the needs of ``token_loss``.
    """

    @wraps(token_loss)
    def objective(batch: TokenBatch, options: StageConfig) -> tuple[torch.Tensor, Metrics]:
        values_T, metrics_T = token_loss(batch, options)
        values_T = off_policy_loss(options.off_policy, values_T, batch, options)
        metrics = {name: batch.report(metric_T) for name, metric_T in metrics_T.items()}
        return with_regularisers(batch.mean(values_T), metrics, batch, options)

    objective.needs = needs_of(token_loss)  # type: ignore[attr-defined]
    return objective
