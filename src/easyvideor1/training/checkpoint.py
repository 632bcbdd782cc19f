"""Checkpoints of a stage: whole or absent, and found again after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyvideor1.config import StageConfig
from easyvideor1.files import file_digest, is_sealed, json_bytes, seal, write_directory
from easyvideor1.models.policy import Policy


def checkpoint_path(stage_dir: Path, step: int) -> Path:
    """``checkpoints/step_000050`` of a stage."""
    return stage_dir / "checkpoints" / f"step_{step:06d}"


def save_checkpoint(policy: Policy, stage_dir: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write the checkpoint of ``step`` and remove all but the newest ``keep``.

    ``state.json`` lists every file with its SHA-256, so that a damaged checkpoint is recognised when it is read.
    """
    target = checkpoint_path(stage_dir, step)

    def fill(directory: Path) -> None:
        policy.save(directory)
        files = {file.name: file_digest(file) for file in sorted(directory.iterdir())}
        # The seal is for the file itself: its digests vouch for the others only.
        (directory / "state.json").write_bytes(json_bytes(seal({**state, "step": step, "files": files}), indent=2))

    write_directory(target, fill)
    for old in checkpoints(stage_dir)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(stage_dir: Path) -> list[Path]:
    """Checkpoints of a stage, oldest first. What a kill left half-written has a name of its own and is not listed."""
    return sorted((stage_dir / "checkpoints").glob("step_[0-9]*"))


def unsaved_words(options: StageConfig) -> str:
    """That a stage has no checkpoint to go on from, when the first one comes, and how to have it sooner."""
    key = f"stages.{options.name}.save_every"
    first = min(options.save_every, options.steps)
    words = (
        f"stage {options.name}: nothing is saved, so it starts again from its beginning. The first save comes after "
        f"step {first} of {options.steps} ({key}={options.save_every})"
    )
    return words if first == 1 else f"{words}; for an earlier one, start the same command with {key}={first // 2}"


def latest_checkpoint(stage_dir: Path) -> tuple[Path, int] | None:
    """The newest checkpoint whose files are all as they were written, and its step; ``None`` if there is none."""
    for directory in reversed(checkpoints(stage_dir)):
        state = intact_state(directory)
        if state is not None:
            return directory, int(state["step"])
    return None


def intact_state(directory: Path) -> dict[str, Any] | None:
    """``state.json`` of a checkpoint, or ``None`` when a file is missing or is not what was written."""
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        files: dict[str, str] = dict(state["files"])
        whole = is_sealed(state) and all(file_digest(directory / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None  # unreadable is not intact, and the caller goes on to the one before
    return state if whole else None
