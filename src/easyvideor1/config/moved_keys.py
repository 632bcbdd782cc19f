"""Options of a stage that earlier versions had at its top, and where they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyvideor1.config.base import CUSTOM, ByName, Shorthand, marker_of
from easyvideor1.config.stages import StageConfig
from easyvideor1.config.yaml_source import Keys

#: Old key of a stage -> its section and its key there.
MOVED: Mapping[str, tuple[str, str]] = {
    "advantage_clip": ("advantage", "clip"),
    "part_weights": ("advantage", "part_weights"),
    "pass_k": ("advantage", "k"),
    "pass_threshold": ("advantage", "threshold"),
    "gamma": ("advantage", "gamma"),
    "gae_lambda": ("advantage", "lam"),
    "clip_low": ("objective", "clip_low"),
    "clip_high": ("objective", "clip_high"),
    "clip_dual": ("objective", "clip_dual"),
    "sapo_positive": ("objective", "tau_positive"),
    "sapo_negative": ("objective", "tau_negative"),
    "regression_floor": ("objective", "floor"),
    "dpo_beta": ("objective", "beta"),
    "reward_temperature": ("objective", "temperature"),
    "reward_weight_cap": ("objective", "weight_cap"),
    "entropy_coef": ("objective", "entropy_coef"),
    "old_logprobs": ("objective", "old_logprobs"),
    "luffy_gamma": ("off_policy", "gamma"),
    "off_policy_coef": ("off_policy", "coef"),
    "aggregation_length": ("aggregation", "length"),
    "weighter_alpha": ("weighter", "alpha"),
    "entropy_share": ("weighter", "share"),
    "correction_cap": ("correction", "cap"),
    "correction_low": ("correction", "low"),
    "correction_high": ("correction", "high"),
    "kl_in": ("kl", "placement"),
    "kl_coef": ("kl", "coef"),
    "kl_control": ("kl", "control"),
    "kl_target": ("kl", "target"),
    "kl_horizon": ("kl", "horizon"),
    "reference": ("kl", "reference"),
    "reference_decay": ("kl", "reference_decay"),
    "drop_flat_groups": ("selection", "drop_flat_groups"),
    "filter_key": ("selection", "filter_key"),
    "filter_low": ("selection", "filter_low"),
    "filter_high": ("selection", "filter_high"),
    "generation_rounds": ("selection", "generation_rounds"),
    "overlong_filter": ("overlong", "filter"),
    "overlong_cache": ("overlong", "cache"),
    "overlong_penalty": ("overlong", "penalty"),
}


#: ``is_needed(values of its section, stage)`` of options that act only beside another one, in the order in which they
#: fall: one that goes may leave the next without its partner.
_PARTNERS: Sequence[tuple[tuple[str, str], Callable[[Mapping[str, Any], Mapping[str, Any]], bool]]] = (
    (("kl", "coef"), lambda kl, stage: _estimates(kl)),
    (("kl", "placement"), lambda kl, stage: _estimates(kl)),
    (("kl", "control"), lambda kl, stage: _estimates(kl)),
    (("kl", "target"), lambda kl, stage: kl.get("control") == "adaptive"),
    (("kl", "horizon"), lambda kl, stage: kl.get("control") == "adaptive"),
    (("kl", "reference"), lambda kl, stage: _estimates(kl) or _section(stage, "objective").get("name") == "dpo"),
    (("kl", "reference_decay"), lambda kl, stage: kl.get("reference") == "ema"),
    (("selection", "filter_key"), lambda own, stage: (own.get("filter_low"), own.get("filter_high")) != (None, None)),
    (("overlong", "penalty"), lambda own, stage: own.get("cache", 0) != 0),
)


def _estimates(kl: Mapping[str, Any]) -> bool:
    return bool(kl.get("estimator", "none") != "none")


def is_moved(path: Keys) -> bool:
    """Whether a key, or one that it stands in, is an option that earlier versions had at the top of a stage."""
    return len(path) > 2 and path[0] == "stages" and path[2] in MOVED


def moved_to(path: Keys, values: Mapping[str, Any]) -> Keys | None:
    """Where the key at ``path`` of a configuration is now, if an earlier version had it there."""
    if len(path) != 3 or path[0] != "stages" or not isinstance(path[1], int):
        return None
    place = _place(str(path[2]), values["stages"][path[1]])
    return None if place is None else (*path[:2], *place)


def _place(key: str, stage: Mapping[str, Any]) -> tuple[str, str] | None:
    """BaseConfig and key of what an old key of a stage says; ``None`` for any other key."""
    if key == "luffy_gamma" and _section(stage, "objective").get("name") == "luffy":
        return "objective", "gamma"
    return MOVED.get(key)


def nested(stage: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A stage of an earlier version as one of this version, and its old keys that its algorithms do not read."""
    new = {key: value for key, value in stage.items() if key not in MOVED}
    unused: list[str] = []
    placed: dict[tuple[str, str], str] = {}
    if _section(stage, "objective").get("name") == _section(stage, "off_policy").get("name") == "luffy":
        del new["off_policy"]  # the objective shapes offline tokens itself
    for key, value in stage.items():
        place = _place(key, stage)
        if place is None:
            continue
        section, inner = place
        if _is_read(section, inner, stage):
            new[section] = {**_section(new, section), inner: value}
            placed[place] = key
        else:
            unused.append(key)
    for place, is_needed in _PARTNERS:
        section, inner = place
        values = _section(new, section)
        if place in placed and not is_needed(values, stage):
            new[section] = {name: value for name, value in values.items() if name != inner}
            if not new[section]:
                del new[section]
            unused.append(placed[place])
    return new, [key for key in stage if key in unused]


def _is_read(section: str, key: str, stage: Mapping[str, Any]) -> bool:
    mark = marker_of(StageConfig.model_fields[section])
    if not isinstance(mark, ByName):
        return isinstance(stage.get(section) or {}, Mapping | str)
    name = _section(stage, section).get("name")  # None where the section is no section, which is refused later
    options = mark.class_of(name)
    return options is not None and (key in options.model_fields or mark.entry(name) == CUSTOM)


def _section(stage: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section of a stage, written out where a word stands for it."""
    mark = marker_of(StageConfig.model_fields[section])
    value = stage.get(section) or {}
    found = mark.expand(value) if isinstance(mark, Shorthand) else value
    return dict(found) if isinstance(found, Mapping) else {}
