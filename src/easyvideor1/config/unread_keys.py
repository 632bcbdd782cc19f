"""Options of a stage that nothing would read.

An option that is set and has no effect is a misunderstanding: the run would not be the one that was described.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from easyvideor1.config import algorithm_names as names

if TYPE_CHECKING:
    from easyvideor1.config.stages import StageConfig

Condition = Callable[["StageConfig"], bool]


def _of(key: str, *values: str) -> tuple[Condition, str]:
    """Read where ``key`` has one of some values."""
    return lambda stage: getattr(stage, key) in values, f"{key}: {' or '.join(sorted(values))}"


def _bounded(stage: StageConfig) -> bool:
    return stage.filter_low is not None or stage.filter_high is not None


_KL = (lambda stage: stage.kl != "none", "an estimator of KL (kl: k2, say)")
_STEERED = _of("kl_control", "adaptive")
_CLIPPED = _of("objective", *names.CLIPPED)
_BOUNDS = _of("correction", *names.MASKING)

#: Option -> when it is read, and in words what it goes with. Options that are not here are always read.
READ: dict[str, tuple[Condition, str]] = {
    "advantage_clip": (lambda stage: stage.objective != "dpo", "an objective that reads advantages, as dpo does not"),
    "part_weights": _of("advantage", "gdpo"),
    "pass_k": _of("advantage", "pass_at_k"),
    "pass_threshold": _of("advantage", "pass_at_k"),
    "gamma": _of("advantage", "gae", "per_turn"),
    "gae_lambda": _of("advantage", "gae"),
    "critic": _of("advantage", "gae"),
    "clip_low": _CLIPPED,
    "clip_high": _CLIPPED,
    "clip_dual": _of("objective", *names.DUAL_CLIPPED),
    "sapo_positive": _of("objective", "sapo"),
    "sapo_negative": _of("objective", "sapo"),
    "regression_floor": _of("objective", "reg_grpo"),
    "dpo_beta": _of("objective", "dpo"),
    "reward_temperature": _of("objective", "reward_weighted_sft"),
    "reward_weight_cap": _of("objective", "reward_weighted_sft"),
    "luffy_gamma": (lambda stage: "luffy" in (stage.objective, stage.off_policy), "off_policy: luffy"),
    "off_policy_coef": _of("off_policy", "sft"),
    "weighter_alpha": _of("weighter", "tw_grpo"),
    "entropy_share": _of("weighter", "entropy_top"),
    "correction_cap": _of("correction", *names.TRUNCATING),
    "correction_low": _BOUNDS,
    "correction_high": _BOUNDS,
    "kl_coef": _KL,
    "kl_target": _STEERED,
    "kl_horizon": _STEERED,
    "reference_decay": _of("reference", "ema"),
    "filter_key": (_bounded, "filter_low or filter_high"),
    "overlong_penalty": (lambda stage: stage.overlong_cache > 0, "overlong_cache"),
}


def unread(stage: StageConfig) -> Iterator[str]:
    """A sentence for every option that differs from its default and is read by nothing.

    What equals its default is passed over, so that a configuration with all defaults written out loads again. A
    function of the user's own is given all options and may read any of them.
    """
    if any(getattr(stage, kind) not in known for kind, known in names.KINDS.items()):
        return
    for key, (is_read, wanted) in READ.items():
        field = type(stage).model_fields[key]
        if getattr(stage, key) != field.get_default(call_default_factory=True) and not is_read(stage):
            yield f"{key} would have no effect: it goes with {wanted}; set that, or leave out {key}"
