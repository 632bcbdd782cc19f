"""The critic of EasyR1 and EasyVideoR1, which had options of its own; here it trains as the policy does."""

from __future__ import annotations

from typing import Any

from easyvideor1.config.legacy_file import LegacyFile

#: Options that a critic shares with the policy here -> their default, the same for both in the old framework.
_SHARED: dict[str, Any] = {
    "global_batch_size": 256,
    "ppo_epochs": 1,
    "max_grad_norm": 1.0,
    "optim.betas": (0.9, 0.999),
    "optim.weight_decay": 1e-2,
    "optim.lr_warmup_ratio": 0.0,
    "optim.lr_warmup_steps": None,
    "optim.lr_scheduler_type": "constant",
    "optim.min_lr_ratio": None,
    "model.freeze_vision_tower": False,
    "model.lora.rank": 0,
}


def critic(old: LegacyFile) -> dict[str, Any]:
    """``stages.0.critic``. Where the old critic trained otherwise than the policy, that is left behind."""
    for name, default in _SHARED.items():
        own = old.get(key := f"worker.critic.{name}")
        if not same_as_policy(old, name):
            reason = "a critic trains as the policy does, whose value is another"
            if own is None:
                reason += f"; the critic had the default, {_text(default)}"
            old.drop(key, reason)
    return {
        "lr": old.number("worker.critic.optim.lr", 1e-6),
        "value_clip": old.number("worker.critic.cliprange_value", 0.5),
        # It named the first step, counted from 1, in which the policy learned as well.
        "warmup_steps": max(old.integer("trainer.critic_warmup", 0) - 1, 0),
    }


def same_as_policy(old: LegacyFile, name: str) -> bool:
    """Whether the critic had the policy's value of an option, as it has here."""
    default = _SHARED.get(name)
    own, policy = (old.written(f"worker.{model}.{name}") for model in ("critic", "actor"))
    return _text(default if own is None else own) == _text(default if policy is None else policy)


def _text(value: Any) -> str:
    """A value as text that is the same for ``1e-2`` and 0.01, and for a list and the text of a tuple."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, str) and "," in value:
        return _text(value.strip("()[] ").split(","))
    try:
        return str(float(value))
    except (TypeError, ValueError, OverflowError):
        return str(value).strip().lower()
