"""``evr1 eval prepare``: a release as downloaded becomes rows, with a report of what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from easyvideor1.benchmarks import Benchmark
    from easyvideor1.benchmarks.preparation import Preparation

#: Ids and files of each kind that are printed; ``benchmark.json`` has all of them.
_SHOWN = 10


def command(
    name: Annotated[str, typer.Argument(metavar="BENCHMARK", help="A benchmark of `evr1 eval list`, or module:attr.")],
    release: Annotated[Path, typer.Option("--from", help="Directory of the release, as downloaded.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory for rows and unpacked media; evr1/ in the release by default.")
    ] = None,
) -> None:
    """Unpack a release, find its videos, and write its rows.

    Archives are unpacked once; a second run unpacks only what is new. The table shows what was read, refused, repaired
    and found, and the lines below it what is missing and what to do about it; benchmark.json has all of it.
    """
    from easyvideor1.benchmarks.preparation import REPORT, prepare
    from easyvideor1.benchmarks.release import OUT
    from easyvideor1.cli.progress import progress
    from easyvideor1.files import check_writable

    benchmark = public_benchmark(name)
    place = out or release / OUT
    if release.is_dir():
        check_writable(place)
    with progress(f"unpacking {benchmark.title or name}", unit="MB") as advance:

        def tell(done: int, total: int, archive: str) -> None:
            advance(done >> 20, max(1, total >> 20), archive)

        report = prepare(benchmark, release, out, advance=tell)
    show(report)
    typer.echo(f"wrote {place / benchmark.name / REPORT}")
    typer.echo(f"evaluate it with: evr1 eval CONFIG.yaml --data {name}={release if out is None else out}")


def public_benchmark(name: str) -> Benchmark:
    """The benchmark of this name, if it is read from a release.

    Raises:
        ConfigError: there is none, or it has no release.
    """
    from easyvideor1.benchmarks import BENCHMARKS, Benchmark
    from easyvideor1.benchmarks.benchmark import load_definitions
    from easyvideor1.types import ConfigError

    load_definitions()
    found = BENCHMARKS.resolve(name)
    if not isinstance(found, Benchmark) or not found.layouts:
        raise ConfigError(f"benchmark {name!r} is not read from a release; evaluate it with --data {name}=LOCATION")
    return found


def show(report: Preparation) -> None:
    """Print what came of a release, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    expected = "" if report.expected is None else f" of {report.expected:,} expected"
    for what, number in (
        ("benchmark", f"{report.title} (version {report.version}, layout {report.layout})"),
        ("annotations", ", ".join(report.annotations)),
        ("questions", f"{report.questions:,}{expected}"),
        ("refused", f"{len(report.refused):,}"),
        ("repaired", ", ".join(f"{rule} {len(ids):,}" for rule, ids in report.repaired.items()) or "0"),
        ("media found", f"{report.found:,} of {report.videos:,}"),
        ("subtitles", f"{report.subtitles:,} found, {report.without_subtitles:,} not"),
        ("unpacked", f"{report.unpacked.files:,} files, {report.unpacked.bytes / 1e9:.2f} GB"),
    ):
        if what != "subtitles" or report.subtitles + report.without_subtitles:
            table.add_row(what, number)
    Console(highlight=False, markup=False, width=160, soft_wrap=True).print(table)
    _list("refused rows, which are not asked", report.refused)
    for rule, ids in report.repaired.items():
        _list(f"repaired by {rule}", dict.fromkeys(ids, ""))
    _list("members of archives that were not unpacked", report.unpacked.refused)
    _list("archives that were not unpacked", report.unpacked.unusable)
    missing = {name: f"{entry['reason']} ({_asked(entry)})" for name, entry in report.missing.items()}
    _list("missing media, whose questions fail and count as wrong", missing)
    if missing:
        typer.echo("  Download them into the release and run this command again.")


def _asked(entry: Mapping[str, Any]) -> str:
    ids = entry["questions"]
    return f"question {ids[0]}" if len(ids) == 1 else f"{len(ids)} questions, the first is {ids[0]}"


def _list(title: str, entries: Mapping[str, str]) -> None:
    if not entries:
        return
    typer.echo(f"{title}: {len(entries):,}")
    for name, reason in list(entries.items())[:_SHOWN]:
        typer.echo(f"  {name}: {reason}" if reason else f"  {name}")
    if len(entries) > _SHOWN:
        typer.echo(f"  ... and {len(entries) - _SHOWN:,} more")
