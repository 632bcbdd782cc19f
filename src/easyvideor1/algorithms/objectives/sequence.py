"""Objectives of whole sequences.

They read a sequence's terms together, which holds in every micro-batch because a sequence is never split between
micro-batches. ``aggregation: sequence`` makes the mean over sequences of the papers; within a sequence only trained
tokens count.
"""

from __future__ import annotations

import torch

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.objectives.contract import (
    LOG_RATIO,
    OBJECTIVES,
    Metrics,
    TokenBatch,
    log_ratio,
    missing_field,
)
from easyvideor1.algorithms.sequences import first_by, reindex, sum_by
from easyvideor1.config.algorithms import ClipOptions, RegGRPOOptions


def _mean_log_ratio(batch: TokenBatch) -> torch.Tensor:
    """The mean log-ratio of each token's sequence, ``(T,)``."""
    count, index_T = reindex(batch.sequence)
    length = sum_by(batch.trained.to(batch.logprobs.dtype), index_T, count).clamp_min(1)
    return (sum_by(log_ratio(batch), index_T, count) / length)[index_T]


def _clipped(
    ratio: torch.Tensor, batch: TokenBatch, options: ClipOptions
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    plain = ratio * batch.advantages
    surrogate = torch.minimum(plain, ratio.clamp(1 - options.clip_low, 1 + options.clip_high) * batch.advantages)
    clip_fraction = batch.report((surrogate < plain).to(ratio.dtype))
    return -surrogate, {"policy/clip_fraction": clip_fraction, "policy/ratio": batch.report(ratio)}


@OBJECTIVES.register("gspo")
@requires("sequence_ids")
def gspo(batch: TokenBatch, options: ClipOptions) -> tuple[torch.Tensor, Metrics]:
    """``-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A)`` with ``s = (pi(y) / old(y))^(1 / |y|)``, per sequence.

    Zheng et al. 2025, GSPO, sec. 4.1.
    """
    ratio = _mean_log_ratio(batch).clamp(-LOG_RATIO, LOG_RATIO).exp()
    values_T, metrics = _clipped(ratio, batch, options)
    return batch.mean(values_T), metrics


@OBJECTIVES.register("gspo_token")
@requires("sequence_ids")
def gspo_token(batch: TokenBatch, options: ClipOptions) -> tuple[torch.Tensor, Metrics]:
    """``-min(s_t A_t, clip(s_t) A_t)`` with ``s_t = stop(s) pi_t / stop(pi_t)`` (Zheng et al. 2025, GSPO, sec. 4.3).

    The value is that of ``gspo``, and so is the gradient where a sequence has one advantage; here every token may have
    its own.
    """
    mean = _mean_log_ratio(batch).detach().clamp(-LOG_RATIO, LOG_RATIO)
    ratio = mean.exp() * torch.where(batch.trained, batch.logprobs - batch.logprobs.detach(), 0.0).exp()
    values_T, metrics = _clipped(ratio, batch, options)
    return batch.mean(values_T), metrics


@OBJECTIVES.register("gmpo")
@requires("sequence_ids")
def gmpo(batch: TokenBatch, options: ClipOptions) -> tuple[torch.Tensor, Metrics]:
    """``-A (prod_t rho'_t)^(1 / |y|)``: the geometric mean of clipped ratios (Zhao et al. 2025, GMPO, sec. 3).

    ``rho'_t`` is the one of ``rho_t`` and ``clip(rho_t, exp(-clip_low), exp(clip_high))`` that makes the objective
    smaller: the smaller where ``A > 0``, the larger where ``A < 0``. The clip range is in the logarithm; the paper
    takes 0.4 for both sides.
    """
    log = log_ratio(batch)
    clipped = log.clamp(-options.clip_low, options.clip_high)
    held = torch.where(batch.advantages >= 0, torch.minimum(log, clipped), torch.maximum(log, clipped))
    count, index_T = reindex(batch.sequence)
    length = sum_by(batch.trained.to(log.dtype), index_T, count).clamp_min(1)
    mean = (sum_by(held, index_T, count) / length).clamp(-LOG_RATIO, LOG_RATIO)
    ratio = mean.exp()[index_T]
    metrics = {
        "policy/clip_fraction": batch.report((held != log).to(log.dtype)),
        "policy/ratio": batch.report(ratio),
    }
    return batch.mean(-batch.advantages * ratio), metrics


@OBJECTIVES.register("reg_grpo")
@requires("sequence_ids", "group_ids")
def reg_grpo(batch: TokenBatch, options: RegGRPOOptions) -> tuple[torch.Tensor, Metrics]:
    """``(A - z)^2`` with ``z = (R - mean(R)) / sqrt(var(R) + floor^2)`` over the group, per sequence.

    ``R = log pi(y) - log old(y)`` is the log-ratio of a whole response, ``A`` the group-normalised reward (``grpo``).
    After Park et al. 2025, DeepVideo-R1 (Reg-GRPO), which divides by the group's deviation alone.

    At the start of a step all ``R`` are 0 and so is their deviation: the quotient is 0 / 0, and just beside it the
    gradient is without bound. ``floor`` (nats) keeps it finite. At that point ``z = 0`` and the gradient of
    the loss is that of ``-2 A R / floor``: sequence-level REINFORCE, twice as steep over the floor. Far from it
    (``std(R)`` well above the floor) it is the paper's form. With one update per rollout the start is where every
    step is made, unless ``old_logprobs: engine`` says otherwise; this floor is ours, not the paper's.

    A group of one has ``z = 0`` and no gradient. Sequences without trained tokens are in neither mean nor variance.
    """
    if batch.group is None:
        raise missing_field("group_ids", "objective: reg_grpo")
    count, index_T = reindex(batch.sequence)
    log_S = sum_by(log_ratio(batch), index_T, count)
    groups, group_S = reindex(first_by(batch.group, index_T, count))
    # A sequence without trained tokens has a log-ratio of 0 that says nothing; it would move mean and variance.
    trained_S = (sum_by(batch.trained.to(log_S.dtype), index_T, count) > 0).to(log_S.dtype)
    size = sum_by(trained_S, group_S, groups)
    centred = (log_S - (sum_by(log_S, group_S, groups) / size.clamp_min(1))[group_S]) * trained_S
    variance = sum_by(centred.square(), group_S, groups) / (size - 1).clamp_min(1)
    # The root of variance plus floor has a gradient everywhere; that of the variance alone has none at 0.
    fitted = (centred / (variance[group_S] + options.floor**2).sqrt())[index_T]
    loss = batch.mean((batch.advantages - fitted).square())
    metrics = {"policy/log_ratio": batch.report(log_S[index_T]), "policy/fitted": batch.report(fitted.abs())}
    return loss, metrics
