"""The training of EasyR1 and EasyVideoR1 as the one stage that it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyvideor1.config.algorithms import ADVANTAGE_OPTIONS
from easyvideor1.config.legacy_file import LegacyFile
from easyvideor1.config.migrate_cluster import micro_batches
from easyvideor1.config.migrate_critic import critic

_ACTOR = "worker.actor"


def stage(old: LegacyFile) -> dict[str, Any]:
    """The entry of ``stages``."""
    out: dict[str, Any] = {
        "name": "rl",
        "prompts_per_step": old.integer("data.rollout_batch_size", 512),
        "group_size": old.integer("worker.rollout.n", 1),
    }
    algorithms(old, out)
    steps = _length(old, out)
    of_critic = out.get("critic", {})
    if steps is not None and of_critic.get("warmup_steps", 0) >= steps:
        old.drop("trainer.critic_warmup", "the stage ends before it: set stages.0.critic.warmup_steps below its steps")
        of_critic["warmup_steps"] = 0
    out["optimizer"] = _optimizer(old, steps)
    out |= micro_batches(old)
    out |= _saving(old, steps)
    out["mini_batches"] = max(round(out["prompts_per_step"] / old.integer(f"{_ACTOR}.global_batch_size", 256)), 1)
    out["ppo_epochs"] = old.integer(f"{_ACTOR}.ppo_epochs", 1)
    return out


#: Keys of verl, which some files took over, beside those of EasyR1: whether checkpoints are written while training goes
#: on, and how many are kept.
_ASYNC = tuple(f"{actor}.checkpoint.async_save" for actor in (_ACTOR, "actor_rollout_ref.actor"))
_KEPT = ("trainer.save_limit", "trainer.max_actor_ckpt_to_keep")


def _saving(old: LegacyFile, steps: int | None) -> dict[str, Any]:
    """When checkpoints are saved, how, and how many are kept."""
    out: dict[str, Any] = {}
    save = old.integer("trainer.save_freq", -1)
    if save > 0 or steps:
        out["save_every"] = save if save > 0 else steps
    for key in _KEPT:
        keep = old.integer(key, -1)
        if keep > 0:
            out.setdefault("keep_checkpoints", keep)
        elif old.has(key):
            old.drop(key, "checkpoints cannot be kept without limit; set stages.0.keep_checkpoints")
    wanted = [old.flag(key, False) for key in _ASYNC]  # each is asked for, so that none is told as unknown
    if any(wanted):
        out["async_save"] = True
    return out


def _length(old: LegacyFile, out: dict[str, Any]) -> int | None:
    """Write ``steps`` or ``epochs``; steps, which went before epochs, are returned."""
    if not old.has("trainer.max_steps"):
        out["epochs"] = old.number("trainer.total_epochs", 15)
        return None
    steps = out["steps"] = old.integer("trainer.max_steps", 0)
    if old.has("trainer.total_epochs"):
        old.drop("trainer.total_epochs", "trainer.max_steps went before it, and is stages.0.steps")
    return steps


def _optimizer(old: LegacyFile, steps: int | None) -> dict[str, Any]:
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
        old.drop(f"{base}.lr_scheduler_type", "stages.0.optimizer.schedule takes constant, cosine or linear")
    if old.has(f"{base}.min_lr_ratio"):
        out["min_lr_ratio"] = old.number(f"{base}.min_lr_ratio", 0.0)
    if old.get(f"{base}.strategy", "adamw") != "adamw":
        old.drop(f"{base}.strategy", "the optimiser is AdamW with moments in float32")
    return out


_ADVANTAGES = {name: name for name in ("grpo", "rloo", "gdpo", "remax", "gae", "reinforce_plus_plus")}
_OBJECTIVES = {name: name for name in ("gspo", "gspo_token", "cispo", "sapo")} | {"default": "ppo_clip"}
_AGGREGATIONS = {"token": "token", "seq": "sequence"}
_KL = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3", "full": "full"}
_FILTER_KEYS = {"overall": "total"}


def algorithms(old: LegacyFile, stage: dict[str, Any]) -> None:
    """Write what the old file says of advantage, loss, KL, filter, critic and mixed groups into ``stage``."""
    _advantage(old, stage)
    _choose(old, stage, "objective", "worker.actor.loss_type", "default", _OBJECTIVES)
    _choose(old, stage, "aggregation", "worker.actor.loss_avg_mode", "token", _AGGREGATIONS)
    _objective(old, stage)
    _kl(old, stage)
    advantage, placement = _named(stage, "advantage"), stage.get("kl", {}).get("placement")
    of_tokens = advantage == "gae" or (advantage == "reinforce_plus_plus" and placement == "reward")
    if _named(stage, "objective") == "gspo" and of_tokens:
        stage["objective"]["name"] = "gspo_token"
        old.drop(
            "worker.actor.loss_type", f"gspo takes one advantage for a response; gspo_token takes those of {advantage}"
        )
    _filter(old, stage)
    _mix(old, stage)


def _objective(old: LegacyFile, stage: dict[str, Any]) -> None:
    """The options of the objective that was chosen; one without a counterpart is ``ppo_clip``."""
    options = stage.setdefault("objective", {})
    name, chosen = options.get("name", "ppo_clip"), "name" in options
    if name in ("gspo", "gspo_token"):
        # A mean over tokens gave long responses more weight than the paper does.
        stage["aggregation"] = {"name": "sequence"}
    if name == "sapo":
        options["tau_positive"] = old.number("worker.actor.tau_positive", 1.0)
        options["tau_negative"] = old.number("worker.actor.tau_negative", 1.05)
        for bound in ("low", "high"):
            if old.has(f"worker.actor.clip_ratio_{bound}"):
                old.idle(f"worker.actor.clip_ratio_{bound}", "sapo has gates in place of a clip range")
    else:
        options["clip_low"] = old.number("worker.actor.clip_ratio_low", 0.2)
        options["clip_high"] = old.number("worker.actor.clip_ratio_high", 0.3)
    if (bonus := old.number("worker.actor.entropy_coeff", 0.0)) > 0:  # of early versions
        options["entropy_coef"] = bonus
    key = "worker.actor.clip_ratio_dual"
    if name == "ppo_clip" and chosen:
        dual, end = old.number(key, 3.0), 1 + options["clip_high"]
        if dual >= end:
            options["clip_dual"] = dual
        else:
            reason = f"it lies inside the clip range, which ends at {end:g}, so there is no dual clip"
            old.drop(key, f"{reason}: set stages.0.objective.clip_dual to {end:g} or more")
    elif name in ("cispo", "sapo"):
        if old.has(key):
            old.idle(key, f"{name} never read it")
    elif old.has(key):
        old.drop(key, "a bound on the ratio belongs to ppo_clip; the objective chosen here has none")


def _advantage(old: LegacyFile, stage: dict[str, Any]) -> None:
    key = "algorithm.adv_estimator"
    if old.get(key, "grpo") == "grpo_passk":
        stage["advantage"] = {"name": "grpo"}
        reason = "it rewarded the best response of a group by its lead; pass_at_k is the published formula, another one"
        old.drop(key, reason, "grpo_passk")
    else:
        _choose(old, stage, "advantage", key, "grpo", _ADVANTAGES)
    if stage["group_size"] == 1 and ADVANTAGE_OPTIONS[_named(stage, "advantage")].group_centred:
        stage["advantage"] = {"name": "reward"}
        old.drop("worker.rollout.n", "a group of one is nothing to compare: raise stages.0.group_size", 1)
    if _named(stage, "advantage") == "gae":
        stage["advantage"]["gamma"] = old.number("algorithm.gamma", 1.0)
        stage["advantage"]["lam"] = old.number("algorithm.lam", 1.0)
        stage["critic"] = critic(old)
    if _named(stage, "advantage") == "gdpo":
        key = "algorithm.gdpo_reward_keys"
        keys = old.get(key, ["accuracy", "format"])
        keys = [str(name) for name in keys] if isinstance(keys, list) else []
        weights = stage["advantage"]["part_weights"] = {name: 1.0 for name in keys if name in ("accuracy", "format")}
        if unknown := [name for name in keys if name not in weights]:
            place = "stages.0.advantage.part_weights"
            reason = f"no score has {', '.join(unknown)}: name it in rewards.parts, and in {place}"
            old.drop(key, reason)


def _named(stage: Mapping[str, Any], kind: str) -> str:
    """The advantage or objective of a stage, by name."""
    return str(stage.get(kind, {}).get("name", {"advantage": "grpo", "objective": "ppo_clip"}[kind]))


def _choose(
    old: LegacyFile, stage: dict[str, Any], new_key: str, key: str, default: str, names: Mapping[str, str]
) -> None:
    value = str(old.get(key, default))
    if value in names:
        stage[new_key] = {"name": names[value]}
    else:
        old.drop(key, f"no counterpart: set stages.0.{new_key}, which also takes your own as module:attr")


def _kl(old: LegacyFile, stage: dict[str, Any]) -> None:
    if old.flag("algorithm.disable_kl", False):
        return
    of_kind = "algorithm.kl_penalty"
    kind, coefficient = str(old.get(of_kind, "kl")), old.number("algorithm.kl_coef", 1e-3)
    in_loss = old.flag("algorithm.use_kl_loss", False)
    if old.flag("worker.actor.use_kl_loss", False):  # of early versions, whose KL in the reward gave way to it
        in_loss, of_kind = True, "worker.actor.kl_loss_type"
        kind = str(old.get(of_kind, "low_var_kl"))
        coefficient = old.number("worker.actor.kl_loss_coef", 1e-3)
        for key in ("algorithm.kl_penalty", "algorithm.kl_coef"):
            if old.has(key):
                old.idle(key, "it was for a KL in the reward; worker.actor.use_kl_loss put it into the loss")
    if kind not in _KL:
        old.drop(of_kind, "the KL estimators are k1, k2, k3, abs and full (stages.0.kl.estimator)")
        return
    if not in_loss and _named(stage, "advantage") == "gdpo":
        old.drop("algorithm.kl_penalty", "gdpo reads no total reward, so the KL was lost: set stages.0.kl", kind)
        return
    kl: dict[str, Any] = {"estimator": _KL[kind], "coef": coefficient, "placement": "loss" if in_loss else "reward"}
    stage["kl"] = kl
    if in_loss and kl["estimator"] == "k1":
        kl["estimator"] = "k2"
        old.drop(of_kind, "k1 in the loss has no gradient in expectation; k2 has that of KL", kind)
    # Only a KL in the reward was steered.
    if not in_loss and old.get("algorithm.kl_type", "fixed") == "adaptive" and coefficient > 0:
        kl["control"] = "adaptive"
        kl["target"] = old.number("algorithm.kl_target", 0.1)
        horizon = old.integer("algorithm.kl_horizon", 10_000)
        sequences = stage["prompts_per_step"] * stage["group_size"]
        if horizon <= 0.2 * sequences:
            old.drop("algorithm.kl_horizon", "one step could take the weight to 0: lengthened", horizon)
            horizon = 10 * sequences
        kl["horizon"] = horizon


def _filter(old: LegacyFile, stage: dict[str, Any]) -> None:
    if not old.flag("algorithm.online_filtering", False):
        stage["selection"] = {"drop_flat_groups": False}
        return
    selection: dict[str, Any] = {"drop_flat_groups": True}
    stage["selection"] = selection
    key = str(old.get("algorithm.filter_key", "overall"))
    selection["filter_key"] = _FILTER_KEYS.get(key, key)
    if selection["filter_key"] not in ("accuracy", "format", "total"):
        selection["filter_key"] = "accuracy"
        reason = "no score has such a part: name it in rewards.parts, and in stages.0.selection.filter_key"
        old.drop("algorithm.filter_key", reason, key)
    selection["filter_low"] = old.number("algorithm.filter_low", 0.01)
    selection["filter_high"] = old.number("algorithm.filter_high", 0.99)
    rounds = old.integer("trainer.max_try_make_batch", 20)
    if rounds > 0:
        selection["generation_rounds"] = rounds
    else:
        old.drop("trainer.max_try_make_batch", "rounds have a limit: set stages.0.selection.generation_rounds", rounds)


def _mix(old: LegacyFile, stage: dict[str, Any]) -> None:
    if not old.flag("worker.rollout.enable_mix_policy", False):
        return
    if stage["group_size"] < 2:
        old.drop("worker.rollout.enable_mix_policy", "a group of one has no place for an offline response", True)
        return
    key = "worker.rollout.mix_policy_accuracy_threshold"
    if old.get(key) is None:
        stage["hybrid"] = {"policy": "replace-last"}
    else:
        stage["hybrid"] = {"policy": "below", "threshold": old.number(key, 0.5)}
