"""The training of EasyR1 and EasyVideoR1 as the one stage that it was."""

from __future__ import annotations

from typing import Any

from easyvideor1.config.migrate_algorithms import algorithms
from easyvideor1.config.old_file import OldFile

_ACTOR = "worker.actor"


def stage(old: OldFile) -> dict[str, Any]:
    """The entry of ``stages``."""
    out: dict[str, Any] = {
        "name": "rl",
        "prompts_per_step": old.integer("data.rollout_batch_size", 512),
        "group_size": old.integer("worker.rollout.n", 1),
    }
    algorithms(old, out)
    steps = _length(old, out)
    critic = out.get("critic", {})
    if steps is not None and critic.get("warmup_steps", 0) >= steps:
        old.leave("trainer.critic_warmup", "the stage ends before it: set stages.0.critic.warmup_steps below its steps")
        critic["warmup_steps"] = 0
    out["optimizer"] = _optimizer(old, steps)
    if old.has(f"{_ACTOR}.max_token_len_per_gpu"):
        out["micro_batch_tokens"] = old.integer(f"{_ACTOR}.max_token_len_per_gpu", 0)
    save, keep = old.integer("trainer.save_freq", -1), old.integer("trainer.save_limit", -1)
    if save > 0 or steps:
        out["save_every"] = save if save > 0 else steps
    if keep > 0:
        out["keep_checkpoints"] = keep
    elif old.has("trainer.save_limit"):
        old.leave("trainer.save_limit", "checkpoints cannot be kept without limit; set stages.0.keep_checkpoints")
    out["mini_batches"] = max(round(out["prompts_per_step"] / old.integer(f"{_ACTOR}.global_batch_size", 256)), 1)
    out["ppo_epochs"] = old.integer(f"{_ACTOR}.ppo_epochs", 1)
    return out


def _length(old: OldFile, out: dict[str, Any]) -> int | None:
    """Write ``steps`` or ``epochs``; steps, which went before epochs, are returned."""
    if not old.has("trainer.max_steps"):
        out["epochs"] = old.number("trainer.total_epochs", 15)
        return None
    steps = out["steps"] = old.integer("trainer.max_steps", 0)
    if old.has("trainer.total_epochs"):
        old.leave("trainer.total_epochs", "trainer.max_steps went before it, and is stages.0.steps")
    return steps


def _optimizer(old: OldFile, steps: int | None) -> dict[str, Any]:
    base = f"{_ACTOR}.optim"
    out: dict[str, Any] = {
        "lr": old.number(f"{base}.lr", 1e-6),
        "betas": old.numbers(f"{base}.betas", (0.9, 0.999)),
        "weight_decay": old.number(f"{base}.weight_decay", 1e-2),
        "max_grad_norm": old.number(f"{_ACTOR}.max_grad_norm", 1.0),
    }
    ratio = old.number(f"{base}.lr_warmup_ratio", 0.0)
    if old.has(f"{base}.lr_warmup_steps"):
        out["warmup_steps"] = old.integer(f"{base}.lr_warmup_steps", 0)
    elif ratio and steps:
        out["warmup_steps"] = int(ratio * steps)
    elif ratio:
        out["warmup_ratio"] = ratio
    schedule = str(old.get(f"{base}.lr_scheduler_type", "constant"))
    if schedule in ("constant", "cosine"):
        out["schedule"] = schedule
    else:
        old.leave(f"{base}.lr_scheduler_type", "stages.0.optimizer.schedule takes constant, cosine or linear")
    if old.has(f"{base}.min_lr_ratio"):
        out["min_lr_ratio"] = old.number(f"{base}.min_lr_ratio", 0.0)
    if old.get(f"{base}.strategy", "adamw") != "adamw":
        old.leave(f"{base}.strategy", "the optimiser is AdamW with moments in float32")
    return out
