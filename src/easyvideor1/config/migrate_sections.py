"""The sections of EasyR1 and EasyVideoR1 except training: model, data, cache, rollout, evaluation, rewards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyvideor1.config.legacy_file import LegacyFile
from easyvideor1.config.migrate_cluster import engine, offload
from easyvideor1.config.schema import VideoBudget
from easyvideor1.config.yaml_source import describe
from easyvideor1.types import ConfigError

#: ``owner/name``, which without a split meant the split train.
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
#: Their reward files of mathematics, for rows that name no task type. (EasyR1's name was ``math`` alone at first.)
_MATHEMATICS = ("math", "math.py", "dapo.py", "r1v.py")


def data(old: LegacyFile) -> dict[str, Any]:
    """The section ``data``."""
    out: dict[str, Any] = {
        "question_key": str(old.get("data.prompt_key", "prompt")),
        "answer_key": str(old.get("data.answer_key", "answer")),
        "image_key": str(old.get("data.image_key", "images")),
        "video_key": str(old.get("data.video_key", "videos")),
        "max_prompt_tokens": old.integer("data.max_prompt_length", 512),
        "on_bad_row": "skip" if old.flag("data.filter_overlong_prompts", True) else "error",
        "shuffle": old.flag("data.shuffle", True),
    }
    least, most = old.integer("data.min_pixels", 262_144), old.integer("data.max_pixels", 4_194_304)
    out["image"] = {
        "min_pixels": old.integer("data.image_min_pixels", least),
        "max_pixels": old.integer("data.image_max_pixels", most),
    }
    out["video"] = _video(old, "data.video", {"fps": 2.0, "max_frames": 128, "min_pixels": least, "max_pixels": most})
    if sources := _sources(old, "data.train_files"):
        out["train"] = sources
    if sources := _sources(old, "data.val_files"):
        if override := _video(old, "data.val_video", {}):
            sources = [{**source, "video": override} for source in sources]
        out["validation"] = sources
        if _tested(old):
            out["test"] = sources
    return out


def _video(old: LegacyFile, prefix: str, defaults: dict[str, float]) -> dict[str, Any]:
    """A budget of videos: what the file or ``defaults`` say of it."""
    out: dict[str, Any] = {}
    for name in ("fps", "max_frames", "min_pixels", "max_pixels", "total_pixels"):
        key = f"{prefix}_{name}"
        if old.has(key) or name in defaults:
            default = defaults.get(name, 0)
            out[name] = old.number(key, default) if name == "fps" else old.integer(key, int(default))
    if "max_frames" in out and out["max_frames"] < VideoBudget().min_frames:
        out["min_frames"] = out["max_frames"]
    return out


def _tested(old: LegacyFile) -> bool:
    """Whether validation rows are asked at both ends of the run, too, which is what ``data.test`` is."""
    only = old.flag("trainer.val_only", False)
    if only:
        old.drop("trainer.val_only", "`evr1 eval` with this file asks data.test and stops; `evr1 train` trains")
    if old.flag("trainer.val_before_train", True) or only:
        return True
    reason = "the evaluation after the last step goes with the one before the first; set data.test to have both"
    old.drop("trainer.val_before_train", reason, False)
    return False


def _sources(old: LegacyFile, key: str) -> list[dict[str, Any]]:
    """One source for a path, one each for a list of them."""
    value = old.get(key)
    if not value:
        return []
    if isinstance(value, str):
        return [_source(old, key, value)]
    if not isinstance(value, list) or not all(isinstance(path, str) and path for path in value):
        raise ConfigError(f"{old.where(key)}: {key}: expected a path or a list of paths, got {describe(value)}")
    return [_source(old, f"{key}.{index}", path) for index, path in enumerate(value)]


def _source(old: LegacyFile, key: str, value: str) -> dict[str, Any]:
    path, _, split = value.partition("@")
    if Path(path).suffix in (".json", ".jsonl", ".parquet"):
        if split not in ("", "train"):
            old.drop(key, f"a file is taken as a whole; it has no split {split!r}, which was an error", value)
    elif split or _HUB_NAME.fullmatch(path):
        path = f"{path}@{split or 'train'}"
    source: dict[str, Any] = {"path": path}
    if old.has("data.image_dir"):
        source["media_root"] = str(old.get("data.image_dir"))
    if _rewards_mathematics(old):
        source["task"] = "math"
    return source


def _rewards_mathematics(old: LegacyFile) -> bool:
    """Whether the file scores all its rows as mathematics, which theirs do not say themselves."""
    file = str(old.get("worker.reward.reward_function", "")).partition(":")[0]
    return Path(file).name in _MATHEMATICS


def prompts(old: LegacyFile) -> dict[str, Any]:
    """The section ``prompts``: the system message of early versions."""
    system = old.get("data.system_prompt")
    return {} if system is None else {"system": str(system)}


def cache(old: LegacyFile) -> dict[str, Any]:
    """The section ``cache``."""
    key = "data.video_source_mode"
    modes = {
        "prefer_preprocessed": "prefer_cache",
        "preprocessed_only": "cache_only",
        "realtime_only": "decode_only",
    }
    mode, earlier = old.get(key), "data.use_preprocessed_videos"
    if mode is None and old.has(earlier):
        mode = "prefer_preprocessed" if old.flag(earlier, True) else "realtime_only"
    elif old.has(earlier) and old.flag(earlier, True) is (mode == "realtime_only"):
        old.idle(earlier, "video_source_mode went before it, and is cache.mode")
    if mode is not None and str(mode) not in modes:
        old.drop(key, f"cache.mode takes {', '.join(modes.values())}")
    return {} if str(mode) not in modes else {"mode": modes[str(mode)]}


_OVERRIDE = "worker.rollout.val_override_config"
#: Validation below this temperature was as good as greedy, and ours does not go lower.
_LEAST_TEMPERATURE = 0.01
_PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def rollout(old: LegacyFile) -> dict[str, Any]:
    """The section ``rollout``."""
    return {
        "temperature": old.number("worker.rollout.temperature", 1.0),
        "top_p": old.number("worker.rollout.top_p", 1.0),
        "top_k": max(old.integer("worker.rollout.top_k", -1), 0),
        "max_new_tokens": old.integer("data.max_response_length", 512),
        **engine(old),
    }


def evaluation(old: LegacyFile) -> dict[str, Any]:
    """The section ``evaluation``: every so many steps, drawn as training draws where nothing else is said."""
    out: dict[str, Any] = {"every": max(old.integer("trainer.val_freq", -1), 0)}
    temperature = old.number(f"{_OVERRIDE}.temperature", old.number("worker.rollout.temperature", 1.0))
    samples = old.integer(f"{_OVERRIDE}.n", 1)
    if temperature < _LEAST_TEMPERATURE:
        out["samples"] = 0  # the greedy response is there in every evaluation
        if samples > 1:
            old.drop(f"{_OVERRIDE}.n", "greedy responses are all the same, so that one is made", samples)
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
            old.drop(f"{_OVERRIDE}.{name}", reason, value)
    return out


#: Reward files of EasyVideoR1 that are restated here.
_PROFILES = {
    "video_reward.py:compute_score": "easyvideor1-video",
    "unified.py:compute_score": "easyvideor1-unified",
}


def rewards(old: LegacyFile) -> dict[str, Any]:
    """The section ``rewards``: weights, and a published reward by name. Another one is code and stays behind."""
    base = "worker.reward.reward_function_kwargs"
    names = ("accuracy_weight", "format_weight")
    weights: dict[str, Any] = {name: old.number(f"{base}.{name}", 0.0) for name in names if old.has(f"{base}.{name}")}
    if len(weights) == 1:
        (only,) = weights
        weights[names[1 - names.index(only)]] = round(1 - weights[only], 12)
    key = "worker.reward.reward_function"
    if (profile := _PROFILES.get(Path(str(old.get(key, ""))).name)) is not None:
        weights["profile"] = profile
    elif old.has(key):
        old.drop(
            key,
            "rewards are built in and chosen by a row's problem_type, or by data.train.0.task for rows that have none; "
            "your own goes in as rewards.custom: {'*': module:attr}, a function of a sample and a response",
        )
    return weights


_BASE = "worker.actor.model"
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "float32": "float32", "bfloat16": "bfloat16"}


def model(old: LegacyFile) -> dict[str, Any]:
    """The section ``model``."""
    out: dict[str, Any] = {"gradient_checkpointing": old.flag(f"{_BASE}.enable_gradient_checkpointing", True)}
    if old.has(f"{_BASE}.model_path"):
        out["path"] = str(old.get(f"{_BASE}.model_path"))
    # Their vision tower holds the merger as well.
    frozen = old.flag(f"{_BASE}.freeze_vision_tower", False)
    if (adapters := _lora(old, frozen=frozen)) is not None:
        out["lora"] = adapters
    elif frozen:
        out["freeze"] = ["vision", "merger"]
    # The old default was to trust; a file that does not say so has not asked for it.
    if old.flag(f"{_BASE}.trust_remote_code", False):
        out["trust_remote_code"] = True
    out["dtype"] = _dtype(old)
    if offloaded := offload(old):
        out["offload"] = offloaded
    tokenizer = f"{_BASE}.tokenizer_path"
    if old.get(tokenizer) not in (None, old.get(f"{_BASE}.model_path")):
        old.drop(tokenizer, "the tokenizer is read from model.path")
    return out


def _dtype(old: LegacyFile) -> str:
    """What layers computed in: bfloat16 by default, beside weights in float32, which is ``model.dtype: bfloat16``."""
    weights, computed = _known_dtype(old, "torch_dtype", None), _known_dtype(old, "mp_param_dtype", "bf16")
    return "bfloat16" if weights == "bfloat16" else computed or "bfloat16"


def _known_dtype(old: LegacyFile, name: str, default: str | None) -> str | None:
    key = f"worker.actor.fsdp.{name}"
    value = old.get(key, default)
    if value is not None and str(value) not in _DTYPES:
        old.drop(key, "model.dtype takes float32 and bfloat16")
    return _DTYPES.get(str(value))


def _lora(old: LegacyFile, *, frozen: bool) -> dict[str, Any] | None:
    """Adapters, where the file asks for any; a rank of 0 asks for none."""
    base = f"{_BASE}.lora"
    rank = old.integer(f"{base}.rank", 0)
    if rank <= 0:
        return None
    lora: dict[str, Any] = {"rank": rank, "alpha": old.number(f"{base}.alpha", 64.0)}
    dropout = old.number(f"{base}.dropout", old.number(f"{base}.lora_dropout", 0.0))
    if dropout:
        lora["dropout"] = dropout
    modules, excluded = old.get(f"{base}.target_modules", "all-linear"), old.get(f"{base}.exclude_modules")
    if modules != "all-linear":
        reason = "adapters go to groups of modules: model.lora.targets; those of the language model are taken"
        old.drop(f"{base}.target_modules", reason, modules)
    everywhere = modules == "all-linear" and not frozen and "visual" not in str(excluded)
    if excluded is not None and "visual" not in str(excluded):
        old.drop(f"{base}.exclude_modules", "adapters go to groups of modules: model.lora.targets", excluded)
    lora["targets"] = ["vision", "merger", "language"] if everywhere else ["language"]
    return lora
