"""``evr1 eval``: a checkpoint on held-out questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument


def evaluate(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint directory; model.path of the configuration if left out.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="JSON, JSONL or Parquet rows; data.test of the configuration if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for NAME.json and NAME.jsonl.")] = Path("evaluations"),
    name: Annotated[str, typer.Option(help="Name of the evaluation.")] = "eval",
) -> None:
    """Answer and score held-out questions with the prompts, frames and rewards of a configuration."""
    from rich.console import Console

    from easyvideor1.cli.session import TerminalWatch, evaluate_run
    from easyvideor1.config import SourceConfig, load_config
    from easyvideor1.types import ConfigError
    from easyvideor1.workbench import Workbench

    settings = load_config(config, overrides or ())
    sources = tuple(SourceConfig(path=str(file)) for file in data or ()) or settings.data.test
    if not sources:
        raise ConfigError("no questions: give --data FILE, or set data.test in the configuration")
    if not (checkpoint or settings.model.path):
        raise ConfigError("no checkpoint: give --checkpoint DIRECTORY, or set model.path in the configuration")
    bench = Workbench.open(settings, checkpoint)
    watch = TerminalWatch(Console(stderr=True))
    with watch.phase("checking rows", "row") as advance:
        loaded = bench.load_sources(sources, advance)
    samples = [sample for source in loaded for sample in source.samples]
    engine = bench.open_engine(bench.open_policy().model)
    metrics = evaluate_run(name, samples, engine, bench, out, watch=watch)
    refused = sum(len(source.bad) for source in loaded)
    shown = ", ".join(f"{key.removeprefix('evaluation/')} accuracy {value:.4f}" for key, value in metrics.items())
    typer.echo(f"{name}: {len(samples)} questions, {refused} refused: {shown}")
    typer.echo(f"wrote {out / 'evaluations' / f'{name}.json'}")
