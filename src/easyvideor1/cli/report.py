"""``evr1 report``: the page and the curves of a run, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]) -> None:
    """Rebuild report.html and curves.png of a run from the files it has left so far."""
    from easyvideor1.evaluation import write_curves, write_report
    from easyvideor1.types import ConfigError

    if not run.is_dir():
        raise ConfigError(f"{run}: no such directory; give the output directory of a run")
    if not (run / "run.json").is_file():
        raise ConfigError(f"{run}: no run.json inside, so this is no run directory")
    typer.echo(f"wrote {write_curves(run)}")
    typer.echo(f"wrote {write_report(run)}")
