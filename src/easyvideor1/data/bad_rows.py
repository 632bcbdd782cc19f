"""Rows that cannot be used: what is wrong and where, what to do with them, and repairs of published files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from easyvideor1.types import ConfigError, DataError

#: Values of ``data.on_bad_row``: stop the run, or skip bad rows.
Policy = Literal["error", "skip"]

#: Number of bad rows that an error message lists; the others are counted.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. ``where`` is ``file:line``; ``field`` is empty if the whole row is bad.

    A fault that is found after reading (a video that cannot be probed, a prompt that is too long) becomes one with
    ``where=sample.where`` and is passed to ``Loaded.without``.
    """

    where: str
    field: str
    what: str
    remedy: str

    def __str__(self) -> str:
        subject = f"field {self.field!r}: " if self.field else ""
        return f"{self.where}: {subject}{self.what} - {self.remedy}"


class RowError(DataError):
    """The first fault of a row; ``at`` makes it a ``BadRow``."""

    def __init__(self, field: str, what: str, remedy: str) -> None:
        super().__init__(f"field {field!r}: {what} - {remedy}" if field else f"{what} - {remedy}")
        self.field = field
        self.what = what
        self.remedy = remedy

    def at(self, where: str) -> BadRow:
        """The same fault with its place."""
        return BadRow(where, self.field, self.what, self.remedy)


def count_by_field(bad: Sequence[BadRow]) -> dict[str, int]:
    """Number of bad rows per field, most frequent first; ``"row"`` counts faults of whole rows."""
    return dict(Counter(row.field or "row" for row in bad).most_common())


def enforce(path: str, bad: Sequence[BadRow], *, rows: int, used: int, policy: Policy) -> None:
    """Apply ``data.on_bad_row`` to the rows of a source.

    Raises:
        DataError: there are bad rows and the policy is ``error``, or no usable row is left.
    """
    if bad and (policy == "error" or not used):
        lines = [f"{path}: {len(bad)} of {rows} rows cannot be used:", *(f"  {row}" for row in bad[:SHOWN])]
        if len(bad) > SHOWN:
            counts = ", ".join(f"{field} {count}" for field, count in count_by_field(bad).items())
            lines.append(f"  ... and {len(bad) - SHOWN} more; all of them by field: {counts}")
        if policy == "error":
            lines.append("Correct them, or set data.on_bad_row to 'skip' to skip and count them.")
        else:
            lines.append("No usable row is left: correct the rows or the source's settings.")
        raise DataError("\n".join(lines))


_HIDDEN = re.compile(r"\s*+<think>([^<]*+)</think>\s*+<\[[^\[\]<>]{1,200}\]>\s*+")


def reference_in_thinking(text: str) -> str | None:
    """The JSON object of ``<think>{...}</think><[placeholder]>``, as in the published file of Charades-STA.

    ``None`` for any other text, and if the thinking is not a JSON object.
    """
    hidden = _HIDDEN.fullmatch(text)
    if hidden is None:
        return None
    try:
        found = json.loads(hidden[1])
    except (ValueError, RecursionError):
        return None
    return hidden[1].strip() if isinstance(found, dict) else None


#: Name of a repair -> function that returns the repaired reference, or ``None`` if the text does not have its fault.
REPAIRS: Mapping[str, Callable[[str], str | None]] = MappingProxyType({"reference-in-thinking": reference_in_thinking})


def check_repairs(names: Sequence[str]) -> None:
    """Refuse unknown names of repairs.

    Raises:
        ConfigError: a name is unknown.
    """
    for name in names:
        if name not in REPAIRS:
            raise ConfigError(f"unknown repair {name!r}; known: {', '.join(REPAIRS)}")


def repaired(value: object, names: Sequence[str]) -> tuple[object, str]:
    """A reference after the first repair that applies, and the name of that repair; an empty name if none applies."""
    if isinstance(value, str):
        for name in names:
            if (fixed := REPAIRS[name](value)) is not None:
                return fixed, name
    return value, ""


def remedy_of(value: object) -> str:
    """The remedy for a reference that cannot be used; names the repair that would read it, if there is one."""
    _, name = repaired(value, tuple(REPAIRS))
    if name:
        return f"add {name!r} to the 'repair' of this source, correct the reference answer or remove the row"
    return "correct the reference answer or remove the row"
