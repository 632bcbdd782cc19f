"""What differs between runs: their configurations, versions and data, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from easyvideor1.evaluation.history import RunHistory
from easyvideor1.files import flat

#: What differs between any two runs, and says nothing about why they came out differently.
_OWN = frozenset({"name", "output_dir"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A key whose values are not all equal; ``ABSENT`` where a run does not have it."""

    key: str
    values: tuple[Any, ...]


class _Absent:
    def __str__(self) -> str:
        return "\N{EN DASH}"


ABSENT = _Absent()


def settings_of(history: RunHistory) -> dict[str, Any]:
    """All settings of a run by dotted key, stages by their names, with the versions that made it; empty without any."""
    values = yaml.safe_load(history.config) if history.config else {}
    found = flat(_by_name(values)) if isinstance(values, Mapping) else {}
    run = history.run or {}
    for name in ("versions", "threads", "data"):
        if name in run:
            shown = {str(path): str(digest)[:12] for path, digest in run[name].items()} if name == "data" else run[name]
            found |= _joined("rows" if name == "data" else name, shown)
    return {key: value for key, value in found.items() if key not in _OWN}


def _joined(name: str, value: Any) -> dict[str, Any]:
    return {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}


def _by_name(value: Any) -> Any:
    """The same, with lists of sections that have names as sections by name: a stage that was put before another does
    not change the keys of that."""
    if isinstance(value, Mapping):
        return {key: _by_name(each) for key, each in value.items()}
    if isinstance(value, list):
        names = [each.get("name") if isinstance(each, Mapping) else None for each in value]
        if value and all(names) and len(set(names)) == len(names):
            return {name: _by_name(each) for name, each in zip(names, value, strict=True)}
        return [_by_name(each) for each in value]
    return value


def differing_settings(histories: Sequence[RunHistory]) -> list[Setting]:
    """The settings that are not the same in all of these runs, in the order of the configuration.

    A section that some runs do not have at all, such as a stage, is one line.
    """
    found = [settings_of(history) for history in histories]
    keys = dict.fromkeys(key for each in found for key in each)
    rows: dict[str, Setting] = {}
    for key in keys:
        lacking = [each for each in found if key not in each]
        section = next((one for one in _sections(key) if any(not _has(each, one) for each in lacking)), "")
        if section and sum(other.startswith(f"{section}.") for other in keys) > 1:
            rows.setdefault(section, Setting(section, tuple(_count(each, section) for each in found)))
        else:
            rows[key] = Setting(key, tuple(each.get(key, ABSENT) for each in found))
    return [row for row in rows.values() if any(value != row.values[0] for value in row.values)]


def _sections(key: str) -> list[str]:
    """The sections that a key lies in, the outermost first."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _has(settings: Mapping[str, Any], section: str) -> bool:
    return any(key == section or key.startswith(f"{section}.") for key in settings)


def _count(settings: Mapping[str, Any], section: str) -> Any:
    """What stands for a whole section: how many settings it has."""
    count = sum(key.startswith(f"{section}.") for key in settings)
    return f"{count} settings" if count else settings.get(section, ABSENT)
