"""``evr1 view``: look at runs and evaluations in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Directories of runs or evaluations, or above them; runs by default."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; another one than this machine makes a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8420,
    token: Annotated[
        str, typer.Option(envvar="EVR1_VIEW_TOKEN", help="Token that browsers must have; made if one is needed.")
    ] = "",
) -> None:
    """Look at runs, rollouts, evaluations and data in a browser, also while they are written.

    The site only reads. Ctrl-C ends it.
    """
    import secrets

    from easyvideor1.types import ConfigError

    try:
        from easyvideor1.serving.address import is_loopback
        from easyvideor1.viewer.library import Library
        from easyvideor1.viewer.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f'evr1 view needs {error.name}: pip install "easyvideor1[view]"') from error

    named = places or [Path("runs")]
    for place in named:
        if not place.is_dir():
            usual = "" if places else "; name the directory of a run: evr1 view RUN"
            raise ConfigError(f"{place}: no such directory{usual}")
    library = Library(named)
    if not library.entries():
        where = ", ".join(map(str, named))
        raise ConfigError(
            f"{where}: no run and no evaluation at or below it; give the output_dir of a run, the --out of evr1 eval, "
            "or a directory above them"
        )
    token = token.strip()
    if not token and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    serve(library, host, port, token, lambda line: typer.echo(line, err=True))
