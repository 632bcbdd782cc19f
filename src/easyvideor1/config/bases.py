"""``base:`` of a configuration: what it changes lies over another one, or over several, the later over the earlier.

Sections are merged key by key; anything else, lists too, replaces what the base says. ``null`` takes a section of the
base away, so that defaults hold. ``stages`` may be written as ``{NAME: changes}``, which changes stages of the base by
name. Every value keeps the place where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config.base import ByName, Shorthand
from easyvideor1.config.keys import is_required_section, mark_at
from easyvideor1.config.repeat import written_out
from easyvideor1.config.yaml_source import Keys, Source, describe, read_yaml
from easyvideor1.types import ConfigError

#: The key that names what a configuration lies over.
BASE = "base"


@dataclass(frozen=True, slots=True)
class Written:
    """The text of a configuration, what messages call it, and the directory that relative bases start from."""

    name: str
    text: str
    folder: Path | None = None


#: Finds what a base names: ``(name, the directory of the configuration that names it)``.
Find = Callable[[str, Path | None], Written]


def with_bases(written: Written, find: Find, above: tuple[Path | str, ...] = ()) -> Source:
    """A configuration over its bases, with loops of stages written out.

    Raises:
        ConfigError: a base is not there, lies over itself, or a change is of a stage that no base has.
    """
    source = read_yaml(written.text, written.name)
    named = source.values.pop(BASE, None)
    if named is None:
        return written_out(source)
    where = source.where((BASE,))
    if (here := _identity(written)) in above:
        raise ConfigError(f"{where}: {BASE}: {written.name} lies over itself; remove it from one of the files")
    bases = [named] if isinstance(named, str) else named
    if not isinstance(bases, list) or not bases or not all(isinstance(each, str) and each for each in bases):
        raise ConfigError(f"{where}: {BASE}: expected a recipe, a YAML file, or a list of them, got {describe(named)}")
    under = Source({}, {})
    for each in bases:
        try:
            found = find(each, written.folder)
        except ConfigError as error:
            raise ConfigError(f"{where}: {BASE}: {error}") from error
        under = lay_over(under, with_bases(found, find, (*above, here)))
    return lay_over(under, _written_out(source))


def _identity(written: Written) -> Path | str:
    """The same however its path is written: one with ``..`` gets longer with every round of a circle."""
    file = Path(written.name)
    return file.resolve() if file.is_file() else written.name


def lay_over(under: Source, over: Source) -> Source:
    """``under`` with the values of ``over``, as the head of this module says."""
    values, marks = deepcopy(under.values), dict(under.marks)
    marks.update({(): over.marks.get((), marks.get((), ""))})
    _lay(values, marks, over.values, over, (), ())
    return Source(values, marks)


def _written_out(source: Source) -> Source:
    return written_out(source) if isinstance(source.values.get("stages"), list) else source


def _lay(
    values: dict[str, Any], marks: dict[Keys, str], changes: Mapping[str, Any], over: Source, at: Keys, told: Keys
) -> None:
    """Lay ``changes`` over ``values``; ``at`` is where these are, ``told`` where ``over`` wrote the changes."""
    for key, value in changes.items():
        path, place = (*at, key), (*told, key)
        if path == ("stages",) and isinstance(value, Mapping) and isinstance(values.get(key), list):
            _lay_stages(values[key], marks, value, over)
            continue
        if path == ("stages",) and isinstance(value, list) and isinstance(values.get(key), Mapping) and values[key]:
            raise ConfigError(
                f"{marks.get(path) or over.where(path)}: stages: changes by name ({', '.join(map(str, values[key]))}) "
                f"come before the list of stages of {over.where(place)}, which would replace them; name this file "
                f"after that one in {BASE}"
            )
        mark = mark_at(path)
        below = values.get(key)
        if mark is not None and isinstance(value, Mapping):
            below = mark.expand(below)
        if isinstance(value, Mapping) and isinstance(below, dict) and not _renamed(mark, below, value):
            values[key] = below
            marks.setdefault(path, over.where(place))
            _lay(below, marks, value, over, path, place)
            continue
        for old in [each for each in marks if each[: len(path)] == path]:
            del marks[old]
        if value is None and (isinstance(below, dict) or is_required_section(path)):
            values.pop(key, None)
            continue
        values[key] = _without_nulls(deepcopy(value), path)
        for each, line in over.marks.items():
            if each[: len(place)] == place:
                marks[(*path, *each[len(place) :])] = line


def _without_nulls(value: Any, at: Keys) -> Any:
    """A value without the sections that it takes away, for there are none below."""
    if not isinstance(value, dict):
        return value
    return {
        key: _without_nulls(each, (*at, key))
        for key, each in value.items()
        if each is not None or not is_required_section((*at, key))
    }


def _lay_stages(stages: list[Any], marks: dict[Keys, str], changes: Mapping[str, Any], over: Source) -> None:
    names = [stage.get("name") if isinstance(stage, Mapping) else None for stage in stages]
    for name, change in changes.items():
        place: Keys = ("stages", name)
        if name not in names:
            known = ", ".join(map(str, names))
            raise ConfigError(f"{over.where(place)}: stages.{name}: no stage of the base has this name; it has {known}")
        if not isinstance(change, Mapping):
            raise ConfigError(f"{over.where(place)}: stages.{name}: expected a section, got {describe(change)}")
        index = names.index(name)
        _lay(stages[index], marks, change, over, ("stages", index), place)


def _renamed(mark: Shorthand | None, below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether a section whose keys go with its name gets another name, so that nothing of the old one holds."""
    if not isinstance(mark, ByName):
        return False
    return mark.key in value and value[mark.key] != below.get(mark.key, mark.default)
