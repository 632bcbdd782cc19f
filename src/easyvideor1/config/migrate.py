"""EasyR1 and EasyVideoR1 YAML becomes a configuration of this package.

Every old key is either translated or listed with the reason why it is not. Where the old default differs from ours and
the file leaves the key out, the old default is written down, so that the new file asks for the run that the old one
described.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config.dump import dump_config
from easyvideor1.config.left_behind import REASONS
from easyvideor1.config.load import validate
from easyvideor1.config.migrate_algorithms import algorithms
from easyvideor1.config.old_file import Left, OldFile
from easyvideor1.config.schema import RunConfig, VideoBudget
from easyvideor1.config.source import Source, describe, read_yaml
from easyvideor1.config.stages import StageConfig
from easyvideor1.types import ConfigError


@dataclass(frozen=True, slots=True)
class Migration:
    """``text`` is the new YAML, with what was left behind in its comments."""

    config: RunConfig
    text: str
    left: tuple[Left, ...]


def migrate_file(path: str | Path) -> Migration:
    """``migrate`` for a file.

    Raises:
        ConfigError: the file cannot be read or holds values that cannot be translated.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return migrate(text, str(path))


def migrate(text: str, name: str) -> Migration:
    """Translate the YAML of EasyR1 or EasyVideoR1.

    Args:
        text: the old YAML.
        name: what messages call it.

    Raises:
        ConfigError: it is no such YAML, or a value cannot be translated; the message names the line.
    """
    old = OldFile(read_yaml(text, name))
    sections = {"data", "algorithm", "worker", "trainer"}
    if not sections & set(old.source.values):
        raise ConfigError(f"{name}: no section of {', '.join(sorted(sections))}: this is no EasyR1 or EasyVideoR1 YAML")
    new: dict[str, Any] = {}
    _run(old, new)
    _model(old, new)
    _data(old, new)
    _rollout(old, new)
    new["stages"] = [_stage(old)]
    _leave_the_rest(old)
    config = validate(Source(new, {(): name}))
    left = tuple(sorted(old.left, key=lambda item: item.key))
    return Migration(config, _comments(name, left) + dump_config(config, only_set=True), left)


def _run(old: OldFile, new: dict[str, Any]) -> None:
    new["name"] = str(old.get("trainer.experiment_name", "demo"))
    project = old.get("trainer.project_name", "easy_r1")
    new["output_dir"] = str(old.get("trainer.save_checkpoint_path", f"runs/{project}/{{name}}"))
    new["project"] = str(project)
    wanted = old.get("trainer.logger", [])
    named = [wanted] if isinstance(wanted, str) else list(wanted) if isinstance(wanted, list) else []
    if loggers := [name for name in named if name in ("tensorboard", "wandb", "swanlab")]:
        new["loggers"] = loggers
    if other := [name for name in named if name not in (*loggers, "console", "file")]:
        old.leave("trainer.logger", "known loggers are tensorboard, wandb, trackio and swanlab", other)
    new["seed"] = old.integer("data.seed", 1)
    if old.integer("worker.rollout.seed", new["seed"]) != new["seed"]:
        old.leave("worker.rollout.seed", "one seed, data.seed, now decides everything random")
    every = old.integer("trainer.val_freq", -1)
    evaluation: dict[str, Any] = {"every": max(every, 0)}
    validation = old.get("worker.rollout.val_override_config", {})
    for key, value in validation.items() if isinstance(validation, Mapping) else ():
        full = f"worker.rollout.val_override_config.{key}"
        if key == "temperature" and old.number(full, 1.0) > 0:
            evaluation["temperature"] = old.number(full, 1.0)
        elif key == "n":
            evaluation["samples"] = old.integer(full, 1)
        else:
            old.leave(full, "evaluation answers once greedily and samples without cutting the distribution", value)
    new["evaluation"] = evaluation


def _model(old: OldFile, new: dict[str, Any]) -> None:
    base = "worker.actor.model"
    model: dict[str, Any] = {"gradient_checkpointing": old.flag(f"{base}.enable_gradient_checkpointing", True)}
    if old.has(f"{base}.model_path"):
        model["path"] = str(old.get(f"{base}.model_path"))
    # Their vision tower holds the merger as well.
    frozen = old.flag(f"{base}.freeze_vision_tower", False)
    if (adapters := _lora(old, f"{base}.lora", frozen=frozen)) is not None:
        model["lora"] = adapters
    elif frozen:
        model["freeze"] = ["vision", "merger"]
    # The old default was to trust; a file that does not say so has not asked for it.
    if old.flag(f"{base}.trust_remote_code", False):
        model["trust_remote_code"] = True
    key = "worker.actor.fsdp.torch_dtype"
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    dtype = old.get(key)
    if dtype is not None:
        dtype = names.get(str(dtype), str(dtype))
        if dtype in names.values():
            model["dtype"] = dtype
        else:
            old.leave(key, f"model.dtype takes {', '.join(names.values())}")
    tokenizer = f"{base}.tokenizer_path"
    if old.get(tokenizer) not in (None, old.get(f"{base}.model_path")):
        old.leave(tokenizer, "the tokenizer is read from model.path")
    new["model"] = model


