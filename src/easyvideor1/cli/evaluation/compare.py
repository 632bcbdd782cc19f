"""``evr1 eval compare``: several models over all benchmarks that they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from easyvideor1.cli.evaluation.differences import HEADINGS, difference_cells, reading, table


def command(
    places: Annotated[
        list[Path], typer.Argument(metavar="OUT...", help="Directories at or below which results of models are.")
    ],
    baseline: Annotated[
        str, typer.Option(help="Model that the others are compared with, by its name in the table; the first found.")
    ] = "",
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare common questions only, where versions or questions differ."),
    ] = False,
    correction: Annotated[
        Literal["holm", "bh", "none"],
        typer.Option(help="Adjusts p-values: holm (any false difference), bh (share of false ones), none."),
    ] = "holm",
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import code (module:attr) that results name; only if you trust it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all that is known.")] = False,
) -> None:
    """Compare models on all benchmarks that they share: paired differences with intervals, p-values adjusted for the
    number of comparisons, and the smallest difference that could have been found."""
    from easyvideor1.cli.progress import progress
    from easyvideor1.evaluation.certificate import RECORDS, Result, find_results
    from easyvideor1.evaluation.comparison_table import compare_results, named_results
    from easyvideor1.types import ConfigError, DataError

    found, unfinished = {}, []
    for place in places:
        directories = find_results([place])
        found[place] = [each for each in directories if (each / f"{RECORDS}.json").exists()]
        unfinished += [each for each in directories if each not in found[place]]
        if not directories:
            raise DataError(f"{place}: no result at or below it; give a directory that `evr1 eval run` wrote to")
    count, done = sum(map(len, found.values())), 0
    read: list[tuple[Path, list[Result]]] = []
    with progress("reading results", unit="result") as advance:
        for place, directories in found.items():
            read.append((place, []))
            for directory in directories:
                read[-1][1].append(Result.load(directory))
                advance(done := done + 1, count)
    for directory in unfinished:
        typer.echo(f"left out, because its evaluation is not finished: {directory}", err=True)
    models = named_results(read)
    with progress("comparing", unit="comparison") as advance:
        compared = compare_results(
            models,
            baseline=baseline,
            common=common,
            correction=correction,
            own_code=own_code,
            on_progress=advance,
        )
    rows = compared.comparisons
    if as_json:
        value = {"baseline": compared.baseline, "models": list(compared.models), "correction": correction}
        entries = {"comparisons": [row.to_json() for row in rows], "notes": list(compared.notes)}
        typer.echo(json.dumps({**value, **entries}, ensure_ascii=False, indent=2))
        return
    if not rows:
        raise ConfigError(f"no benchmark is shared with {compared.baseline}; {'; '.join(compared.notes)}")
    typer.echo(f"A: {compared.baseline}\n")
    cells = [(row.benchmark, row.difference.metric, row.after, *difference_cells(row.difference)) for row in rows]
    out = [f"{row.left_out:,}" for row in rows]
    headings = ("benchmark", "number", "B is", *HEADINGS, *(["left out"] if common else []))
    shown = [(*line, left) if common else line for line, left in zip(cells, out, strict=True)]
    table(headings, shown, right=range(3, len(headings)))
    confidence = next(iter(models[compared.baseline].values())).evaluation.confidence
    typer.echo(reading([row.difference for row in rows], confidence))
    typer.echo(f"p-values adjusted for {len(rows)} comparisons: {correction}")
    for note in compared.notes:
        typer.echo(f"note: {note}")
