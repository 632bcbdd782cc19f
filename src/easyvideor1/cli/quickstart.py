"""``evr1 quickstart``: the main job from nothing, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.config import OverridesArgument


def quickstart(
    overrides: OverridesArgument = None,
    seed: Annotated[int, typer.Option(help="Seed of the world, the data order and the rollouts.")] = 0,
    out: Annotated[Path, typer.Option(help="Directory for everything that is written.")] = Path("runs/quickstart"),
    prepare: Annotated[bool, typer.Option("--prepare", help="Write the world and the checkpoint, then stop.")] = False,
) -> None:
    """Write a toy world of videos, cache its frames, and train a tiny Qwen3-VL on it with GRPO."""
    import time

    from rich.console import Console

    from easyvideor1.cli.progress import progress
    from easyvideor1.cli.session import train_and_report
    from easyvideor1.config import load_config
    from easyvideor1.evaluation import print_summary
    from easyvideor1.recipes.toy import quickstart_world, write_warm_start
    from easyvideor1.toyworld import write_world

    begun = time.monotonic()
    console = Console(stderr=True)
    world = out / f"world-{seed}"
    with progress("writing the toy world", unit="clip", console=console) as on_progress:
        write_world(quickstart_world(seed), world, on_progress)
    checkpoint = write_warm_start(out / "warm-start")
    if prepare:
        typer.echo(f"{world} and {checkpoint} are ready; train with: evr1 train quickstart")
        return
    settings = [
        f"seed={seed}",
        f"output_dir={out / f'run-{seed}'}",
        f"model.path={checkpoint}",
        f"data.train.0.path={world / 'train.jsonl'}",
        f"data.test.0.path={world / 'test.jsonl'}",
        f"cache.dir={out / 'frames'}",
    ]
    config = load_config("quickstart", [*settings, *(overrides or ())])
    summary = train_and_report(config, console, begun=begun)
    print_summary(summary, Console())
