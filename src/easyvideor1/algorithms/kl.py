"""Estimators of KL(policy || reference) per token (Schulman 2020, "Approximating KL divergence")."""

from __future__ import annotations

import torch


def kl_estimate(kind: str, logprobs_T: torch.Tensor, ref_logprobs_T: torch.Tensor) -> torch.Tensor:
    """Per-token estimate, float ``(T,)``.

    With ``d = ref - policy`` log-probabilities: ``k1 = -d`` (unbiased), ``k2 = d^2 / 2``, ``k3 = exp(d) - d - 1``
    (unbiased and non-negative; ``d`` is clamped to 20 to keep the exponential finite).

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
        return d.exp() - d - 1
    raise ValueError(f"unknown KL estimator {kind!r}: k1, k2 or k3")
