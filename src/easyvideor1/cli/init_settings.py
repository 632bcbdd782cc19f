"""Settings with a reason each, and the YAML file that says both."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from shlex import quote
from typing import Any

#: Width of the comments in the file.
_WIDTH = 110
_HEAD = """\
# Written by `evr1 init` for {what}.
# Every key says why it is there; all others have their defaults (docs/configuration.md).
# Next: evr1 train {file} --dry-run, then evr1 train {file}
"""


@dataclass
class Settings:
    """Values of a configuration by dotted key, in the order of the file, and why each is there."""

    values: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Any, why: str) -> None:
        """Set a key; where it is set again, the last value and reason count."""
        self.values[key] = value
        self.why[key] = why

    def nested(self) -> dict[str, Any]:
        """The values as a configuration has them; parts of keys that are numbers are places of lists."""
        root: Any = {}
        for key, value in self.values.items():
            words = key.split(".")
            last, at = words[-1], root
            for word, following in pairwise(words):
                at = _entered(at, word, [] if following.isdigit() else {})
            if isinstance(at, list):
                at.append(value)
            else:
                at[last] = value
        found: dict[str, Any] = root
        return found

    def text(self, what: str, file: str) -> str:
        """The file."""
        return _HEAD.format(what=what, file=quote(file)) + "\n" + "\n".join(self._lines(self.nested(), "", 0)) + "\n"

    def _lines(self, section: Mapping[str, Any], above: str, depth: int) -> Iterator[str]:
        for name, value in section.items():
            key, space = f"{above}{name}", "  " * depth
            if key in self.why:
                yield from _comment(self.why[key], space)
                yield f"{space}{name}: {_inline(value)}"
            elif isinstance(value, dict):
                yield f"{space}{name}:"
                yield from self._lines(value, f"{key}.", depth + 1)
            else:
                yield f"{space}{name}:"
                for place, entry in enumerate(value):
                    first, *rest = self._lines(entry, f"{key}.{place}.", depth + 2)
                    yield f"{space}  -"
                    yield from (first, *rest)
            if not depth:
                yield ""


def _entered(at: Any, word: str, empty: Any) -> Any:
    if isinstance(at, list):
        place = int(word)
        if place == len(at):
            at.append(empty)
        return at[place]
    return at.setdefault(word, empty)


def _comment(text: str, space: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{space}# ", subsequent_indent=f"{space}# ")


def _inline(value: Any) -> str:
    """A value on one line."""
    from easyvideor1.config.writing import dump_values

    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_inline(one)}' for name, one in value.items())}}}"
    return dump_values({"v": value}).removeprefix("v: ").strip()
