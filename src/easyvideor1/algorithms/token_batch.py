"""From a stage's options to what its algorithms are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from easyvideor1.algorithms.advantages import ADVANTAGES, wants_context
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.needs import needs_of
from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch, pairs_within, ratio_base
from easyvideor1.algorithms.weighters import WEIGHTERS, TokenStatistics
from easyvideor1.config import StageConfig
from easyvideor1.options import own_options
from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError

#: The keys of a stage that name an algorithm, and where each is looked up.
ALGORITHMS: dict[str, Registry[Any]] = {
    "advantage": ADVANTAGES,
    "objective": OBJECTIVES,
    "weighter": WEIGHTERS,
    "correction": CORRECTIONS,
}


def stage_needs(options: StageConfig) -> frozenset[str]:
    """What a stage's algorithms need of the models and the rollout together, as names of ``NEEDS``.

    With ``kl.placement: reward`` the KL, and with ``values`` the values, are needed before advantages are computed.

    Raises:
        ConfigError: a name in the options means nothing.
    """
    chosen = {kind: getattr(options, kind).name for kind in ALGORITHMS}
    needs = frozenset[str]().union(*(needs_of(ALGORITHMS[kind].resolve(name)) for kind, name in chosen.items()))
    if options.kl.estimator != "none":
        needs |= {"full_kl" if options.kl.estimator == "full" else "ref_logprobs"}
    if options.objective.entropy_coef > 0:
        needs |= {"entropy"}
    if options.off_policy.name != "none":
        needs |= {"offline"}
    if options.off_policy.name == "importance" or options.old_logprobs == "engine":
        needs |= {"engine_logprobs"}
    return needs


def check_algorithm(options: StageConfig, kind: str) -> None:
    """Resolve an algorithm of a stage, and check the options of a function of the user's own.

    Args:
        options: of the stage.
        kind: a key of ``ALGORITHMS``.

    Raises:
        ConfigError: the name means nothing, or the options are not what the function declares or can read.
    """
    chosen = getattr(options, kind)
    function = ALGORITHMS[kind].resolve(chosen.name)
    own_options(function, chosen, f"stages.{options.name}.{kind}")
    if kind == "advantage" and chosen.model_extra and not wants_context(function):
        raise ConfigError(
            f"stages.{options.name}.advantage.{next(iter(chosen.model_extra))}: {chosen.name} takes no options; give "
            "the function a third parameter, context, which has them as context.options, or leave out the key"
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
