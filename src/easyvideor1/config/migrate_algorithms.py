"""The algorithms of EasyR1 and EasyVideoR1 as options of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyvideor1.config.algorithm_names import GROUP_CENTRED
from easyvideor1.config.old_file import OldFile

_ADVANTAGES = {name: name for name in ("grpo", "rloo", "gdpo", "remax", "gae", "reinforce_plus_plus")}
_OBJECTIVES = {name: name for name in ("gspo", "gspo_token", "cispo", "sapo")} | {"default": "ppo_clip"}
_AGGREGATIONS = {"token": "token", "seq": "sequence"}
_KL = {"kl": "k1", "abs": "abs", "mse": "k2", "low_var_kl": "k3", "full": "full"}
_FILTER_KEYS = {"overall": "total"}


def algorithms(old: OldFile, stage: dict[str, Any]) -> None:
    """Write what the old file says of advantage, loss, KL, filter, critic and mixed groups into ``stage``."""
    _advantage(old, stage)
    _choose(old, stage, "objective", "worker.actor.loss_type", "default", _OBJECTIVES)
    _choose(old, stage, "aggregation", "worker.actor.loss_avg_mode", "token", _AGGREGATIONS)
    if stage.get("objective") in ("gspo", "gspo_token"):
        stage["aggregation"] = "sequence"  # a mean over tokens gave long responses more weight than the paper does
    if stage.get("objective") == "sapo":
        stage["sapo_positive"] = old.number("worker.actor.tau_positive", 1.0)
        stage["sapo_negative"] = old.number("worker.actor.tau_negative", 1.05)
        for bound in ("low", "high"):
            del stage[f"clip_{bound}"]
            if old.has(f"worker.actor.clip_ratio_{bound}"):
                old.leave(f"worker.actor.clip_ratio_{bound}", "sapo has gates in place of a clip range")
    if (bonus := old.number("worker.actor.entropy_coeff", 0.0)) > 0:  # of early versions
        stage["entropy_coef"] = bonus
    key = "worker.actor.clip_ratio_dual"
    if stage.get("objective") == "ppo_clip":
        dual = old.number(key, 3.0)
        if dual >= 1 + stage["clip_high"]:
            stage["clip_dual"] = dual
    elif old.has(key):
        old.leave(key, "a bound on the ratio belongs to ppo_clip; the objective chosen here has none")
    _kl(old, stage)
    advantage = stage.get("advantage")
    of_tokens = advantage == "gae" or (advantage == "reinforce_plus_plus" and stage.get("kl_in") == "reward")
    if stage.get("objective") == "gspo" and of_tokens:
        stage["objective"] = "gspo_token"
        old.leave(
            "worker.actor.loss_type", f"gspo takes one advantage for a response; gspo_token takes those of {advantage}"
        )
    _filter(old, stage)
    _mix(old, stage)


def _advantage(old: OldFile, stage: dict[str, Any]) -> None:
    key = "algorithm.adv_estimator"
    if old.get(key, "grpo") == "grpo_passk":
        stage["advantage"] = "grpo"
        reason = "it rewarded the best response of a group by its lead; pass_at_k is the published formula, another one"
        old.leave(key, reason, "grpo_passk")
    else:
        _choose(old, stage, "advantage", key, "grpo", _ADVANTAGES)
    if stage["group_size"] == 1 and stage.get("advantage", "grpo") in GROUP_CENTRED:
        stage["advantage"] = "reward"
        old.leave("worker.rollout.n", "a group of one is nothing to compare: raise stages.0.group_size", 1)
    if stage.get("advantage") == "gae":
        stage["gamma"] = old.number("algorithm.gamma", 1.0)
        stage["gae_lambda"] = old.number("algorithm.lam", 1.0)
        stage["critic"] = {
            "lr": old.number("worker.critic.optim.lr", 1e-6),
            "value_clip": old.number("worker.critic.cliprange_value", 0.5),
            "warmup_steps": old.integer("trainer.critic_warmup", 0),
        }
    if stage.get("advantage") == "gdpo":
        key = "algorithm.gdpo_reward_keys"
        keys = old.get(key, ["accuracy", "format"])
        keys = [str(name) for name in keys] if isinstance(keys, list) else []
        stage["part_weights"] = {name: 1.0 for name in keys if name in ("accuracy", "format")}
        if unknown := [name for name in keys if name not in stage["part_weights"]]:
            reason = f"no score has {', '.join(unknown)}: name it in rewards.parts, and in stages.0.part_weights"
            old.leave(key, reason)


def _choose(
    old: OldFile, stage: dict[str, Any], new_key: str, key: str, default: str, names: Mapping[str, str]
) -> None:
    value = str(old.get(key, default))
    if value in names:
        stage[new_key] = names[value]
    else:
        old.leave(key, f"no counterpart: set stages.0.{new_key}, which also takes your own as module:attr")


def _kl(old: OldFile, stage: dict[str, Any]) -> None:
    if old.flag("algorithm.disable_kl", False):
        return
    kind, coefficient = str(old.get("algorithm.kl_penalty", "kl")), old.number("algorithm.kl_coef", 1e-3)
    in_loss = old.flag("algorithm.use_kl_loss", False)
    if old.flag("worker.actor.use_kl_loss", False):  # of early versions, whose KL in the reward gave way to it
        in_loss, kind = True, str(old.get("worker.actor.kl_loss_type", "low_var_kl"))
        coefficient = old.number("worker.actor.kl_loss_coef", 1e-3)
        for key in ("algorithm.kl_penalty", "algorithm.kl_coef"):
            if old.has(key):
                old.leave(key, "it was for a KL in the reward; worker.actor.use_kl_loss put it into the loss")
    if kind not in _KL:
        old.leave("algorithm.kl_penalty", "the KL estimators are k1, k2, k3, abs and full (stages.0.kl)")
        return
    if not in_loss and stage.get("advantage") == "gdpo":
        old.leave("algorithm.kl_penalty", "gdpo reads no total reward, so the KL was lost: set stages.0.kl", kind)
        return
    stage["kl"], stage["kl_coef"], stage["kl_in"] = _KL[kind], coefficient, "loss" if in_loss else "reward"
    if in_loss and stage["kl"] == "k1":
        stage["kl"] = "k2"
        old.leave("algorithm.kl_penalty", "k1 in the loss has no gradient in expectation; k2 has that of KL", kind)
    # Only a KL in the reward was steered.
    if not in_loss and old.get("algorithm.kl_type", "fixed") == "adaptive" and coefficient > 0:
        stage["kl_control"] = "adaptive"
        stage["kl_target"] = old.number("algorithm.kl_target", 0.1)
        stage["kl_horizon"] = old.integer("algorithm.kl_horizon", 10_000)
        sequences = stage["prompts_per_step"] * stage["group_size"]
        if stage["kl_horizon"] <= 0.2 * sequences:
            old.leave("algorithm.kl_horizon", "one step could take the weight to 0: lengthened", stage["kl_horizon"])
            stage["kl_horizon"] = 10 * sequences


def _filter(old: OldFile, stage: dict[str, Any]) -> None:
    if not stage["drop_flat_groups"]:
        return
    key = str(old.get("algorithm.filter_key", "overall"))
    stage["filter_key"] = _FILTER_KEYS.get(key, key)
    if stage["filter_key"] not in ("accuracy", "format", "total"):
        stage["filter_key"] = "accuracy"
        reason = "no score has such a part: name it in rewards.parts, and in stages.0.filter_key"
        old.leave("algorithm.filter_key", reason, key)
    stage["filter_low"] = old.number("algorithm.filter_low", 0.01)
    stage["filter_high"] = old.number("algorithm.filter_high", 0.99)
    rounds = old.integer("trainer.max_try_make_batch", 20)
    if rounds > 0:
        stage["generation_rounds"] = rounds
    else:
        old.leave("trainer.max_try_make_batch", "rounds have a limit: set stages.0.generation_rounds", rounds)


def _mix(old: OldFile, stage: dict[str, Any]) -> None:
    if not old.flag("worker.rollout.enable_mix_policy", False):
        return
    if stage["group_size"] < 2:
        old.leave("worker.rollout.enable_mix_policy", "a group of one has no place for an offline response", True)
        return
    key = "worker.rollout.mix_policy_accuracy_threshold"
    if old.get(key) is None:
        stage["hybrid"] = {"policy": "replace-last"}
    else:
        stage["hybrid"] = {"policy": "below", "threshold": old.number(key, 0.5)}
