"""``evr1 eval list``: all benchmarks, and what is there of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from easyvideor1.benchmarks import Benchmark


def command(
    root: Annotated[
        Path | None, typer.Option(help="Directory with one directory per benchmark, of its name: shows what is there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all that is known.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of all benchmarks as Markdown.")
    ] = False,
) -> None:
    """List all benchmarks: questions, licence, where to get them, and with --root what is there of each."""
    from easyvideor1.benchmarks import BENCHMARKS, Benchmark
    from easyvideor1.benchmarks.benchmark import load_definitions
    from easyvideor1.cli.progress import progress
    from easyvideor1.types import ConfigError

    if root is not None and not root.is_dir():
        raise ConfigError(f"{root}: no such directory - give the directory with one directory per benchmark")
    load_definitions()
    public = [each for name in BENCHMARKS.names() if isinstance(each := BENCHMARKS.resolve(name), Benchmark)]
    if root is None:
        entries = [entry(benchmark, None) for benchmark in public]
    else:
        entries = []
        with progress("looking at releases", unit="benchmark") as advance:
            for number, benchmark in enumerate(public, start=1):
                entries.append(entry(benchmark, _place(benchmark, public, root)))
                advance(number, len(public))
    if as_json:
        typer.echo(json.dumps({"benchmarks": entries}, ensure_ascii=False, indent=2))
    elif as_markdown:
        typer.echo(markdown(entries))
    else:
        _show(entries, root)


def markdown(entries: Sequence[dict[str, Any]]) -> str:
    """A table of benchmarks, as in docs/benchmarks.md."""
    lines = ["| name | benchmark | questions | frames | numbers, the quoted one first | licence |"]
    lines.append("|---|---|---|---|---|---|")
    for each in entries:
        shown, more = each["metrics"][:4], len(each["metrics"]) - 4
        numbers = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        count = "unknown" if each["questions"] is None else f"{each['questions']:,}"
        cells = (f"`{each['name']}`", each["title"], count, each["frames"], numbers, each["licence"])
        lines.append(f"| {' | '.join(cell.replace('|', ',') for cell in cells)} |")
    return "\n".join(lines)


def frames(benchmark: Benchmark) -> str:
    """The frames of a video that are shown, in words, and who says so; a benchmark without a budget takes the run's."""
    budget = benchmark.video
    if budget is None:
        return "data.video of the run"
    count = f"{budget.frames} frames" if budget.frames else f"{budget.fps:g} a second, up to {budget.max_frames}"
    size = f"{budget.max_pixels:,} px each"
    whole = f", {budget.total_pixels:,} px together" if budget.total_pixels else ""
    return f"{count}; {size}{whole} ({benchmark.video_source or 'ours'})"


def _place(benchmark: Benchmark, public: Sequence[Benchmark], root: Path) -> Path:
    """The directory of a benchmark's release, which may have the name of another benchmark of the same release."""
    names = (benchmark.name, *(other.name for other in public if other.hub == benchmark.hub))
    return next((place for name in names if (place := root / name).is_dir()), root / benchmark.name)


def entry(benchmark: Benchmark, place: Path | None) -> dict[str, Any]:
    """What is known of a benchmark, and with ``place`` what is there; nothing is written."""
    from easyvideor1.benchmarks.preparation import examine
    from easyvideor1.types import DataError

    found: dict[str, Any] = {
        "name": benchmark.name,
        "title": benchmark.title,
        "version": benchmark.version,
        "questions": benchmark.count,
        "frames": frames(benchmark),
        "metrics": [metric.name for metric in benchmark.metrics],
        "licence": benchmark.licence,
        "hub": benchmark.hub,
    }
    if place is None:
        return found
    found |= {"place": str(place), "status": "absent"}
    if not place.is_dir():
        return found
    try:
        _, report = examine(benchmark, place)
    except DataError as error:
        return {**found, "status": "no annotations", "reason": str(error)}
    complete = not report.missing and not report.refused and benchmark.count in (None, report.questions)
    return {
        **found,
        "status": "complete" if complete else "incomplete",
        "layout": report.layout,
        "read": report.questions,
        "refused": len(report.refused),
        "videos": report.videos,
        "videos_found": report.found,
        "missing": list(report.missing),
    }


def _show(entries: list[dict[str, Any]], root: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("benchmark", "title", box=None, pad_edge=False)
    table.add_column("questions", justify="right")
    if root is not None:
        table.add_column("status")
        for heading in ("read", "videos", "missing"):
            table.add_column(heading, justify="right")
    table.add_column("frames")
    table.add_column("get it from")
    table.add_column("licence")
    there_first = sorted(entries, key=lambda each: each.get("status") == "absent")
    for each in there_first:
        count = "?" if each["questions"] is None else f"{each['questions']:,}"
        there = []
        if root is not None:
            videos = f"{each['videos_found']:,}/{each['videos']:,}" if "videos" in each else ""
            lost = f"{len(each['missing']):,}" if "missing" in each else ""
            there = [each["status"], f"{each['read']:,}" if "read" in each else "", videos, lost]
        table.add_row(each["name"], each["title"], count, *there, each["frames"], each["hub"], each["licence"])
    Console(highlight=False, markup=False, width=200, soft_wrap=True).print(table)
    if root is None:
        return
    for each in entries:
        if each["status"] == "no annotations":
            typer.echo(f"{each['name']}: {each['reason']}")
        elif each.get("missing"):
            names = ", ".join(each["missing"][:3]) + (", ..." if len(each["missing"]) > 3 else "")
            again = f"evr1 eval prepare {each['name']} --from {each['place']}"
            typer.echo(f"{each['name']}: missing {names}; `{again}` shows all")
