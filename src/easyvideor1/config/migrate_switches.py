"""Keys of an old file that did nothing in its run, because the file switches off what would have read them."""

from __future__ import annotations

from easyvideor1.config.legacy_file import LegacyFile

#: Advantages that discount nothing. One that is not known here may.
_UNDISCOUNTED = ("grpo", "grpo_passk", "gdpo", "rloo", "remax")
_NO_VALIDATION = tuple(
    f"data.val_video_{name}" for name in ("fps", "max_frames", "min_pixels", "max_pixels", "total_pixels")
)
_STEERING = ("algorithm.kl_type", "algorithm.kl_target", "algorithm.kl_horizon")


def without_effect(old: LegacyFile) -> dict[str, str]:
    """Prefix of keys that had no effect in this file -> why. Keys that a translation asked for are not among them."""
    out = _of_advantage(str(old.get("algorithm.adv_estimator", "grpo"))) | _of_kl(old)
    if not old.flag("algorithm.online_filtering", False):
        off = "online_filtering is off in this file"
        out |= {"algorithm.filter_": off, "trainer.max_try_make_batch": off}
    if not old.get("data.val_files"):
        out |= dict.fromkeys(_NO_VALIDATION, "it is for data.val_files, of which this file has none")
        none = "there are no validation files in this file"
        out |= {"trainer.val_before_train": none, "trainer.val_only": none}
    if old.integer("worker.actor.model.lora.rank", 0) <= 0:
        out["worker.actor.model.lora"] = "its rank is 0 in this file, which trains the weights themselves"
    if old.get("worker.actor.loss_type", "default") != "sapo":
        out["worker.actor.tau_"] = "it is for the objective sapo"
    if not old.flag("worker.rollout.enable_mix_policy", False):
        out["worker.rollout.mix_policy"] = "enable_mix_policy is off in this file"
    return out


def _of_advantage(name: str) -> dict[str, str]:
    out: dict[str, str] = {}
    if name != "gae":
        out["worker.critic"] = "there is a critic with gae alone"
    if name != "gdpo":
        out["algorithm.gdpo_reward_keys"] = "it is for the advantage gdpo"
    if name in _UNDISCOUNTED:
        out["algorithm.gamma"] = f"the advantage {name} discounts nothing"
    if name in (*_UNDISCOUNTED, "reinforce_plus_plus"):
        out["algorithm.lam"] = "it is for gae"
    return out


def _of_kl(old: LegacyFile) -> dict[str, str]:
    if old.flag("algorithm.disable_kl", False):
        off = "disable_kl is on in this file"
        keys = ("algorithm.kl_", "algorithm.use_kl_loss", "worker.actor.kl_loss", "worker.actor.use_kl_loss")
        return dict.fromkeys((*keys, "worker.ref"), off)
    out: dict[str, str] = {}
    early = old.flag("worker.actor.use_kl_loss", False)
    if not early:
        out["worker.actor.kl_loss"] = "worker.actor.use_kl_loss is off in this file"
    if early or old.flag("algorithm.use_kl_loss", False):
        return out | dict.fromkeys(_STEERING, "the KL is in the loss, where it was never adaptive")
    if old.get("algorithm.adv_estimator", "grpo") == "gdpo":
        return out | dict.fromkeys(_STEERING, "gdpo reads no total reward, so the KL in the reward was lost")
    if old.written("algorithm.kl_type") != "adaptive":
        out |= dict.fromkeys(_STEERING[1:], "kl_type is not adaptive in this file")
    elif old.number("algorithm.kl_coef", 1e-3) <= 0:
        out |= dict.fromkeys(_STEERING[1:], "kl_coef is 0 in this file, and stays so")
    return out
