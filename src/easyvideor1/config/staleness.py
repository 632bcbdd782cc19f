"""What goes with responses of older weights: their correction, and what cannot be corrected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from easyvideor1.config.algorithms import TruncationOptions
from easyvideor1.config.stages import StageConfig


class _Rollout(Protocol):
    """What is read of ``RolloutConfig``."""

    @property
    def engine(self) -> str: ...
    @property
    def workers(self) -> int: ...
    @property
    def max_staleness(self) -> int: ...
    @property
    def over_sample_rate(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...


def with_correction(stage: StageConfig, max_staleness: int) -> StageConfig:
    """The stage with a correction of stale responses, where it has none and the user has not said so.

    ``tis`` weighs every token with ``min(pi(y_t) / mu(y_t), cap)``, where ``mu`` are the weights that drew it, whatever
    their version: the behaviour policy of the decoupled objective (Hilton et al. 2022, eq. 4; Fu et al. 2025, AReaL,
    eq. 5), truncated as in IMPALA (Espeholt et al. 2018, eq. 1). Its bound does not grow with the length of responses,
    nor with the number of versions. Ratios against the engine's log-probs (``old_logprobs: engine``) correct by
    themselves, and ``dpo`` reads no weights of tokens.
    """
    if max_staleness == 0 or stage.trajectories != "policy" or "correction" in stage.model_fields_set:
        return stage
    if stage.old_logprobs == "engine" or stage.objective.pairs_responses:
        return stage
    return stage.model_copy(update={"correction": TruncationOptions(name="tis")})


def rollout_conflicts(rollout: _Rollout) -> Iterator[str]:
    """A sentence if no engine can run ahead. An engine of the user's own may do so in any way."""
    if rollout.max_staleness > 0 and not rollout.workers and ":" not in rollout.engine:
        yield (
            f"rollout.max_staleness ({rollout.max_staleness}) asks for responses that are generated while the policy "
            f"is updated, and engine {rollout.engine} is in the process of the trainer: set rollout.workers to 1, or "
            "rollout.max_staleness to 0"
        )


def staleness_conflicts(stage: StageConfig, rollout: _Rollout) -> Iterator[str]:
    """A sentence for each option that does not go with over-sampling or, unless the user wants no correction, makes a
    correction of stale responses impossible."""
    hybrid = stage.hybrid
    if rollout.over_sample_rate > 0 and hybrid is not None and hybrid.policy == "below":
        yield (
            f"rollout.over_sample_rate ({rollout.over_sample_rate:g}) ends a round when enough groups can be trained "
            f"on, and stages.{stage.name}.hybrid.policy (below) changes groups after that: set over_sample_rate to 0, "
            "or another hybrid.policy"
        )
    if rollout.max_staleness == 0 or stage.trajectories != "policy":
        return
    corrected = stage.correction.name != "none" or stage.old_logprobs == "engine"
    key = f"stages.{stage.name}"
    if stage.objective.pairs_responses and "correction" not in stage.model_fields_set:
        yield (
            f"rollout.max_staleness ({rollout.max_staleness}) trains on responses of older weights, and objective "
            f"{stage.objective.name} cannot be corrected for it: set max_staleness to 0, or {key}.correction: none to "
            "train without a correction"
        )
    cut = [f"top_p ({rollout.top_p:g})"] * (rollout.top_p < 1) + [f"top_k ({rollout.top_k})"] * (rollout.top_k > 0)
    if corrected and cut:
        remedy = f"{key}.correction: none" if stage.old_logprobs == "current" else "objective.old_logprobs: current"
        yield (
            f"rollout.max_staleness ({rollout.max_staleness}) trains on responses of older weights, whose correction "
            f"needs the distribution that they were drawn from; rollout.{cut[0]} cuts it: leave it out, set "
            f"max_staleness to 0, or set {remedy} to train without a correction"
        )
