"""The data of EasyR1 and EasyVideoR1: sources, columns, budgets and what prompts are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from easyvideor1.config.old_file import OldFile
from easyvideor1.config.schema import VideoBudget
from easyvideor1.config.source import describe
from easyvideor1.types import ConfigError

#: ``owner/name``, which without a split meant the split train.
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
#: Their reward files of mathematics, for rows that name no task type. (EasyR1's name was ``math`` alone at first.)
_MATHEMATICS = ("math", "math.py", "dapo.py", "r1v.py")


def data(old: OldFile) -> dict[str, Any]:
    """The section ``data``."""
    out: dict[str, Any] = {
        "question_key": str(old.get("data.prompt_key", "prompt")),
        "answer_key": str(old.get("data.answer_key", "answer")),
        "image_key": str(old.get("data.image_key", "images")),
        "video_key": str(old.get("data.video_key", "videos")),
        "max_prompt_tokens": old.integer("data.max_prompt_length", 512),
        "on_bad_row": "skip" if old.flag("data.filter_overlong_prompts", True) else "error",
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


def _video(old: OldFile, prefix: str, defaults: dict[str, float]) -> dict[str, Any]:
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


def _tested(old: OldFile) -> bool:
    """Whether validation rows are asked at both ends of the run, too, which is what ``data.test`` is."""
    only = old.flag("trainer.val_only", False)
    if only:
        old.leave("trainer.val_only", "`evr1 eval` with this file asks data.test and stops; `evr1 train` trains")
    if old.flag("trainer.val_before_train", True) or only:
        return True
    reason = "the evaluation after the last step goes with the one before the first; set data.test to have both"
    old.leave("trainer.val_before_train", reason, False)
    return False


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
    if Path(path).suffix in (".json", ".jsonl", ".parquet"):
        if split not in ("", "train"):
            old.leave(key, f"a file is taken as a whole; it has no split {split!r}, which was an error", value)
    elif split or _HUB_NAME.fullmatch(path):
        path = f"{path}@{split or 'train'}"
    source: dict[str, Any] = {"path": path}
    if old.has("data.image_dir"):
        source["media_root"] = str(old.get("data.image_dir"))
    if _rewards_mathematics(old):
        source["task"] = "math"
    return source


def _rewards_mathematics(old: OldFile) -> bool:
    """Whether the file scores all its rows as mathematics, which theirs do not say themselves."""
    file = str(old.get("worker.reward.reward_function", "")).partition(":")[0]
    return Path(file).name in _MATHEMATICS


def prompts(old: OldFile) -> dict[str, Any]:
    """The section ``prompts``: the system message of early versions."""
    system = old.get("data.system_prompt")
    return {} if system is None else {"system": str(system)}


def cache(old: OldFile) -> dict[str, Any]:
    """The section ``cache``."""
    key = "data.video_source_mode"
    modes = {
        "prefer_preprocessed": "prefer_cache",
        "preprocessed_only": "cache_only",
        "realtime_only": "decode_only",
    }
    mode = old.get(key)
    if mode is not None and str(mode) not in modes:
        old.leave(key, f"cache.mode takes {', '.join(modes.values())}")
    return {} if str(mode) not in modes else {"mode": modes[str(mode)]}
