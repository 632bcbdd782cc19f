"""Advice on a key that does not exist: where its value belongs, however deep and by whatever name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from easyvideor1.config.base import ByName
from easyvideor1.config.keys import all_keys, dotted, keys_at, mark_at
from easyvideor1.config.synonyms import LOCAL_SYNONYMS, SYNONYMS
from easyvideor1.config.yaml_source import Keys

#: A section with more keys than these is not listed: nobody reads sixty names.
_LISTED = 20
#: Suggestions in one message.
_SHOWN = 3


def suggest(path: Keys, values: Mapping[str, Any]) -> str:
    """What to write in place of the unknown key at ``path``.

    Args:
        path: the way to the key.
        values: the whole configuration as it was written; stages are called by the names they have there.
    """
    if found := _nearest_keys(path):
        return f"did you mean {' or '.join(shown_key(key, values) for key in found)}?"
    if inside := _inside(path, values):
        return inside
    siblings = keys_at(path[:-1], _name_at(path[:-1], values))
    if not siblings:
        return "nothing can be set here"
    if len(siblings) <= _LISTED:
        return f"valid keys here: {', '.join(siblings)}"
    place = shown_key(path[:-1], values)
    return f"nothing of such a name can be set; docs/configuration.md and `evr1 config show` have the keys of {place}"


def unused(path: Keys, values: Mapping[str, Any]) -> str:
    """Why the key at ``path`` has no effect: another name beside it would read it. Empty for any other key."""
    mark, key = mark_at(path[:-1]), str(path[-1])
    if not isinstance(mark, ByName):
        return ""
    readers = [name for name in mark.names() if key in mark.classes[name].model_fields]
    if not readers:
        return ""
    kind, name = (
        next(str(key) for key in path[-2::-1] if isinstance(key, str)),
        str(_name_at(path[:-1], values) or mark.default),
    )
    remedy = f"set that in place of {name}, or leave out {key}"
    return f"would have no effect: it goes with {kind} {' or '.join(readers)}; {remedy}"


def _name_at(path: Keys, values: Mapping[str, Any]) -> object:
    """The name in the section at ``path``."""
    section: Any = values
    for key in path:
        section = section[key]
    return section.get("name") if isinstance(section, Mapping) else section


def shown_key(path: Keys, values: Mapping[str, Any]) -> str:
    """A way to a value as overrides write it, with a stage's name for its index where it has one."""
    if len(path) > 1 and path[0] == "stages" and isinstance(path[1], int):
        stages = values.get("stages")
        stage = stages[path[1]] if isinstance(stages, list) and path[1] < len(stages) else None
        name = stage.get("name") if isinstance(stage, dict) else None
        # A name of digits alone would be read as an index.
        if isinstance(name, str) and re.fullmatch(r"\w[\w-]*", name) and not name.isdigit():
            path = ("stages", name, *path[2:])
    return dotted(path)


def nearest(word: str, choices: Sequence[str]) -> list[str]:
    """The few choices that are spelled most like a word, if any is; first those that it begins."""
    begun = [choice for choice in choices if word and choice.startswith(word)]
    alike = difflib.get_close_matches(word, choices, n=_SHOWN, cutoff=0.6)
    return list(dict.fromkeys((*begun, *alike)))[:_SHOWN]


def _nearest_keys(path: Keys) -> list[Keys]:
    """Keys that may be meant: a synonym anywhere, else a slip of the pen beside it or the word elsewhere, else what is
    spelled like it."""
    word, above = str(path[-1]), path[:-1]
    siblings = keys_at(above)
    if same := [name for name in siblings if _plain(word) in _names_beside((*above, name))]:
        return [(*above, name) for name in same]
    meant = _closest([key for key in all_keys() if _plain(word) in _names(key)], above)
    if any(_plain(word) in map(_plain, names) for names in SYNONYMS.values()):
        return meant
    slips: list[Keys] = [(*above, name) for name in difflib.get_close_matches(word, siblings, n=_SHOWN, cutoff=0.8)]
    if slips or meant:
        return list(dict.fromkeys([*slips, *meant]))[:_SHOWN]
    if near := nearest(word, siblings):
        return [(*above, name) for name in near]
    known = sorted({name for key in all_keys() for name in _names(key)})
    similar = difflib.get_close_matches(_plain(word), known, n=1, cutoff=0.8)
    return _closest([key for key in all_keys() if similar and similar[0] in _names(key)], above)


def _names(key: Keys) -> set[str]:
    return {_plain(str(key[-1])), *map(_plain, SYNONYMS.get(key, ()))}


def _names_beside(key: Keys) -> set[str]:
    """Names of a key for somebody who has found its section."""
    schematic = tuple(0 if isinstance(word, int) else word for word in key)
    return _names(schematic) | set(map(_plain, LOCAL_SYNONYMS.get(schematic, ())))


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _closest(found: Sequence[Keys], above: Keys) -> list[Keys]:
    """Of some keys those that are nearest to a section: most of the way shared, then least of it left."""
    here = [_entered(key, above) for key in found]
    ways = [(-_shared(key, above), len(key)) for key in here]
    return [key for key, way in zip(here, ways, strict=True) if way == min(ways)][:_SHOWN]


def _entered(key: Keys, above: Keys) -> Keys:
    """A key of the schema in the entries of lists that ``above`` goes through."""
    out: list[str | int] = list(key)
    for index, (word, mine) in enumerate(zip(above, key, strict=False)):
        if isinstance(word, int) and isinstance(mine, int):
            out[index] = word
        elif word != mine:
            break
    return tuple(out)


def _shared(key: Keys, above: Keys) -> int:
    count = 0
    for one, other in zip(key, above, strict=False):
        if one != other:
            break
        count += 1
    return count


def _inside(path: Keys, values: Mapping[str, Any]) -> str:
    """For an unknown section: where the keys in it belong."""
    value: Any = values
    for key in path:
        value = value[key]
    known = []
    for name in value if isinstance(value, Mapping) else ():
        if found := _nearest_keys((*path[:-1], str(name))):
            known.append(f"{shown_key(found[0], values)} for its {name}")
    return f"there is no such section; write {', '.join(known[:_SHOWN])}" if known else ""
