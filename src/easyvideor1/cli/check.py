"""``evr1 check``: check data before training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from easyvideor1.cli import check_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from easyvideor1.data import BadRow
    from easyvideor1.rewards.audit import TaskAudit

app = typer.Typer(no_args_is_help=True, help="Check data before training.")

#: Rows of each kind of problem that are printed; ``--json`` lists all of them.
_SHOWN = 10
app.command("data")(check_data.data)


@app.command()
def rewards(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="File of rows, or a configuration whose sources are all checked.")
    ],
    config: Annotated[
        str, typer.Option("--config", help="For a file of rows: configuration with its column names and rewards.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the full result as one JSON object.")] = False,
) -> None:
    """Score your reference answers with the rewards, before you train on them.

    The table shows, for each task type: the number of rows, references that do not score 1.0 against themselves, the
    best constant answer and its accuracy, and whether the reward favours long responses. Below it are the declared
    coordinate scales, the rows that cannot be used with the reason, and rows of the code task whose tests an empty
    program passes.

    No media file is opened and no judge is called. The exit status is 1 if a row cannot be used, or if a reference
    scores less than 1.0 against itself.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.cli.row_sources import sources_of
    from easyvideor1.data import embedded_media, scan_source
    from easyvideor1.rewards.audit import audit, reference_scorer
    from easyvideor1.rewards.tag_contents import example_words
    from easyvideor1.rewards.tags import full_response

    settings, sources = sources_of(data, config)
    scale = settings.rewards.coordinates
    embedded = embedded_media(settings.cache)
    scans = [
        scan_source(source, settings.data, check_media=False, coordinates=scale, embedded=embedded)
        for source in sources
    ]
    samples = [sample for scan in scans for sample in scan.samples]
    bad = [row for scan in scans for row in scan.bad]
    words = example_words(settings.rewards.tags)
    with progress("checking references", unit="type") as on_progress:
        audits = audit(
            samples,
            reference_scorer(settings.rewards),
            coordinates=scale,
            form=lambda answer: full_response(answer, settings.rewards.grammar, words),
            seed=settings.seed,
            on_task=lambda task, done, total: on_progress(done, total, task),
        )
    failed = sum(len(task.imperfect) for task in audits)
    if as_json:
        typer.echo(json.dumps(_as_json(data, audits, bad, sum(scan.rows for scan in scans)), ensure_ascii=False))
    else:
        _show(audits, bad)
    if bad or failed:
        raise typer.Exit(1)


def _as_json(data: str, audits: Sequence[TaskAudit], bad: Sequence[BadRow], rows: int) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "data": data,
        "rows": rows,
        "unusable": [asdict(row) for row in bad],
        "imperfect": sum(len(task.imperfect) for task in audits),
        "tasks": [task.to_dict() for task in audits],
    }


def _show(audits: Sequence[TaskAudit], bad: Sequence[BadRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("task type", box=None, pad_edge=False)
    for heading in ("rows", "not 1.0", "best constant", "accuracy", "length", "padding"):
        table.add_column(heading, justify="left" if heading == "best constant" else "right")
    for task in audits:
        constant = task.constant
        table.add_row(
            task.task,
            str(task.rows),
            str(len(task.imperfect)),
            _short(constant.answer) if constant else "",
            _figure(constant.accuracy if constant else None),
            _figure(task.length.correlation),
            _figure(task.length.padding),
        )
    Console(highlight=False, markup=False, width=120, soft_wrap=True).print(table)
    for task in audits:
        if task.scales is not None:
            declared, reach = (
                ", ".join(f"{count} {name}" for name, count in counts.items())
                for counts in (task.scales.declared, task.scales.reach)
            )
            typer.echo(f"{task.task}: declared coordinates: {declared}; range of the references: {reach}")
        for reason, count in task.unchecked.items():
            typer.echo(f"{task.task}: {count} references were not scored: {reason}")
    _list("cannot be used", bad)
    _list("score less than 1.0 against themselves", [row for task in audits for row in task.imperfect])
    _list("have tests that an empty program passes", [row for task in audits for row in task.vacuous])


def _list(what: str, rows: Sequence[object]) -> None:
    if not rows:
        return
    typer.echo(f"{len(rows)} rows {what}:", err=True)
    for row in rows[:_SHOWN]:
        typer.echo(f"  {row}", err=True)
    if len(rows) > _SHOWN:
        typer.echo(f"  ... and {len(rows) - _SHOWN} more; --json lists all of them", err=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 36 else f"{line[:33]}..."


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
