"""``evr1 quickstart``: a whole GRPO run from nothing, in one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.config import OverridesArgument

#: Where the recipe expects the world, the checkpoint and the frames.
RECIPE_OUT = Path("runs/quickstart")


def quickstart(
    overrides: OverridesArgument = None,
    seed: Annotated[int, typer.Option(help="Seed of the world, the data order and the rollouts.")] = 0,
    out: Annotated[Path, typer.Option(help="Output directory.")] = RECIPE_OUT,
    engine: Annotated[
        str, typer.Option(help="Engine of the rollouts: local, vllm, or module:attr of your own.")
    ] = "local",
    prepare: Annotated[bool, typer.Option("--prepare", help="Write the world and the checkpoint, then stop.")] = False,
) -> None:
    """Write a toy world of videos, cache its frames, and train a tiny Qwen3-VL on it with GRPO.

    The command also writes a second, small world with questions of every task type, for you to look at.
    """
    import shlex
    import time

    from rich.console import Console

    from easyvideor1.cli.progress import progress
    from easyvideor1.cli.train import train_and_report
    from easyvideor1.config import load_config
    from easyvideor1.engines.registry import resolve_engine
    from easyvideor1.evaluation import print_summary
    from easyvideor1.recipes.toy import all_tasks_world, quickstart_world
    from easyvideor1.toyworld import write_world

    begun = time.monotonic()
    chosen = [] if engine == "local" else [f"rollout.engine={engine}"]
    overrides = [*chosen, *(overrides or ())]
    console = Console(stderr=True)
    # Errors in the configuration appear before minutes are spent on the world.
    config = load_config("quickstart", [*_places(seed, out), _output(seed, out), *overrides])
    resolve_engine(config.rollout.engine)
    checkpoint = _warm_start(out)
    world = out / f"world-{seed}"
    with progress("writing the toy world", unit="clip", console=console) as on_progress:
        write_world(quickstart_world(seed), world, on_progress)
    with progress("writing a world of all task types", unit="clip", console=console) as on_progress:
        write_world(all_tasks_world(seed), out / f"all-tasks-{seed}", on_progress)
    if prepare:
        command = shlex.join(training_command(seed, out, overrides))
        typer.echo(f"{world} and {checkpoint} are ready; train with: {command}")
        return
    summary = train_and_report(config, console, overrides=overrides, begun=begun)
    print_summary(summary, Console())
    shorter = [*training_command(seed, out, chosen)[1:], "stages.grpo.steps=20"]
    typer.echo('To train on your own videos, see "Train on your own videos" in README.md. To try other settings here:')
    typer.echo(f"next: {shlex.join([command_to_type(), *shorter])}")


def command_to_type() -> str:
    """``evr1`` if the shell finds the running one, else its path from the working directory."""
    import os
    import shutil
    import sys

    own = Path(sys.prefix) / "bin" / "evr1"
    found = shutil.which("evr1")
    if not own.is_file() or (found is not None and Path(found).resolve() == own.resolve()):
        return "evr1"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)


def training_command(seed: int, out: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The ``evr1 train`` command that uses the files of ``evr1 quickstart --prepare`` with the same arguments.

    Its run has another name than the run of ``evr1 quickstart``, and so another directory. The command contains only
    settings that differ from the recipe.
    """
    known = _places(0, RECIPE_OUT)
    changes = [setting for setting in _places(seed, out) if setting not in known]
    if out != RECIPE_OUT:
        changes.append(f"output_dir={_literal(out)}/{{name}}-{{seed}}")
    return ["evr1", "train", "quickstart", "name=short", *changes, *overrides]


def _places(seed: int, out: Path) -> list[str]:
    """Overrides that point the recipe to one world and its files."""
    world = out / f"world-{seed}"
    return [
        f"seed={seed}",
        f"model.path={out / 'warm-start'}",
        f"data.train.0.path={world / 'train.jsonl'}",
        f"data.validation.0.path={world / 'validation.jsonl'}",
        f"data.test.0.path={world / 'test.jsonl'}",
        f"cache.dir={out / 'frames'}",
    ]


def _output(seed: int, out: Path) -> str:
    return f"output_dir={_literal(out)}/run-{seed}"


def _literal(path: Path) -> str:
    """A path without fields that ``output_dir`` would fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _warm_start(out: Path) -> Path:
    """The warm-start checkpoint, copied from the package into ``out`` unless it exists there.

    Raises:
        ConfigError: the package does not contain it.
    """
    from easyvideor1.families.checkpoint import QUICKSTART_NAME
    from easyvideor1.recipes.toy import WARM_START, write_warm_start
    from easyvideor1.types import ConfigError

    there = out / QUICKSTART_NAME
    if not (there / "config.json").is_file() and not (WARM_START / "config.json").is_file():
        raise ConfigError(
            f"{WARM_START}: the warm-start checkpoint of the quickstart is missing. Install the package again, "
            f"create it with scripts/make_warm_start.py, or put a checkpoint of your own into {there}"
        )
    return write_warm_start(there)
