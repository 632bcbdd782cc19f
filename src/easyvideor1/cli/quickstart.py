"""``evr1 quickstart``: the main job from nothing, in one command."""

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
    out: Annotated[Path, typer.Option(help="Directory for everything that is written.")] = RECIPE_OUT,
    prepare: Annotated[bool, typer.Option("--prepare", help="Write the world and the checkpoint, then stop.")] = False,
) -> None:
    """Write a toy world of videos, cache its frames, and train a tiny Qwen3-VL on it with GRPO.

    A second, small world has questions of every task type; nothing is trained on it.
    """
    import shlex
    import time

    from rich.console import Console

    from easyvideor1.cli.progress import progress
    from easyvideor1.cli.train import train_and_report
    from easyvideor1.config import load_config
    from easyvideor1.evaluation import print_summary
    from easyvideor1.recipes.toy import all_tasks_world, quickstart_world
    from easyvideor1.toyworld import write_world

    begun = time.monotonic()
    console = Console(stderr=True)
    # Mistakes are told before minutes are spent on the world.
    config = load_config("quickstart", [*_places(seed, out), _output(seed, out), *(overrides or ())])
    checkpoint = _warm_start(out)
    world = out / f"world-{seed}"
    with progress("writing the toy world", unit="clip", console=console) as on_progress:
        write_world(quickstart_world(seed), world, on_progress)
    with progress("writing one of all task types", unit="clip", console=console) as on_progress:
        write_world(all_tasks_world(seed), out / f"all-tasks-{seed}", on_progress)
    if prepare:
        command = shlex.join(training_command(seed, out, overrides or ()))
        typer.echo(f"{world} and {checkpoint} are ready; train with: {command}")
        return
    summary = train_and_report(config, console, begun=begun)
    print_summary(summary, Console())
    shorter = [*training_command(seed, out)[1:], "stages.grpo.steps=20"]
    typer.echo('For videos of your own: "Train on your own videos" in README.md. To go on here with other settings:')
    typer.echo(f"next: {shlex.join([command_to_type(), *shorter])}")


def command_to_type() -> str:
    """``evr1`` where this terminal finds the one that runs here, else its path from the working directory."""
    import os
    import shutil
    import sys

    own = Path(sys.prefix) / "bin" / "evr1"
    found = shutil.which("evr1")
    if not own.is_file() or (found is not None and Path(found).resolve() == own.resolve()):
        return "evr1"
    return os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own)


def training_command(seed: int, out: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The ``evr1 train`` that uses what ``evr1 quickstart --prepare`` with the same arguments has written.

    Its run has another name, and so another directory, than the one that ``evr1 quickstart`` itself makes there. Only
    settings that differ from those of the recipe are given.
    """
    known = _places(0, RECIPE_OUT)
    changes = [setting for setting in _places(seed, out) if setting not in known]
    if out != RECIPE_OUT:
        changes.append(f"output_dir={_literal(out)}/{{name}}-{{seed}}")
    return ["evr1", "train", "quickstart", "name=short", *changes, *overrides]


def _places(seed: int, out: Path) -> list[str]:
    """Overrides that point the recipe to one world and the files beside it."""
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
    """A path in which ``output_dir`` finds no fields to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _warm_start(out: Path) -> Path:
    """The checkpoint to start from, copied from the package into ``out`` unless it is there.

    Raises:
        ConfigError: the package has none.
    """
    from easyvideor1.families.checkpoint import QUICKSTART_NAME
    from easyvideor1.recipes.toy import WARM_START, write_warm_start
    from easyvideor1.types import ConfigError

    there = out / QUICKSTART_NAME
    if not (there / "config.json").is_file() and not (WARM_START / "config.json").is_file():
        raise ConfigError(
            f"{WARM_START}: the checkpoint that the quickstart starts from is not there. Install the package again, "
            f"make it with scripts/make_warm_start.py, or put a checkpoint of your own into {there}"
        )
    return write_warm_start(there)
