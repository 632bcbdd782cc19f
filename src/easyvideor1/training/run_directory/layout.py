"""Where a run keeps what, what its evaluations are called, and who may write."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.locks import file_lock
from easyvideor1.types import ConfigError


def run_directory(config: RunConfig) -> Path:
    """``output_dir`` with its fields filled in.

    Raises:
        ConfigError: it has an unknown field.
    """
    try:
        return Path(config.output_dir.format(name=config.name, seed=config.seed))
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"output_dir {config.output_dir!r} has an unknown field ({error!r}); use only {{name}} and {{seed}}"
        ) from error


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Own the run directory: no other process may write it until the block, or this process, ends.

    The lock file says which process that is, and on which machine. A directory in which nothing was written is removed
    again: a mistake in rows leaves no trace.

    Raises:
        ConfigError: another process owns it.
    """
    made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(run_dir / ".lock") as ours:
            if not ours:
                raise ConfigError(f"{run_dir} is in use by another process; wait for it, or give this run another name")
            owner = {"pid": os.getpid(), "host": socket.gethostname()}
            (run_dir / ".lock").write_text(json.dumps(owner), encoding="utf-8")  # in place: a new file has no lock
            yield
    finally:
        with suppress(OSError):  # of a directory that is not empty, be it by a process that has come in between
            for path in made:
                path.rmdir()


def stage_directory(run_dir: Path, config: RunConfig, options: StageConfig) -> Path:
    """``stages/01-sft``: numbered in the order of the configuration, from ``01`` to ``99`` and on with ``100``; read
    them in order with ``records.reading.stage_directories``."""
    return run_dir / "stages" / f"{config.stages.index(options) + 1:02d}-{options.name}"


def checkpoint_path(stage_dir: Path, step: int) -> Path:
    """``checkpoints/step_000050`` of a stage."""
    return stage_dir / "checkpoints" / f"step_{step:06d}"


def evaluations_directory(run_dir: Path, label: str = "") -> Path:
    """``evaluations`` of the run's own questions, ``evaluations/LABEL`` of a benchmark."""
    return run_dir / "evaluations" / label


def held_out_evaluations(config: RunConfig) -> list[str]:
    """Names of the evaluations of the test questions, in order: before the first stage, and after each stage."""
    return ["before", *(stage_directory(Path(), config, stage).name for stage in config.stages)]


def last_stage_evaluations(config: RunConfig) -> tuple[str, str]:
    """Names of the test evaluations before and after the last stage."""
    names = held_out_evaluations(config)
    return names[-2], names[-1]


def validation_name(options: StageConfig, step: int) -> str:
    """What the evaluation within a stage is called, after one of its steps."""
    return f"{options.name}-{step:06d}"


def due(every: int, step: int) -> bool:
    """Whether something that happens every so many steps, or never (0), happens after ``step``."""
    return every > 0 and step % every == 0
