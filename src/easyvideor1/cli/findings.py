"""Findings of ``evr1 doctor``, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig

State = Literal["ok", "note", "broken"]

#: The remedy for a file that cannot be made again.
COPY = "restore it from a backup of the run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table. Only ``broken`` means that a run cannot work; ``remedy`` says what to do."""

    subject: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """The run directory to check.

    ``config`` and ``facts`` (``run.json``) are ``None`` if they cannot be read; ``busy`` means that a process holds
    the run.
    """

    directory: Path
    config: RunConfig | None
    facts: dict[str, Any] | None
    busy: bool

    @property
    def finished(self) -> bool:
        from easyvideor1.training.run_directory.status import FINISHED

        return self.facts is not None and self.facts["stage"] == FINISHED


def conclude(findings: list[Finding]) -> None:
    """Show findings; exit with status 1 if anything is broken."""
    _show(findings)
    broken = sum(finding.state == "broken" for finding in findings)
    if broken:
        typer.echo(f"{broken} broken", err=True)
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "broken": "[bold red]broken[/]"}
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        table.add_row(marks[finding.state], *map(escape, (finding.subject, finding.detail, finding.remedy)))
    Console().print(table)
