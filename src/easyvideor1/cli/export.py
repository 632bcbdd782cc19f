"""``evr1 export``: write a trained checkpoint as a plain Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Files of a training checkpoint that do not belong to the model.
_TRAINING_ONLY = {
    "adapters.safetensors",
    "critic.safetensors",
    "critic_optimizer.safetensors",
    "optimizer.safetensors",
    "reference.safetensors",
    "state.json",
}


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or one of its checkpoints.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write; must not exist.")],
) -> None:
    """Write the model, tokenizer and processor settings of a run's last checkpoint, without optimiser state."""
    import shutil

    from easyvideor1.files import write_directory
    from easyvideor1.types import ConfigError

    if out.exists():
        raise ConfigError(f"{out} exists already; choose another name, or remove it first")
    checkpoint = find_checkpoint(source)

    def copy(directory: Path) -> None:
        for file in sorted(checkpoint.iterdir()):
            if file.name not in _TRAINING_ONLY:
                shutil.copyfile(file, directory / file.name)

    write_directory(out, copy)
    typer.echo(f"wrote {out} from {checkpoint}")


def checkpoint_to_use(given: Path) -> Path:
    """The checkpoint that ``--checkpoint`` names; for a run directory its last complete one, which is printed.

    Raises:
        ConfigError: a run directory without a complete checkpoint.
    """
    is_run = (given / "stages").is_dir() or (given / "run.json").is_file()
    if not is_run or (given / "config.json").is_file():
        return given
    checkpoint = find_checkpoint(given)
    typer.echo(f"checkpoint: {checkpoint}, the last complete one of {given}", err=True)
    return checkpoint


def find_checkpoint(source: Path) -> Path:
    """``source`` itself if it is a checkpoint, else the newest complete checkpoint of a run; damaged ones are printed.

    Raises:
        ConfigError: there is no checkpoint, or it is damaged.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.paths import not_found
    from easyvideor1.training.run_directory.checkpoint import latest_checkpoint, read_state
    from easyvideor1.types import ConfigError

    if not source.exists():
        raise ConfigError(not_found(RunConfig(), str(source), "run directory"))
    if (source / "state.json").is_file():
        if fault := read_state(source)[1]:
            raise ConfigError(f"{source} is damaged: {fault}; use an earlier checkpoint")
        return source
    for stage in sorted((source / "stages").glob("*"), reverse=True):
        found = latest_checkpoint(stage)
        for damage in found.passed_over:
            typer.echo(f"DAMAGED: {source}/{damage}", err=True)
        if found.path is not None:
            return found.path
    raise ConfigError(
        f"{source} has no complete checkpoint; give a run directory that has saved one (see save_every of its "
        "stages), or one of its stages/*/checkpoints/step_*"
    )
