"""What is wrong with a row, and where: the words of every refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from easyvideor1.types import DataError

#: What to do with rows that cannot be used; the values of ``data.on_bad_row``.
Policy = Literal["error", "skip"]

#: Bad rows that an error message spells out; the others are counted.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. ``where`` is ``file:line``; ``field`` is empty when the whole row is at fault.

    Whoever finds a fault later than the reader (a video that does not probe, a prompt that is too long) makes one with
    ``where=sample.where`` and hands it to ``Loaded.without``.
    """

    where: str
    field: str
    what: str
    remedy: str

    def __str__(self) -> str:
        subject = f"field {self.field!r}: " if self.field else ""
        return f"{self.where}: {subject}{self.what} - {self.remedy}"


class RowError(DataError):
    """The first thing that is wrong with a row; ``at`` makes it a ``BadRow``."""

    def __init__(self, field: str, what: str, remedy: str) -> None:
        super().__init__(f"field {field!r}: {what} - {remedy}" if field else f"{what} - {remedy}")
        self.field = field
        self.what = what
        self.remedy = remedy

    def at(self, where: str) -> BadRow:
        """The same fault with its place."""
        return BadRow(where, self.field, self.what, self.remedy)


def count_by_field(bad: Sequence[BadRow]) -> dict[str, int]:
    """Bad rows per field, most frequent first; ``"row"`` stands for faults of whole rows."""
    return dict(Counter(row.field or "row" for row in bad).most_common())


def enforce(path: str, bad: Sequence[BadRow], *, rows: int, used: int, policy: Policy) -> None:
    """Apply ``data.on_bad_row`` to what a source gave.

    Raises:
        DataError: there are bad rows and the policy is ``error``; or nothing usable is left under either policy.
    """
    if bad and (policy == "error" or not used):
        lines = [f"{path}: {len(bad)} of {rows} rows cannot be used:", *(f"  {row}" for row in bad[:SHOWN])]
        if len(bad) > SHOWN:
            counts = ", ".join(f"{field} {count}" for field, count in count_by_field(bad).items())
            lines.append(f"  ... and {len(bad) - SHOWN} more; all of them by field: {counts}")
        if policy == "error":
            lines.append("Correct them, or set data.on_bad_row to 'skip' to leave them out and have them counted.")
        else:
            lines.append("No usable row is left: correct the rows or the source's settings.")
        raise DataError("\n".join(lines))
