"""``evr1 view``: look at runs and evaluations in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from easyvideor1.viewer.library import Library


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
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", metavar="FILE", help="Show the rows of a configuration, or of a file of rows; may be repeated."
        ),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option("--static", metavar="OUT", help="Write the pages into this directory, to open from disk."),
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option(min=1, help="With --static: also the rollouts of this step of each stage; may be repeated."),
    ] = None,
) -> None:
    """Look at runs, rollouts, evaluations and data in a browser, also while they are written.

    The site only reads. Ctrl-C ends it. With --static it becomes a directory of files.
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

    rows = tuple(data or ())
    for file in rows:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file; --data takes a configuration (.yaml) or a file of rows")
    if step and static is None:
        raise ConfigError("--step goes with --static; the served site shows all steps")
    named = places or ([] if rows else [Path("runs")])
    for place in named:
        if not place.is_dir():
            usual = "" if places else "; name the directory of a run: evr1 view RUN"
            raise ConfigError(f"{place}: no such directory{usual}")
    library = Library(named)
    if named and not library.entries():
        where = ", ".join(map(str, named))
        raise ConfigError(
            f"{where}: no run and no evaluation at or below it; give the output_dir of a run, the --out of evr1 eval, "
            "or a directory above them"
        )
    if static is not None:
        _write(library, static, rows, step or [])
        return
    token = token.strip()
    if not token and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    serve(library, host, port, token, lambda line: typer.echo(line, err=True), rows)


def _write(library: Library, out: Path, data: tuple[Path, ...], steps: list[int]) -> None:
    """Write the site as files, and say how large it became."""
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.cli.progress import progress
    from easyvideor1.viewer.static_site import write_site

    with progress("writing pages", unit="page") as on_progress:
        written = write_site(library, out, data=data, steps=steps, on_progress=on_progress)
    for fault in written.faults:
        typer.echo(f"left as an error page: {fault}", err=True)
    more = f"; {written.left_out:,} further pages are linked in the served site" if written.left_out else ""
    words = f"{written.pages:,} pages, {written.files:,} files, {size_words(written.size)}"
    typer.echo(f"wrote {out / 'index.html'}: {words}{more}")
