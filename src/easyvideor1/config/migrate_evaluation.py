"""How EasyR1 and EasyVideoR1 draw responses, in training and in validation, and how they score them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyvideor1.config.old_file import OldFile

_OVERRIDE = "worker.rollout.val_override_config"
#: Validation below this temperature was as good as greedy, and ours does not go lower.
_LEAST_TEMPERATURE = 0.01
_PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def rollout(old: OldFile) -> dict[str, Any]:
    """The section ``rollout``."""
    return {
        "temperature": old.number("worker.rollout.temperature", 1.0),
        "top_p": old.number("worker.rollout.top_p", 1.0),
        "top_k": max(old.integer("worker.rollout.top_k", -1), 0),
        "max_new_tokens": old.integer("data.max_response_length", 512),
    }


def evaluation(old: OldFile) -> dict[str, Any]:
    """The section ``evaluation``: every so many steps, drawn as training draws where nothing else is said."""
    out: dict[str, Any] = {"every": max(old.integer("trainer.val_freq", -1), 0)}
    temperature = old.number(f"{_OVERRIDE}.temperature", old.number("worker.rollout.temperature", 1.0))
    samples = old.integer(f"{_OVERRIDE}.n", 1)
    if temperature < _LEAST_TEMPERATURE:
        out["samples"] = 0  # the greedy response is there in every evaluation
        if samples > 1:
            old.leave(f"{_OVERRIDE}.n", "greedy responses are all the same, so that one is made", samples)
    else:
        out["temperature"], out["samples"] = temperature, samples
    if old.has(f"{_OVERRIDE}.top_p"):
        out["top_p"] = old.number(f"{_OVERRIDE}.top_p", 1.0)
    if old.has(f"{_OVERRIDE}.top_k"):
        out["top_k"] = max(old.integer(f"{_OVERRIDE}.top_k", -1), 0)
    for name, nothing in _PENALTIES.items():
        value = old.number(f"{_OVERRIDE}.{name}", nothing)
        if value != nothing:
            out[name] = value
    override = old.get(_OVERRIDE, {})
    for name, value in override.items() if isinstance(override, Mapping) else ():
        if f"{_OVERRIDE}.{name}" not in old.asked and value is not None:
            reason = (
                "evaluation has temperature, top_p, top_k, samples and penalties of its own; the rest is as in rollout"
            )
            old.leave(f"{_OVERRIDE}.{name}", reason, value)
    return out


def rewards(old: OldFile) -> dict[str, Any]:
    """The section ``rewards``: weights. A reward function is code and stays behind, with what takes its place."""
    base = "worker.reward.reward_function_kwargs"
    names = ("accuracy_weight", "format_weight")
    weights = {name: old.number(f"{base}.{name}", 0.0) for name in names if old.has(f"{base}.{name}")}
    if len(weights) == 1:
        (only,) = weights
        weights[names[1 - names.index(only)]] = round(1 - weights[only], 12)
    key = "worker.reward.reward_function"
    if old.has(key):
        old.leave(key, _reward_reason(str(old.get(key))))
    return weights


def _reward_reason(function: str) -> str:
    file = Path(function.partition(":")[0])
    profiles = {"video_reward.py": "easyvideor1-video", "unified.py": "easyvideor1-unified"}
    if (profile := profiles.get(file.name)) is not None:
        return f"rewards are built in; rewards.profile: {profile} scores as this file did, faults included"
    return (
        "rewards are built in and chosen by a row's problem_type, or by data.train.0.task for rows that have none; "
        "your own goes in as rewards.custom: {'*': module:attr}, a function of a sample and a response"
    )
