"""``evr1 check``: look at data before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from easyvideor1.config import RunConfig
    from easyvideor1.config.schema import SourceConfig
    from easyvideor1.data import BadRow
    from easyvideor1.rewards.audit import TaskAudit

app = typer.Typer(no_args_is_help=True, help="Check data before anything is trained on it.")

#: Rows of each kind of fault that the table spells out; ``--json`` has them all.
_SHOWN = 10
_ROWS_SUFFIXES = {".json", ".jsonl", ".parquet"}


@app.callback()
def _check() -> None:
    """Without this, typer would make the only verb the command itself."""


@app.command()
def rewards(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="File of rows, or a configuration: all of its sources are checked.")
    ],
    config: Annotated[
        str, typer.Option("--config", help="Configuration whose column names and rewards count, for a file of rows.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say what the rewards make of your references.

    For each task type: rows, references that do not score 1.0 against themselves, what the best constant answer earns,
    whether length is paid for, and declared scales of coordinates. Rows that cannot be used are named with the reason,
    and so are rows of programs whose tests an empty answer passes.
    No media file is touched and no judge is asked. The exit status is 1 if a row cannot be used, or if a reference
    fails against itself.
    """
    from easyvideor1.cli.progress import progress
    from easyvideor1.data import embedded_media, scan_source
    from easyvideor1.rewards.audit import audit, reference_scorer
    from easyvideor1.rewards.tags import full_response

    settings, sources = _sources(data, config)
    scale = settings.rewards.coordinates
    embedded = embedded_media(settings.cache)
    scans = [
        scan_source(source, settings.data, check_media=False, coordinates=scale, embedded=embedded)
        for source in sources
    ]
    samples = [sample for scan in scans for sample in scan.samples]
    bad = [row for scan in scans for row in scan.bad]
    with progress("checking references", unit="type") as on_progress:
        audits = audit(
            samples,
            reference_scorer(settings.rewards),
            coordinates=scale,
            form=lambda answer: full_response(answer, settings.rewards.grammar),
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


def _sources(data: str, config: str) -> tuple[RunConfig, Sequence[SourceConfig]]:
    """The configuration that counts, and what is to be read.

    Raises:
        ConfigError: a configuration has no source, or ``--config`` is given beside one.
    """
    from easyvideor1.config import RunConfig, load_config, located
    from easyvideor1.config.places import require_sources
    from easyvideor1.config.schema import SourceConfig
    from easyvideor1.types import ConfigError

    if Path(data).suffix.lower() in _ROWS_SUFFIXES:
        source = SourceConfig(path=data)
        require_sources(RunConfig(), [source])
        return (load_config(config, ()) if config else RunConfig()), (source,)
    if config:
        raise ConfigError(f"{data} is no file of rows (.json, .jsonl, .parquet); --config goes with one")
    settings = located(load_config(data, ()))
    sources = tuple(dict.fromkeys((*settings.data.train, *settings.data.validation, *settings.data.test)))
    if not sources:
        raise ConfigError(
            f"{data} names no source: set data.train, data.validation or data.test, or give a file of rows"
        )
    require_sources(settings, sources)
    return settings, sources


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
            typer.echo(f"{task.task}: coordinates {declared}; references reach {reach}")
        for reason, count in task.unchecked.items():
            typer.echo(f"{task.task}: {count} not checked against themselves: {reason}")
    _list("cannot be used", bad)
    _list("score less than 1.0 against themselves", [row for task in audits for row in task.imperfect])
    _list("ask for nothing", [row for task in audits for row in task.vacuous])


def _list(what: str, rows: Sequence[object]) -> None:
    if not rows:
        return
    typer.echo(f"{len(rows)} rows {what}:", err=True)
    for row in rows[:_SHOWN]:
        typer.echo(f"  {row}", err=True)
    if len(rows) > _SHOWN:
        typer.echo(f"  ... and {len(rows) - _SHOWN} more; --json names them all", err=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 36 else f"{line[:33]}..."


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
