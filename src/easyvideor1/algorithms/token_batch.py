"""From a stage's options to what its algorithms are given."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES, wants_context
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.needs import NEEDS, needs_of, own_options
from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch, pairs_within, ratio_base
from easyvideor1.algorithms.weighters import WEIGHTERS, TokenStatistics
from easyvideor1.config import BaseConfig, StageConfig
from easyvideor1.types import ConfigError


def stage_needs(options: StageConfig) -> frozenset[str]:
    """What a stage's algorithms need of the models and the rollout together, as names of ``NEEDS``.

    With ``kl.placement: reward`` the KL, and with ``values`` the values, are needed before advantages are computed.

    Raises:
        ConfigError: a name in the options means nothing.
    """
    needs = frozenset[str]().union(*(needs_of(function) for _, _, function in _functions(options)))
    if options.kl.estimator != "none":
        needs |= {"full_kl" if options.kl.estimator == "full" else "ref_logprobs"}
    if options.objective.entropy_coef > 0:
        needs |= {"entropy"}
    if options.off_policy.name != "none":
        needs |= {"offline"}
    if options.off_policy.name == "importance" or options.old_logprobs == "engine":
        needs |= {"engine_logprobs"}
    return needs


def check_needs(options: StageConfig, provided: AbstractSet[str]) -> None:
    """Refuse a stage that asks for more than its caller can give, before anything is trained.

    Raises:
        ConfigError: a need is not among ``provided`` (names of ``NEEDS``), a name in the options means nothing, or the
            options of a function of the user's own are not what it declares.
    """
    for kind, chosen, function in _functions(options):
        own_options(function, chosen, f"stages.{options.name}.{kind}")
    free = options.advantage.model_extra
    if free and not wants_context(ADVANTAGES.resolve(options.advantage.name)):
        raise ConfigError(
            f"stages.{options.name}.advantage.{next(iter(free))}: {options.advantage.name} takes no options; give the "
            "function a third parameter, context, which has them as context.options, or leave out the key"
        )
    absent = sorted(stage_needs(options) - provided)
    if absent:
        raise ConfigError(
            f"stages.{options.name} (advantage {options.advantage.name}, objective {options.objective.name}, weighter "
            f"{options.weighter.name}, correction {options.correction.name}, kl {options.kl.estimator}) needs "
            f"{NEEDS[absent[0]]}, which cannot be had here; choose others (docs/algorithms.md)"
        )


def _functions(options: StageConfig) -> list[tuple[str, BaseConfig, object]]:
    """The key of every algorithm of a stage, its section, and its function."""
    return [
        ("advantage", options.advantage, ADVANTAGES.resolve(options.advantage.name)),
        ("objective", options.objective, OBJECTIVES.resolve(options.objective.name)),
        ("weighter", options.weighter, WEIGHTERS.resolve(options.weighter.name)),
        ("correction", options.correction, CORRECTIONS.resolve(options.correction.name)),
    ]


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
        logprobs: with gradient; finite where a token is trained on, anything elsewhere.
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
    trained = weights > 0
    logprobs = torch.where(trained, logprobs, 0.0)
    current = logprobs.detach() if rollout_logprobs is None else torch.where(trained, rollout_logprobs, 0.0)
    tokens = None if group is None else TokenStatistics(sequence, group, trained, entropy, divergence)
    # Offline responses are of no engine; what makes them learnable is off_policy's affair.
    engine = engine_logprobs.masked_fill(~trained if offline is None else ~trained | offline, float("nan"))
    factors, metrics_T = _factors(options, tokens, current, engine, sequence)
    pairs = pair_weights = None
    if step_pairs is not None:
        pairs, pair_weights = pairs_within(step_pairs, sequence)
    batch = TokenBatch(
        logprobs=logprobs,
        old_logprobs=ratio_base(options, current, engine_logprobs.masked_fill(~trained, float("nan")), offline),
        ref_logprobs=None if ref_logprobs is None else torch.where(trained, ref_logprobs, 0.0),
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
    if options.weighter.name != "none":
        if tokens is None:
            raise ValueError(f"weighter {options.weighter.name} needs the group of every token")
        weighter = WEIGHTERS.resolve(options.weighter.name)
        factors = weighter(tokens, own_options(weighter, options.weighter))
    if options.correction.name == "none":
        return factors, {}
    correction = CORRECTIONS.resolve(options.correction.name)
    own = own_options(correction, options.correction)
    corrected, metrics_T = correction(trainer_T, engine_T, sequence_T, own)
    return corrected if factors is None else factors * corrected, metrics_T
