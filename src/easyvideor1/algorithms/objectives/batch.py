"""What an objective is given: the response tokens of one micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The T response tokens of one micro-batch; all tensors are ``(T,)`` but where said.

    ``logprobs`` carry the gradient. ``old_logprobs`` are of the policy that the ratio is taken against,
    ``ref_logprobs`` of the reference policy (``None`` when no KL is asked for). ``sequence`` numbers sequences over the
    whole step; a sequence is never split between micro-batches. ``weights`` are zero for tokens that are not learnt;
    over the whole step they sum to 1, before token weighters and corrections multiply them.

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
    def learnt(self) -> torch.Tensor:
        """Which tokens are learnt, whatever a weighter or a correction makes of them."""
        return self.base > 0

    def mean(self, values_T: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of the step's weighted mean."""
        # where, not multiplication alone: an infinite value of a token that is not learnt must not become NaN. (Its
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


def missing(what: str, who: str) -> ValueError:
    """The error of a batch that lacks a field which a stage's options ask for."""
    return ValueError(f"{who} needs {what}, which this batch does not have; stage_needs says what to fill in")


def log_ratio(batch: TokenBatch) -> torch.Tensor:
    """``log(pi / old)`` per token, ``(T,)``; 0 where nothing is learnt."""
    return torch.where(batch.learnt, batch.logprobs - batch.old_logprobs, 0.0)
