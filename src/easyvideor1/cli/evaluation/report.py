"""``evr1 eval report``: one page, and tables for other programs, over any number of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    results: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories at or below which results are.")],
    out: Annotated[Path, typer.Option(help="Directory for report.html, .md, .csv, .json and .tex.")] = Path("report"),
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Frame cache that the page takes its pictures from; cache.dir of a configuration by default."
        ),
    ] = None,
    questions: Annotated[
        int, typer.Option(min=0, help="Questions of each kind that the page shows for a benchmark.")
    ] = 4,
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import code (module:attr) that results name; only if you trust it.")
    ] = False,
) -> None:
    """Write the report over results: models by benchmarks with intervals, categories, failures, questions.

    The page shows the frames that are still in the frame cache; nothing is decoded and no model is needed.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.config.media import CacheConfig
    from easyvideor1.evaluation.benchmark_report import write_benchmark_report
    from easyvideor1.files import check_writable
    from easyvideor1.types import DataError
    from easyvideor1.video import FrameStore

    for place in results:
        if not place.is_dir():
            raise DataError(f"{place}: no such directory; give one that `evr1 eval run` wrote results to")
    if cache is not None and not cache.is_dir():
        raise DataError(f"{cache}: no such directory; give the frame cache, or leave --cache out")
    check_writable(out)
    store = FrameStore(cache or CacheConfig().dir)
    with progress("reading results", unit="result") as on_progress:
        written = write_benchmark_report(
            results, out, store.get, per_kind=questions, own_code=own_code, on_progress=on_progress
        )
    for path in written:
        typer.echo(f"wrote {path}")
