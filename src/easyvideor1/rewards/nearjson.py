"""JSON as models write it: with trailing commas, single quotes, bare keys, tuples, and words around it.

Nothing is evaluated. A text is read once from left to right by a machine with a stack, so every function here is total
and linear in the text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

#: Deeper nesting than this is no answer.
_DEEPEST = 40
#: A number of more characters than this is none.
_LONGEST_NUMBER = 40
#: What was not written with care is not longer than this; strict JSON of any length is read before.
LONGEST = 40_000

_OPENS = re.compile(r"[\[{(]")
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_TOKEN = re.compile(
    r"""\s*+(?:(?P<mark>[\[\]{}(),:=])"""
    r"""|(?P<text>"(?:[^"\\]++|\\.)*+"|'(?:[^'\\]++|\\.)*+')"""
    r"""|(?P<number>[+-]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?\d++)?+(?![\w.]))"""
    r"""|(?P<word>[^\W\d]\w*+))""",
    re.DOTALL,
)
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None, "nan": math.nan}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BETWEEN = re.compile(r"\s*+,\s*+")
_FENCE = re.compile(r"```[a-zA-Z]*+")


@dataclass(frozen=True, slots=True)
class Found:
    """A value in a text and where it stands; several with commas between them are one list, which is ``joined``."""

    value: Any
    start: int
    end: int
    joined: bool = False


@dataclass(slots=True)
class _Open:
    """A container that has not been closed: what it is, what it holds, and what may come next in it."""

    mark: str
    holds: Any
    key: str | None = None
    wants: str = "item"  # item, colon, value, or comma


def find_all(text: str) -> list[Found]:
    """The outermost lists, tuples and objects of a text, from left to right; broken ones are left out."""
    found: list[Found] = []
    at = 0
    while opening := _OPENS.search(text, at):
        start = opening.start()
        value, at = _value_at(text, start)
        if value is _BROKEN:
            at = max(at, start + 1)
            continue
        last = found[-1] if found else None
        if last is not None and _BETWEEN.fullmatch(text, last.end, start):
            if last.joined:
                last.value.append(value)
            found[-1] = Found(last.value if last.joined else [last.value, value], last.start, at, joined=True)
        else:
            found.append(Found(value, start, at))
    return found


def load_near(text: str) -> Any:
    """The value that a whole text is, a Markdown fence aside: a container, its inside without brackets, or ``None``.

    ``{time: [1, 2],}`` and ``"time": [1, 2]`` are objects, ``(1, 2), (3, 4)`` and ``1, 2`` are lists.
    """
    if len(text) > LONGEST:
        return None
    body = _FENCE.sub("", text.strip()).strip().rstrip(".;").rstrip()
    if not body:
        return None
    found = find_all(body) if body[0] in _CLOSING else []
    if len(found) == 1 and (found[0].start, found[0].end) == (0, len(body)):
        return found[0].value
    for opening in "{[":
        value, end = _value_at(f"{opening}{body}{_CLOSING[opening]}", 0)
        if value is not _BROKEN and end == len(body) + 2:
            return value
    return None


_BROKEN = object()


def _value_at(text: str, at: int) -> tuple[Any, int]:
    """The container that opens at a place and where it ends; ``_BROKEN`` and the place of the fault if it is none."""
    stack: list[_Open] = []
    while True:
        token = _TOKEN.match(text, at)
        if token is None:
            return _BROKEN, at
        kind = token.lastgroup or ""
        piece = token[kind]
        if kind == "mark" and piece in _CLOSING and (not stack or _takes_value(stack[-1])):
            if len(stack) == _DEEPEST:
                return _BROKEN, token.start(kind)
            stack.append(_Open(piece, {} if piece == "{" else []))
        elif kind == "mark" and piece == _CLOSING[stack[-1].mark] and stack[-1].wants in ("item", "comma"):
            value = stack.pop().holds
            if not stack:
                return value, token.end()
            _put(stack[-1], value)
        elif not _step(stack[-1], kind, piece):
            return _BROKEN, token.start(kind)
        at = token.end()


def _takes_value(inside: _Open) -> bool:
    return inside.wants == "value" or (inside.wants == "item" and inside.mark != "{")


def _put(inside: _Open, value: Any) -> None:
    if inside.mark == "{":
        inside.holds[inside.key] = value
    else:
        inside.holds.append(value)
    inside.wants = "comma"


def _step(inside: _Open, kind: str, piece: str) -> bool:
    """Take a comma, a colon, a key or a plain value; whether that could be."""
    if kind == "mark":
        if piece == "," and inside.wants == "comma":
            inside.wants = "item"
        elif piece in ":=" and inside.wants == "colon":
            inside.wants = "value"
        else:
            return False
        return True
    if inside.mark == "{" and inside.wants == "item":
        inside.key, inside.wants = _unquoted(piece) if kind == "text" else piece, "colon"
        return True
    if not _takes_value(inside):
        return False
    if kind == "word" and piece.lower() not in _CONSTANTS and inside.mark != "{":
        return False
    if kind == "number" and len(piece) > _LONGEST_NUMBER:
        return False
    _put(inside, _plain(kind, piece))
    return True


def _plain(kind: str, piece: str) -> Any:
    if kind == "text":
        return _unquoted(piece)
    if kind == "word":
        return _CONSTANTS.get(piece.lower(), piece)
    return int(piece) if piece.lstrip("+-").isascii() and piece.lstrip("+-").isdigit() else float(piece)


def _unquoted(piece: str) -> str:
    return _ESCAPE.sub(r"\1", piece[1:-1])