def _lora(old: OldFile, base: str, *, frozen: bool) -> dict[str, Any] | None:
    """Adapters, where the file asks for any; a rank of 0 asks for none."""
    rank = old.integer(f"{base}.rank", 0)
    if rank <= 0:
        return None
    lora: dict[str, Any] = {"rank": rank, "alpha": old.number(f"{base}.alpha", 16.0)}
    dropout = old.number(f"{base}.dropout", old.number(f"{base}.lora_dropout", 0.0))
    if dropout:
        lora["dropout"] = dropout
    modules, excluded = old.get(f"{base}.target_modules", "all-linear"), old.get(f"{base}.exclude_modules")
    if modules != "all-linear":
        reason = "adapters go to groups of modules: model.lora.targets; those of the language model are taken"
        old.leave(f"{base}.target_modules", reason, modules)
    everywhere = modules == "all-linear" and not frozen and "visual" not in str(excluded)
    if excluded is not None and "visual" not in str(excluded):
        old.leave(f"{base}.exclude_modules", "adapters go to groups of modules: model.lora.targets", excluded)
    lora["targets"] = ["vision", "merger", "language"] if everywhere else ["language"]
    return lora


def _data(old: OldFile, new: dict[str, Any]) -> None:
    data: dict[str, Any] = {
        "question_key": str(old.get("data.prompt_key", "prompt")),
        "answer_key": str(old.get("data.answer_key", "answer")),
        "image_key": str(old.get("data.image_key", "images")),
        "video_key": str(old.get("data.video_key", "videos")),
        "max_prompt_tokens": old.integer("data.max_prompt_length", 512),
        "on_bad_row": "skip" if old.flag("data.filter_overlong_prompts", True) else "error",
    }
    least, most = old.integer("data.min_pixels", 262_144), old.integer("data.max_pixels", 4_194_304)
    data["image"] = {
        "min_pixels": old.integer("data.image_min_pixels", least),
        "max_pixels": old.integer("data.image_max_pixels", most),
    }
    data["video"] = {
        "fps": old.number("data.video_fps", 2.0),
        "max_frames": old.integer("data.video_max_frames", 128),
        "min_pixels": old.integer("data.video_min_pixels", least),
        "max_pixels": old.integer("data.video_max_pixels", most),
    }
    if data["video"]["max_frames"] < VideoBudget().min_frames:
        data["video"]["min_frames"] = data["video"]["max_frames"]
    if old.has("data.video_total_pixels"):
        data["video"]["total_pixels"] = old.integer("data.video_total_pixels", 0)
    training, validation = _sources(old, "data.train_files"), _sources(old, "data.val_files")
    if training:
        data["train"] = training
    if validation:
        data["validation"] = validation
        # Both ends of a run were measured on the validation files unless val_before_train was off.
        if old.flag("trainer.val_before_train", True):
            data["test"] = validation
    else:
        old.flag("trainer.val_before_train", True)
    new["data"] = data
    mode = old.get("data.video_source_mode")
    if mode is not None:
        modes = {"preprocessed_only": "cache_only", "realtime_only": "decode_only"}
        new["cache"] = {"mode": modes.get(mode, "prefer_cache") if isinstance(mode, str) else "prefer_cache"}


def _sources(old: OldFile, key: str) -> list[dict[str, Any]]:
    """One source for a path, one each for a list of them."""
    value = old.get(key)
    if not value:
        return []
    if isinstance(value, str):
        return [_source(old, key, value)]
    if not isinstance(value, list) or not all(isinstance(path, str) and path for path in value):
        raise ConfigError(f"{old.where(key)}: {key}: expected a path or a list of paths, got {describe(value)}")
    return [_source(old, f"{key}.{index}", path) for index, path in enumerate(value)]


def _source(old: OldFile, key: str, value: str) -> dict[str, Any]:
    path, _, split = value.partition("@")
    if split:
        reason = f"the split {split!r} cannot be chosen in a path; export it to a file of its own"
        old.leave(key, reason, value)
    if Path(path).suffix not in (".json", ".jsonl", ".parquet"):
        old.leave(key, "a source is one JSON, JSONL or Parquet file; list the files of a directory or hub set", value)
    source: dict[str, Any] = {"path": path}
    if old.has("data.image_dir"):
        source["media_root"] = str(old.get("data.image_dir"))
    return source


