"""KL(policy || reference): per token, in the reward, and a weight that steers it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from easyvideor1.config.stage_sections import KLConfig


def kl_estimate(kind: str, logprobs_T: torch.Tensor, ref_logprobs_T: torch.Tensor) -> torch.Tensor:
    """Per-token estimate from sampled tokens, float ``(T,)`` (Schulman 2020, "Approximating KL divergence").

    With ``d = ref - policy`` log-probabilities: ``k1 = -d`` (unbiased), ``k2 = d^2 / 2``, ``k3 = exp(d) - d - 1``
    (unbiased and non-negative; ``d`` is clamped to 20 to keep the exponential finite), ``abs = |d|``, which is no
    estimate of KL but a distance.

    Unbiased is said of the value. As a loss term on the policy's own samples, ``k2`` has the gradient of
    KL(policy || reference) in expectation, ``k3`` that of KL(reference || policy), and ``k1`` none at all.

    Raises:
        ValueError: there is no such estimator.
    """
    d = ref_logprobs_T - logprobs_T
    if kind == "k1":
        return -d
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        d = d.clamp(-20.0, 20.0)
        # exp(d) - 1 in one: beside d = 0 the difference of the two would be rounding, of either sign.
        return (torch.expm1(d) - d).clamp_min(0.0)
    if kind == "abs":
        return d.abs()
    raise ValueError(f"unknown KL estimator {kind!r}: k1, k2, k3 or abs (full is full_kl, of logits)")


def full_kl(logits_TV: torch.Tensor, ref_logits_TV: torch.Tensor) -> torch.Tensor:
    """``sum_v p(v) (log p(v) - log q(v))`` per token, ``(T,)``, nats; ``p`` and ``q`` are the softmax of the logits.

    The divergence itself (Kullback and Leibler 1951), of which ``kl_estimate`` has estimates from one token.
    Tokens that are excluded by a logit of ``-inf`` in both add nothing and get no gradient. Call it for a chunk of
    tokens at a time: it makes a few tensors of the size of ``logits_TV``. Infinite where the reference excludes what
    the policy does not.
    """
    log_p, log_q = torch.log_softmax(logits_TV, -1), torch.log_softmax(ref_logits_TV, -1)
    # Taken out before the subtraction: -inf - -inf is NaN, and so is its gradient however it is masked afterwards.
    excluded = log_p == float("-inf")
    gap = log_p.masked_fill(excluded, 0.0) - log_q.masked_fill(excluded, 0.0)
    return (log_p.exp() * gap).sum(-1)


def reward_with_kl(
    rewards_N: torch.Tensor, kl_T: torch.Tensor, sequence_T: torch.Tensor, trained_T: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """Rewards ``(N,)`` less ``coefficient`` times the KL summed over each sequence's trained tokens.

    ``r - beta sum_t KL_t``. For advantages of whole responses (Ouyang et al. 2022, eq. 2 without its pre-training
    term).
    """
    kl_T = torch.where(trained_T, kl_T.detach(), 0.0).to(rewards_N.dtype)
    return rewards_N - coefficient * torch.zeros_like(rewards_N).index_add(0, sequence_T, kl_T)


def token_rewards(
    rewards_N: torch.Tensor,
    sequence_T: torch.Tensor,
    trained_T: torch.Tensor,
    kl_T: torch.Tensor | None = None,
    coefficient: float = 0.0,
) -> torch.Tensor:
    """Rewards per token, ``(T,)``: ``-coefficient * kl`` at every trained token, the response's own reward at its last.

    For advantages of tokens, such as ``gae`` (Ouyang et al. 2022, eq. 2) and ``reinforce_plus_plus`` (Hu et al. 2025).
    A sequence without a trained token has no place for its reward.
    """
    rewards_T = rewards_N.new_zeros(len(sequence_T))
    if kl_T is not None:
        rewards_T = torch.where(trained_T, -coefficient * kl_T.detach().to(rewards_N.dtype), 0.0)
    order = torch.arange(len(sequence_T), device=sequence_T.device)
    last_N = order.new_full((len(rewards_N),), -1)
    last_N = last_N.scatter_reduce(0, sequence_T[trained_T], order[trained_T], "amax")
    there = last_N >= 0
    return rewards_T.index_add(0, last_N[there], rewards_N[there])


@dataclass(frozen=True, slots=True)
class KLWeight:
    """The weight of the KL term, and all that decides its next value: keep ``coefficient`` to resume exactly."""

    coefficient: float
    adaptive: bool = False
    target: float = 0.1
    horizon: int = 10_000

    @classmethod
    def of(cls, options: KLConfig, coefficient: float | None = None) -> KLWeight:
        """As a stage begins, or as it stood when ``coefficient`` was written down."""
        start = options.coef if coefficient is None else coefficient
        return cls(start, options.control == "adaptive", options.target, options.horizon)


def next_weight(weight: KLWeight, kl: float, sequences: int) -> KLWeight:
    """The weight after a step of ``sequences`` sequences whose mean KL per token was ``kl``.

    ``coefficient *= 1 + clip(kl / target - 1, -0.2, 0.2) * sequences / horizon`` (Ziegler et al. 2019, sec. 2.2, whose
    KL is summed over a response; here it is the mean per token, the metric ``policy/kl``). A fixed weight stays.
    ``sequences / horizon`` counts as 1 at most, which is ours: one step moves the weight by a fifth of itself and no
    more, so that it stays positive however short the horizon is against the step.
    """
    if not weight.adaptive:
        return weight
    error = min(max(kl / weight.target - 1, -0.2), 0.2)
    return replace(weight, coefficient=weight.coefficient * (1 + error * min(sequences / weight.horizon, 1.0)))


@torch.no_grad()
def move_average(average: list[torch.Tensor], current: list[torch.Tensor], decay: float) -> None:
    """``average = decay * average + (1 - decay) * current`` in place, tensor by tensor: an EMA reference.

    Polyak and Juditsky 1992 in its exponential form; as a reference policy Rame et al. 2024, WARP.
    """
    for kept, new in zip(average, current, strict=True):
        kept.lerp_(new.to(kept), 1 - decay)
