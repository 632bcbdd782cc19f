"""``evr1 report``: the page and the curves of a run, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]) -> None:
    """Rebuild curves.png and report.html of a run from the files it has left so far.

    Frames are shown as far as the run's frame cache still has them; nothing is decoded.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.places import missing
    from easyvideor1.evaluation import write_curves, write_report
    from easyvideor1.types import ConfigError

    if not run.exists():
        raise ConfigError(missing(RunConfig(), str(run), "run directory"))
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run}: no config.yaml there, so this is no run directory; give the output_dir of a run")
    typer.echo(f"wrote {write_curves(run)}")
    typer.echo(f"wrote {write_report(run)}")
