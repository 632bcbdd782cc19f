"""Repairs of published files by name: what a source may ask for when its rows are known to be written wrongly.

A repair changes the reference of a row and nothing else, only where it finds the fault it is for, and it is counted in
the report of its source. Without it such a row is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from easyvideor1.types import ConfigError

_HIDDEN = re.compile(r"\s*+<think>([^<]*+)</think>\s*+<\[[^\[\]<>]{1,200}\]>\s*+")


def reference_in_thinking(text: str) -> str | None:
    """The JSON object of ``<think>{...}</think><[placeholder]>``, as in the published file of Charades-STA.

    ``None`` for any other text, and where the thinking holds no JSON object.
    """
    hidden = _HIDDEN.fullmatch(text)
    if hidden is None:
        return None
    try:
        found = json.loads(hidden[1])
    except (ValueError, RecursionError):
        return None
    return hidden[1].strip() if isinstance(found, dict) else None


#: Name of a repair -> the sound reference that it makes of a text; ``None`` where the fault it is for is not there.
REPAIRS: Mapping[str, Callable[[str], str | None]] = MappingProxyType({"reference-in-thinking": reference_in_thinking})


def check_repairs(names: Sequence[str]) -> None:
    """Refuse names of repairs that there are none of.

    Raises:
        ConfigError: a name is unknown.
    """
    for name in names:
        if name not in REPAIRS:
            raise ConfigError(f"unknown repair {name!r}; known: {', '.join(REPAIRS)}")


def repaired(value: object, names: Sequence[str]) -> tuple[object, str]:
    """A reference after the first repair that finds its fault, and the name of that repair; empty if none does."""
    if isinstance(value, str):
        for name in names:
            if (sound := REPAIRS[name](value)) is not None:
                return sound, name
    return value, ""


def remedy_of(value: object) -> str:
    """What to do about a reference that cannot be used; it names the repair that would read it, if there is one."""
    _, name = repaired(value, tuple(REPAIRS))
    if name:
        return f"add {name!r} to the 'repair' of this source, correct the reference answer or remove the row"
    return "correct the reference answer or remove the row"
