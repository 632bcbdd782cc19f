"""``evr1 report``: the page and the curves of a run, made again from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]) -> None:
    """Rebuild curves.png and report.html of a run from the files it has left so far.

    Frames are shown as far as the run's frame cache still has them; nothing is decoded.
    """
    from easyvideor1.config import load_config
    from easyvideor1.evaluation import write_curves, write_report
    from easyvideor1.types import ConfigError
    from easyvideor1.workbench import Workbench

    if not run.is_dir():
        raise ConfigError(f"{run}: no such directory; give the output directory of a run")
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run}: no config.yaml inside, so this is no run directory")
    store = Workbench.open(load_config(run / "config.yaml")).store
    typer.echo(f"wrote {write_curves(run)}")
    typer.echo(f"wrote {write_report(run, store.get)}")
