"""Tables of differences on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from easyvideor1.evaluation.comparison import Difference

#: How a difference is printed: see ``difference_cells``.
HEADINGS = ("A", "B", "B - A", "interval", "p", "adjusted p", "detectable", "gained", "lost", "questions", "clusters")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Print a table; the columns of these numbers are aligned to the right. Lines are never wrapped."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if number in right else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    Console(highlight=False, markup=False, width=400, soft_wrap=True).print(shown)


def difference_cells(difference: Difference) -> tuple[str, ...]:
    """The cells of ``HEADINGS``, on the scale of the metric."""
    scale = difference.scale
    digits = 1 if scale == 100.0 else 3
    change = difference.scaled
    adjusted = difference.p if difference.adjusted is None else difference.adjusted
    return (
        f"{scale * difference.before:.{digits}f}",
        f"{scale * difference.after:.{digits}f}",
        f"{change.mean:+.{digits}f}",
        f"[{change.low:+.{digits}f}, {change.high:+.{digits}f}]",
        _p(difference.p),
        _p(adjusted),
        f"{scale * difference.detectable:.{digits}f}",
        f"{difference.gained:,}",
        f"{difference.lost:,}",
        f"{difference.count:,}",
        f"{difference.clusters:,}",
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def print_differences(differences: Sequence[Difference], confidence: float) -> None:
    """Print differences, one a line, and how they are read."""
    typer.echo("")
    rows = []
    for each in differences:
        name = f"  {each.facet} = {each.value}" if each.facet else each.metric
        rows.append((name, *difference_cells(each)))
    table(("number", *HEADINGS), rows, right=range(1, len(HEADINGS) + 1))
    typer.echo(reading(differences, confidence))


def reading(differences: Sequence[Difference], confidence: float) -> str:
    """How the table is read."""
    tests = ", ".join(dict.fromkeys(each.test for each in differences))
    return (
        f"{confidence:.0%} intervals of paired differences, whole clusters resampled; p by {tests}; detectable: the "
        "smallest true difference that so many questions find with a power of 80%"
    )
