"""Checkpoints of a stage: whole or absent, and found again after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config import StageConfig
from easyvideor1.files import file_digest, is_sealed, json_bytes, seal, write_directory
from easyvideor1.records.damage import Damage
from easyvideor1.records.reading import numbered
from easyvideor1.training.run_directory.layout import checkpoint_path


def save_checkpoint(
    write: Callable[[Path], None],
    stage_dir: Path,
    step: int,
    state: Mapping[str, Any],
    keep: int,
    best: Callable[[int], int | None] = lambda step: None,
) -> Path:
    """Write the checkpoint of ``step`` and remove all but the newest ``keep`` up to it, and the best.

    ``best(step)`` is called in between: it gives the step of the best checkpoint, if one is to be kept.

    ``write`` puts any number of files into an empty directory, in directories below it, too: whole tensors or the
    shards of several ranks. ``state.json``, written last, lists each with its SHA-256: without it, or with a file that
    is not as listed, a checkpoint is damaged. Those of later steps, which were passed over for their damage, do not
    count for ``keep``: they stay until their step is done again.
    """
    target = checkpoint_path(stage_dir, step)

    def fill(directory: Path) -> None:
        write(directory)
        written = sorted(file for file in directory.rglob("*") if file.is_file())
        files = {file.relative_to(directory).as_posix(): file_digest(file) for file in written}
        # The seal is for the file itself: its digests vouch for the others only.
        (directory / "state.json").write_bytes(json_bytes(seal({**state, "step": step, "files": files}), indent=2))

    write_directory(target, fill)
    saved, kept = numbered(stage_dir / "checkpoints"), best(step)
    for number in [number for number in saved if number <= step][:-keep]:
        if number != kept:
            shutil.rmtree(saved[number])
    return target


def checkpoints(stage_dir: Path) -> list[Path]:
    """Checkpoints of a stage, oldest first. What a kill left half-written has a name of its own and is not listed."""
    return list(numbered(stage_dir / "checkpoints").values())


def unsaved_words(options: StageConfig) -> str:
    """That a stage has no checkpoint to resume from, when the first one is saved, and how to save it sooner."""
    key = f"stages.{options.name}.save_every"
    first = min(options.save_every, options.step_count)
    words = (
        f"stage {options.name}: there is no checkpoint yet, so it restarts from its first step. The first checkpoint "
        f"comes after step {first} of {options.step_count} ({key}={options.save_every})"
    )
    return words if first == 1 else f"{words}; for an earlier one, run the same command with {key}={first // 2}"


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest checkpoint of a stage whose files are all as they were written, and its step.

    ``path`` is ``None`` and ``step`` 0 if there is none. ``passed_over`` are the newer ones, which are damaged.
    """

    path: Path | None
    step: int
    passed_over: tuple[Damage, ...] = ()


def latest_checkpoint(stage_dir: Path) -> Latest:
    """Find the newest whole checkpoint of a stage."""
    passed_over: list[Damage] = []
    for directory in reversed(checkpoints(stage_dir)):
        state, fault = read_state(directory)
        if state is not None:
            return Latest(directory, int(state["step"]), tuple(passed_over))
        where = f"stages/{stage_dir.name}/checkpoints/{directory.name}"
        remedy = "run the same command again, which repeats its steps and saves it again"
        passed_over.append(Damage(where, fault, "this checkpoint is skipped", remedy))
    return Latest(None, 0, tuple(passed_over))


def intact_state(directory: Path) -> dict[str, Any] | None:
    """``state.json`` of a checkpoint, or ``None`` when a file is missing or is not what was written."""
    return read_state(directory)[0]


def read_state(directory: Path) -> tuple[dict[str, Any] | None, str]:
    """``state.json`` of a checkpoint whose files are all as they were written; else ``None``, and what is damaged."""
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        files: dict[str, str] = dict(state["files"])
        if not is_sealed(state):
            return None, "state.json is not what was written"
        int(state["step"])
    except FileNotFoundError:
        return None, "state.json is missing"
    except OSError as error:
        return None, f"state.json cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        return None, "state.json cannot be read"
    faults = [fault for name, digest in files.items() if (fault := _file_fault(directory, name, digest))]
    return (None, ", ".join(faults)) if faults else (state, "")


def _file_fault(directory: Path, name: str, digest: str) -> str:
    try:
        found = file_digest(directory / name)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return "" if found == digest else f"{name} is not what was written (its SHA-256 differs)"
