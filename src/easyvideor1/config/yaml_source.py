"""YAML text becomes plain values here, and every value keeps the place it was written at.

The reading is that of YAML 1.2: ``1e-6`` is a number, ``yes``, ``on`` and ``12:30`` are text, and so are dates. One
exception: ``1_048_576`` is a number, as in YAML 1.1 and in Python. Tags that build objects are refused, and a key that
is written twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from easyvideor1.types import ConfigError

#: The way to a value: keys of sections and indices of lists.
Keys = tuple[str | int, ...]

#: More values than any configuration has; a few lines of nested aliases can ask for billions.
MOST_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"^[-+]?[0-9][0-9_]*$|^0x[0-9a-fA-F]+$|^0o[0-7]+$")
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_DOTTED = re.compile(r"\.(inf|nan)$", re.IGNORECASE)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
RESOLVERS: tuple[tuple[str, re.Pattern[str], list[str] | None], ...] = (
    (f"{_TAG}null", _NULL, ["~", "n", "N", ""]),
    (f"{_TAG}bool", _BOOL, list("tTfF")),
    (f"{_TAG}int", _INT, list("-+0123456789")),
    (f"{_TAG}float", _FLOAT, list("-+0123456789.")),
)


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the plain scalars of YAML 1.2 only."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to give a subclass its own table


for _tag, _pattern, _first in RESOLVERS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


@dataclass(frozen=True, slots=True)
class Source:
    """Values read from YAML. ``marks`` maps the path of every value to ``file:line`` or to the override it is from."""

    values: dict[str, Any]
    marks: Mapping[Keys, str]

    def where(self, path: Keys) -> str:
        """The mark of ``path``, or of the nearest section around it that was written down."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return "configuration"


def read_yaml(text: str, name: str) -> Source:
    """Read one YAML document whose top is a mapping; empty text is an empty mapping.

    Args:
        text: the document.
        name: what messages call it, usually its path.

    Raises:
        ConfigError: the text is no YAML, repeats a key, has a tag that builds an object, or is no mapping.
    """
    node = _compose(text, name)
    marks: dict[Keys, str] = {(): f"{name}:1"}
    if node is None:
        return Source({}, marks)
    value = _Reader(name, marks).value(node, (), ())
    if value is None:
        return Source({}, marks)
    if not isinstance(value, dict):
        raise ConfigError(f"{name}:{_line(node)}: expected sections such as 'data:' at the top, got {describe(value)}")
    return Source(value, marks)


def parse_value(text: str, name: str) -> Any:
    """Read the value of an override as YAML; nothing at all is the empty string.

    Raises:
        ConfigError: as for ``read_yaml``.
    """
    if not text.strip():
        return ""
    node = _compose(text, name)
    return "" if node is None else _Reader(name, {}).value(node, (), ())


def describe(value: object) -> str:
    """A value and its kind, in YAML's words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:57] + "..."
        return f"{shown!r} (text)"
    if isinstance(value, int | float):
        return f"{value!r} (a number)"
    if isinstance(value, dict):
        return f"a section with keys {', '.join(map(str, value))}" if value else "an empty section"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return repr(value)


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply to be a configuration") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        column = f" (column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{place}: not valid YAML{column}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    return node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """Turns nodes into values and notes down where they stood."""

    def __init__(self, name: str, marks: dict[Keys, str]) -> None:
        self.name = name
        self.marks = marks
        self.count = 0

    def value(self, node: yaml.Node, path: Keys, parents: tuple[int, ...]) -> Any:
        self.marks.setdefault(path, f"{self.name}:{_line(node)}")
        if id(node) in parents:
            raise ConfigError(f"{self.name}:{_line(node)}: an anchor contains itself")
        self.count += 1
        if self.count > MOST_VALUES:
            raise ConfigError(f"{self.name}: more than {MOST_VALUES} values once its aliases are written out")
        inside = (*parents, id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, inside)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*path, index), inside) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise ConfigError(f"{self.name}:{_line(node)}: tag {node.tag!r} is not allowed; write plain values")

    def _mapping(self, node: yaml.MappingNode, path: Keys, inside: tuple[int, ...]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self.name}:{_line(key_node)}: a key must be a word, not a list or a section")
            key = str(key_node.value)
            if key in lines:
                full = ".".join(map(str, (*path, key)))
                raise ConfigError(
                    f"{self.name}:{_line(key_node)}: {full} is written twice, first on line {lines[key]}; remove one"
                )
            if key == "<<" and key_node.style is None:
                raise ConfigError(
                    f"{self.name}:{_line(key_node)}: merge keys ('<<') are not read; write the keys out, or repeat a "
                    "whole section with an anchor and an alias"
                )
            lines[key] = _line(key_node)
            self.marks[(*path, key)] = f"{self.name}:{lines[key]}"
            out[key] = self.value(value_node, (*path, key), inside)
        return out

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = str(node.value)
        try:
            if kind == "str":
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            if kind == "float":
                return float(_DOTTED.sub(r"\1", text))
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{self.name}:{_line(node)}: {text!r} is not of the type {kind}") from error
        raise ConfigError(f"{self.name}:{_line(node)}: tag {node.tag!r} is not allowed; write plain values")
