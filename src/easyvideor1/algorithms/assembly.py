"""From a stage's options to what its algorithms are given."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.needs import NEEDS, needs_of
from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch, pairs_within, ratio_base
from easyvideor1.algorithms.weighters import WEIGHTERS, TokenStatistics
from easyvideor1.config import StageConfig
from easyvideor1.types import ConfigError


def stage_needs(options: StageConfig) -> frozenset[str]:
    """What a stage's algorithms need of the models and the rollout together, as names of ``NEEDS``.

    With ``kl_in: reward`` the KL, and with ``values`` the values, are needed before advantages are computed.

    Raises:
        ConfigError: a name in the options means nothing.
    """
    needs = needs_of(ADVANTAGES.resolve(options.advantage)) | needs_of(OBJECTIVES.resolve(options.objective))
    needs |= needs_of(WEIGHTERS.resolve(options.weighter)) | needs_of(CORRECTIONS.resolve(options.correction))
    if options.kl != "none":
        needs |= {"full_kl" if options.kl == "full" else "ref_logprobs"}
    if options.entropy_coef > 0:
        needs |= {"entropy"}
    if options.off_policy != "none":
        needs |= {"offline"}
    if options.off_policy == "importance" or options.old_logprobs == "engine":
        needs |= {"engine_logprobs"}
    return needs


def check_needs(options: StageConfig, provided: AbstractSet[str]) -> None:
    """Refuse a stage that asks for more than its caller can give, before anything is trained.

    Raises:
        ConfigError: a need is not among ``provided`` (names of ``NEEDS``), or a name in the options means nothing.
    """
    absent = sorted(stage_needs(options) - provided)
    if absent:
        raise ConfigError(
            f"stages.{options.name} (advantage {options.advantage}, objective {options.objective}, weighter "
            f"{options.weighter}, correction {options.correction}, kl {options.kl}) needs {NEEDS[absent[0]]}, which "
            "cannot be had here; choose others (docs/algorithms.md)"
        )


def token_batch(
    options: StageConfig,
    *,
    logprobs: torch.Tensor,
    engine_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    sequence: torch.Tensor,
    weights: torch.Tensor,
    total_weight: float = 1.0,
    group: torch.Tensor | None = None,
    ref_logprobs: torch.Tensor | None = None,
    full_kl: torch.Tensor | None = None,
    entropy: torch.Tensor | None = None,
    divergence: torch.Tensor | None = None,
    offline: torch.Tensor | None = None,
    step_pairs: torch.Tensor | None = None,
    kl_coef: float | None = None,
    rollout_logprobs: torch.Tensor | None = None,
) -> tuple[TokenBatch, dict[str, torch.Tensor]]:
    """A micro-batch for an objective: ratio base, token weighter and mismatch correction applied.

    All tensors are ``(T,)`` but ``step_pairs``, the ``pairs_of`` of the whole step; fields are those of ``TokenBatch``.

    Args:
        options: of the stage.
        logprobs: with gradient; finite where a token is learnt, anything elsewhere.
        engine_logprobs: that came with the responses, NaN where unknown.
        advantages: per token.
        sequence: number of the sequence in the step.
        weights: ``token_weights`` of the step's aggregation.
        total_weight: their sum over the step.
        group: number of the group in the step.
        ref_logprobs: of the reference.
        full_kl: ``full_kl`` with gradient.
        entropy: with gradient if there is an entropy bonus.
        divergence: ``position_divergence`` at each token's position.
        offline: bool, tokens of offline responses.
        step_pairs: int64 ``(K, 2)``.
        kl_coef: an adaptive weight of the KL.
        rollout_logprobs: of the trainer as it was when the rollout was made; ``logprobs`` themselves if not given, as
            where one optimiser step follows each rollout.

    Returns:
        The batch, and this micro-batch's part of the metrics of the correction.

    Raises:
        ConfigError: a name in the options means nothing.
        ValueError: the weighter lacks something that it needs.
    """
    learnt = weights > 0
    logprobs = torch.where(learnt, logprobs, 0.0)
    current = logprobs.detach() if rollout_logprobs is None else torch.where(learnt, rollout_logprobs, 0.0)
    tokens = None if group is None else TokenStatistics(sequence, group, learnt, entropy, divergence)
    # Offline responses are of no engine; what makes them learnable is off_policy's affair.
    engine = engine_logprobs.masked_fill(~learnt if offline is None else ~learnt | offline, float("nan"))
    factors, metrics_T = _factors(options, tokens, current, engine, sequence)
    pairs = pair_weights = None
    if step_pairs is not None:
        pairs, pair_weights = pairs_within(step_pairs, sequence)
    batch = TokenBatch(
        logprobs=logprobs,
        old_logprobs=ratio_base(options, current, engine_logprobs.masked_fill(~learnt, float("nan")), offline),
        ref_logprobs=None if ref_logprobs is None else torch.where(learnt, ref_logprobs, 0.0),
        advantages=advantages,
        sequence=sequence,
        weights=weights if factors is None else weights * factors.to(weights.dtype),
        base_weights=None if factors is None else weights,
        total_weight=total_weight,
        group=group,
        entropy=entropy,
        full_kl=full_kl,
        offline=offline,
        pairs=pairs,
        pair_weights=pair_weights,
        kl_coef=kl_coef,
    )
    return batch, {name: batch.report(value) for name, value in metrics_T.items()}


def _factors(
    options: StageConfig,
    tokens: TokenStatistics | None,
    trainer_T: torch.Tensor,
    engine_T: torch.Tensor,
    sequence_T: torch.Tensor,
) -> tuple[torch.Tensor | None, Mapping[str, torch.Tensor]]:
    """What weighter and correction multiply the weights with, ``None`` if neither is asked for; metrics per token."""
    factors = None
    if options.weighter != "none":
        if tokens is None:
            raise ValueError(f"weighter {options.weighter} needs the group of every token")
        factors = WEIGHTERS.resolve(options.weighter)(tokens, options)
    if options.correction == "none":
        return factors, {}
    corrected, metrics_T = CORRECTIONS.resolve(options.correction)(trainer_T, engine_T, sequence_T, options)
    return corrected if factors is None else factors * corrected, metrics_T
