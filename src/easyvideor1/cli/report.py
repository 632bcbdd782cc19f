"""``evr1 report``: rebuild the report page and the curves of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.completion import complete_runs


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.", autocompletion=complete_runs)],
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import code (module:attr) that the run names; only if you trust it.")
    ] = False,
) -> None:
    """Rebuild curves.png and report.html from the files of a run, finished or not.

    The page shows the frames that are still in the run's frame cache; nothing is decoded.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.paths import not_found
    from easyvideor1.types import ConfigError

    if not run.exists():
        raise ConfigError(not_found(RunConfig(), str(run), "run directory"))
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} has no config.yaml, so it is not a run directory; give the output_dir of a run")
    from easyvideor1.evaluation import write_curves, write_report

    typer.echo(f"wrote {write_curves(run)}")
    typer.echo(f"wrote {write_report(run, own_code=own_code)}")
