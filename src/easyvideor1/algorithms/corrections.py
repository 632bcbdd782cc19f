"""Corrections of the distance between the engine that wrote a response and the trainer that learns from it.

The same weights give different probabilities in two programs, so that a sampled response is not quite on-policy. A
correction is ``(trainer_T, engine_T, sequence_T, options) -> (weights_T, metrics_T)``: log-probabilities of the
sampled tokens by either, no gradient, NaN in ``engine_T`` where unknown or not trained on. ``weights_T`` multiply the
tokens' weights in the loss; they are 1 where nothing is known. ``metrics_T`` are values per token for the caller to
average. With ``rho = exp(trainer - engine)`` per token:
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.sequences import reindex, sum_by
from easyvideor1.config.algorithms import CorrectionOptions, MaskOptions, TruncationOptions
from easyvideor1.registry import Registry

Correction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]

CORRECTIONS: Registry[Correction] = Registry("correction")

#: Log-ratios of whole sequences are cut to this size before the exponential.
_LIMIT = 20.0


def _log_ratio(trainer_T: torch.Tensor, engine_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``trainer - engine`` with 0 where the engine's is unknown, and where it is known, ``(T,)`` each."""
    known = ~engine_T.isnan()
    return torch.where(known, trainer_T.detach() - engine_T, 0.0), known


def _by_sequence(log_T: torch.Tensor, known_T: torch.Tensor, sequence_T: torch.Tensor, *, mean: bool) -> torch.Tensor:
    """The sum, or the mean over known tokens, of each token's sequence, ``(T,)``."""
    count, index_T = reindex(sequence_T)
    total = sum_by(log_T, index_T, count)
    if mean:
        total = total / sum_by(known_T.to(log_T.dtype), index_T, count).clamp_min(1)
    return total[index_T]


def _outcome(weights_T: torch.Tensor, changed_T: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return weights_T, {
        "mismatch/weight": weights_T,
        "mismatch/corrected": changed_T.to(weights_T.dtype),
    }


@CORRECTIONS.register("none")
def none(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: CorrectionOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """``1``: the distance is left alone."""
    return torch.ones_like(trainer_T.detach()), {}


@CORRECTIONS.register("tis")
@requires("engine_logprobs")
def tis(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: TruncationOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """``min(rho, cap)`` per token: truncated importance sampling (Yao et al. 2025; Ionides 2008)."""
    ratio = _log_ratio(trainer_T, engine_T)[0].clamp(-_LIMIT, _LIMIT).exp()
    return _outcome(ratio.clamp_max(options.cap), ratio > options.cap)


@CORRECTIONS.register("tis_sequence")
@requires("engine_logprobs", "sequence_ids")
def tis_sequence(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: TruncationOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """``min(prod_t rho_t, cap)`` for all tokens of a sequence: its own importance weight, truncated.

    Unbiased but for the truncation, where weights per token are not; its spread grows with the length (Liu, Li et al.
    2025, on the mismatch of rollout and training).
    """
    log_T, known_T = _log_ratio(trainer_T, engine_T)
    ratio = _by_sequence(log_T, known_T, sequence_T, mean=False).clamp(-_LIMIT, _LIMIT).exp()
    return _outcome(ratio.clamp_max(options.cap), ratio > options.cap)


@CORRECTIONS.register("icepop")
@requires("engine_logprobs")
def icepop(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: MaskOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """``rho`` where ``low <= rho <= high``, else 0, per token (Ling Team 2025, IcePop)."""
    ratio = _log_ratio(trainer_T, engine_T)[0].clamp(-_LIMIT, _LIMIT).exp()
    outside = (ratio < options.low) | (ratio > options.high)
    return _outcome(ratio.masked_fill(outside, 0.0), outside)


@CORRECTIONS.register("sequence_mask")
@requires("engine_logprobs", "sequence_ids")
def sequence_mask(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: MaskOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """``prod_t rho_t`` if it lies within ``low`` and ``high``, else 0, for the whole sequence.

    Masked importance sampling of sequences (Liu, Li et al. 2025): a response that the trainer would hardly have written
    is left out, not trained on with a cut weight.
    """
    log_T, known_T = _log_ratio(trainer_T, engine_T)
    ratio = _by_sequence(log_T, known_T, sequence_T, mean=False).clamp(-_LIMIT, _LIMIT).exp()
    outside = (ratio < options.low) | (ratio > options.high)
    return _outcome(ratio.masked_fill(outside, 0.0), outside)


@CORRECTIONS.register("geometric_mask")
@requires("engine_logprobs", "sequence_ids")
def geometric_mask(
    trainer_T: torch.Tensor, engine_T: torch.Tensor, sequence_T: torch.Tensor, options: MaskOptions
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """1 if ``(prod_t rho_t)^(1 / |y|)`` lies within ``low`` and ``high``, else 0, per sequence.

    A mask alone, by a criterion that does not grow with the length (the geometric ratio of Liu, Li et al. 2025, on the
    mismatch of rollout and training). Bounds near 1, such as 0.99 and 1.01, make sense.
    """
    log_T, known_T = _log_ratio(trainer_T, engine_T)
    ratio = _by_sequence(log_T, known_T, sequence_T, mean=True).clamp(-_LIMIT, _LIMIT).exp()
    outside = (ratio < options.low) | (ratio > options.high)
    return _outcome(torch.where(outside, 0.0, 1.0).to(ratio.dtype), outside)