def _rollout(old: OldFile, new: dict[str, Any]) -> None:
    top_k = old.integer("worker.rollout.top_k", -1)
    new["rollout"] = {
        "temperature": old.number("worker.rollout.temperature", 1.0),
        "top_p": old.number("worker.rollout.top_p", 1.0),
        "top_k": max(top_k, 0),
        "max_new_tokens": old.integer("data.max_response_length", 512),
    }
    base = "worker.reward.reward_function_kwargs"
    names = ("accuracy_weight", "format_weight")
    weights = {name: old.number(f"{base}.{name}", 0.0) for name in names if old.has(f"{base}.{name}")}
    if len(weights) == 1:
        (only,) = weights
        weights[names[1 - names.index(only)]] = round(1 - weights[only], 12)
    if weights:
        new["rewards"] = weights


def _stage(old: OldFile) -> dict[str, Any]:
    actor = "worker.actor"
    stage: dict[str, Any] = {
        "name": "rl",
        "prompts_per_step": old.integer("data.rollout_batch_size", 512),
        "group_size": old.integer("worker.rollout.n", 1),
        "clip_low": old.number(f"{actor}.clip_ratio_low", 0.2),
        "clip_high": old.number(f"{actor}.clip_ratio_high", 0.3),
        "drop_flat_groups": old.flag("algorithm.online_filtering", False),
    }
    algorithms(old, stage)
    if old.has("trainer.max_steps"):
        stage["steps"] = old.integer("trainer.max_steps", 0)
        old.asked.add("trainer.total_epochs")
    else:
        old.leave(
            "trainer.total_epochs",
            "a stage has steps: set stages.0.steps to epochs * rows / prompts_per_step",
        )
    steps = stage.get("steps")
    critic = stage.get("critic", {})
    if critic.get("warmup_steps", 0) >= (steps or StageConfig(name="rl").steps):
        old.leave("trainer.critic_warmup", "the stage ends before it: set stages.0.critic.warmup_steps below its steps")
        critic["warmup_steps"] = 0
    stage["optimizer"] = _optimizer(old, steps)
    if old.has(f"{actor}.max_token_len_per_gpu"):
        stage["micro_batch_tokens"] = old.integer(f"{actor}.max_token_len_per_gpu", 0)
    save, keep = old.integer("trainer.save_freq", -1), old.integer("trainer.save_limit", -1)
    if save > 0 or steps:
        stage["save_every"] = save if save > 0 else steps
    if keep > 0:
        stage["keep_checkpoints"] = keep
    elif old.has("trainer.save_limit"):
        old.leave("trainer.save_limit", "checkpoints cannot be kept without limit; set stages.0.keep_checkpoints")
    stage["mini_batches"] = max(round(stage["prompts_per_step"] / old.integer(f"{actor}.global_batch_size", 256)), 1)
    stage["ppo_epochs"] = old.integer(f"{actor}.ppo_epochs", 1)
    return stage


def _optimizer(old: OldFile, steps: int | None) -> dict[str, Any]:
    base = "worker.actor.optim"
    out: dict[str, Any] = {
        "lr": old.number(f"{base}.lr", 1e-6),
        "betas": old.numbers(f"{base}.betas", (0.9, 0.999)),
        "weight_decay": old.number(f"{base}.weight_decay", 1e-2),
        "max_grad_norm": old.number("worker.actor.max_grad_norm", 1.0),
    }
    ratio = old.number(f"{base}.lr_warmup_ratio", 0.0)
    if old.has(f"{base}.lr_warmup_steps"):
        out["warmup_steps"] = old.integer(f"{base}.lr_warmup_steps", 0)
    elif ratio and steps:
        out["warmup_steps"] = int(ratio * steps)
    elif ratio:
        old.leave(f"{base}.lr_warmup_ratio", "warm-up is counted in steps: set stages.0.optimizer.warmup_steps")
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


def _leave_the_rest(old: OldFile) -> None:
    """List every key of the file that no translation asked for."""
    for key, value in _leaves(old.source.values, ""):
        if key in old.asked or value is None:
            continue
        fitting = [prefix for prefix in REASONS if key.startswith(prefix)]
        reason = REASONS[max(fitting, key=len)] if fitting else "not a key of EasyR1 or EasyVideoR1 known here"
        old.leave(key, reason, value)


def _leaves(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            out += _leaves(value, f"{prefix}{name}.")
        elif value != {}:
            out.append((f"{prefix}{name}", value))
    return out


def _comments(name: str, left: tuple[Left, ...]) -> str:
    lines = [f"# Migrated from {Path(name).name} by `evr1 config migrate`."]
    if left:
        lines.append("# Not carried over:")
        lines += [f"#   {item.key} ({item.value}): {item.reason}".replace("\n", " ") for item in left]
    return "\n".join(lines) + "\n\n"
