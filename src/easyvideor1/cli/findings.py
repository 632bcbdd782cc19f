"""What ``evr1 doctor`` finds, and how it shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from easyvideor1.config import RunConfig

State = Literal["ok", "note", "broken"]

#: The remedy for a file that nothing can make again.
COPY = "put it back from a copy of the run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table. Only ``broken`` keeps a run from working; ``remedy`` says what to do then."""

    subject: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory that is checked.

    ``config`` and ``facts`` (``run.json``) are ``None`` where they cannot be read; ``busy`` says that a process is at
    it.
    """

    directory: Path
    config: RunConfig | None
    facts: dict[str, Any] | None
    busy: bool

    @property
    def finished(self) -> bool:
        from easyvideor1.training.run_directory import FINISHED

        return self.facts is not None and self.facts["stage"] == FINISHED


def conclude(findings: list[Finding]) -> None:
    """Show findings; exit status 1 if one is of something broken."""
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
