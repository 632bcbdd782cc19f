"""JSON in answers: strict JSON, JSON as models write it, and the one JSON value that a text states.

Models write trailing commas, single quotes, bare keys, tuples, and words around their JSON. Nothing is evaluated. A
text is read once, from left to right, by a parser with a stack: every function here is total and linear in the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.types import Reading, unread

_STARTS = 32
_OPENING_FENCE = re.compile(r"\A```[a-zA-Z]*+")
_DECODER = json.JSONDecoder()


def load_json(text: str) -> Any:
    """The whole text as JSON, without a Markdown fence; ``None`` if it is not JSON.

    Every failure of the decoder means "not JSON", deep nesting and endless digits included.
    """
    text = _OPENING_FENCE.sub("", text.strip()).removesuffix("```")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def find_json(text: str) -> Any:
    """The JSON object or list of a text: the whole text, or the last object that stands between other words.

    At most ``_STARTS`` places that begin like JSON and are not JSON are tried, so the time stays linear.
    """
    whole = load_json(text)
    if isinstance(whole, dict | list):
        return whole
    found, at, failures = None, text.find("{"), 0
    while at >= 0 and failures < _STARTS:
        try:
            found, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            failures, end = failures + 1, at + 1
        at = text.find("{", end)
    return found


#: Deeper nesting is not an answer.
_DEEPEST = 40
#: Longer numbers are not read.
_LONGEST_NUMBER = 40
#: The longest text that is read leniently; strict JSON may have any length.
LENIENT_LIMIT = 40_000

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
class JsonValue:
    """A value in a text and where it stands; values with commas between them are one list, which is ``joined``."""

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


def find_json_values(text: str) -> list[JsonValue]:
    """The outermost lists, tuples and objects of a text, from left to right; broken ones are left out."""
    found: list[JsonValue] = []
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
            found[-1] = JsonValue(last.value if last.joined else [last.value, value], last.start, at, joined=True)
        else:
            found.append(JsonValue(value, start, at))
    return found


def load_lenient(text: str) -> Any:
    """The value of a whole text, without a Markdown fence: a container, or its content without brackets; else ``None``.

    ``{time: [1, 2],}`` and ``"time": [1, 2]`` are objects, ``(1, 2), (3, 4)`` and ``1, 2`` are lists.
    """
    if len(text) > LENIENT_LIMIT:
        return None
    body = _FENCE.sub("", text.strip()).strip().rstrip(".;").rstrip()
    if not body:
        return None
    found = find_json_values(body) if body[0] in _CLOSING else []
    if len(found) == 1 and (found[0].start, found[0].end) == (0, len(body)):
        return found[0].value
    for opening in "{[":
        value, end = _value_at(f"{opening}{body}{_CLOSING[opening]}", 0)
        if value is not _BROKEN and end == len(body) + 2:
            return value
    return None


_BROKEN = object()


def _value_at(text: str, at: int) -> tuple[Any, int]:
    """The container that opens at a place, and where it ends; ``_BROKEN`` and the place of the fault otherwise."""
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
    """Take a comma, a colon, a key or a plain value; false if it may not stand here."""
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


SEVERAL = "several answers are given"
MENTIONED = "the answer is mentioned, not given as the reply"
DENIED = "the answer is denied"

#: A reply may lead up to its JSON in as many characters; a longer one puts it on lines of its own.
_LEAD = 300
_DENIAL = re.compile(
    r"(?:(?<!\bif )(?<!\bif it is )(?<!\bif it's )\bnot|\bnever|n't|\u4e0d\u662f)"
    r"\s*+(?:at\b|from\b|in\b|between\b|:)?[\s`]*+\Z",
    re.IGNORECASE,
)
#: A text that takes back, or refuses, what it names: "... is wrong", "It is impossible that ...".
_REFUSED = re.compile(
    r"\b(?:is|are|was|were|be)\s++(?:not\s++(?:right|correct|true|the\s++\w++)|wrong|incorrect|false|impossible|mistaken)\W*+\Z"
    r"|\?\W*+\Z|\A\W*+(?:no\s*+:|(?:wrong|unlikely|except|anything\s++but|false)\b)"
    r"|\b(?:cannot|can't|could\s++not|couldn't|won't|do(?:es)?\s++not\s++think|don't\s++think|rules?\s++out|ruled\s++out)\b[^.\n]{0,12}"
    r"(?:(?:it|that|this)\s++)?(?:(?:is|be)\s++)?(?:from\s++)?[\[({\d]|[\])}\d]\s*+[-\u2013\u2014:,]?\s*+(?:no|wrong|not\s++(?:it|this|right|correct))\W*+\Z"
    r"|\u662f\u9519|\A\W*+(?:it|this)\s++(?:is|would\s++be|cannot\s++be)\s++(?:impossible|unlikely|wrong|incorrect|false|not\s++true)\b",
    re.IGNORECASE,
)
#: Words that name the size or length of a medium, and no place in it.
_SIZES = re.compile(
    r"\b(?:image|picture|photo|frame|screenshot)\b[^.\n]{0,20}\b(?:size|resolution|dimensions?)\b"
    r"|\b(?:video|clip)\s++(?:is|was)\s++(?:shown|played)\b|\b(?:video|clip)\s++(?:lasts|runs)\b",
    re.IGNORECASE,
)
#: What a reply may say politely behind its JSON.
_COURTESY = re.compile(r"(?:(?:i\s++)?hope|let\s++me\s++know|please|feel\s++free|thank)[^\d\[{]{0,120}+", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
#: What may follow the JSON of a reply: the end of its fence or sentence.
_AFTER = re.compile(r"[\s`.*\u3002!)\"']*+")
_OWN_LINE = re.compile(r"(?:\A|\n)[ \t]*+(?:```[a-zA-Z]*+[ \t]*+\n?[ \t]*+)?\Z")


class NoAnswerError(ValueError):
    """A value that is not an answer; the message is the reason."""


#: Turns JSON (or what is nearly JSON) into the value of an answer; raises ``NoAnswerError``.
Read = Callable[[Any], Any]


class FoundAnswers:
    """The different answers of a text, and the different reasons why other values are not answers."""

    def __init__(self, nothing: str) -> None:
        self.nothing = nothing
        self.values: list[Any] = []
        self.reasons: list[str] = []
        self.sources: list[str] = []

    def add(self, read: Read, data: Any, source: str = "") -> bool:
        """Read a value and keep its answer or its reason, once; return whether it looked like an answer."""
        try:
            value = read(data)
        except NoAnswerError as error:
            if str(error) == self.nothing:
                return False
            if str(error) not in self.reasons:
                self.reasons.append(str(error))
            return True
        if value not in self.values:
            self.values.append(value)
            self.sources.append(source)
        return True

    def reading(self, canonical: Callable[[str], bool]) -> Reading:
        """The one answer, or why there is none; ``canonical`` is called with the text that it was read from."""
        if len(self.values) + len(self.reasons) > 1:
            return unread(SEVERAL)
        if self.values:
            return Reading(self.values[0], canonical(self.sources[0]))
        return unread(self.reasons[0] if self.reasons else self.nothing)


def read_json_answer(
    text: str, read: Read, nothing: str, asked: Callable[[Any], Any], prose: Read | None = None
) -> Reading:
    """Read a text that is presented as the answer.

    Args:
        text: the text, with or without words and fences around its JSON.
        read: turns a JSON value into an answer.
        nothing: the reason when there is none; ``read`` raises it for values that are not answers at all.
        asked: the value of strict JSON in the form that was asked for; ``None`` for another form.
        prose: turns the words beside the JSON into an answer, if words can be one.
    """
    whole = load_json(text)
    if isinstance(whole, dict | list):
        if (value := asked(whole)) is not None:
            return Reading(value)
        try:
            return Reading(read(whole), canonical=False)
        except NoAnswerError as error:
            return unread(str(error))
    if _DIGIT.search(text) is None:
        return unread(nothing)
    if _REFUSED.search(text[:_LEAD]) or _REFUSED.search(text[-_LEAD:]):
        return unread(DENIED)
    if _SIZES.search(text[:_LEAD]):
        return unread(MENTIONED)
    if len(text) > LENIENT_LIMIT:
        try:
            return Reading(read(find_json(text)), canonical=False)
        except NoAnswerError as error:
            return unread(str(error))
    said = FoundAnswers(nothing)
    if (near := load_lenient(text)) is not None:
        said.add(read, near)
        if said.values:
            return said.reading(lambda source: False)
        said = FoundAnswers(nothing)
    denied = FoundAnswers(nothing)
    rest, at = [], 0
    for found in find_json_values(text):
        is_denied = _DENIAL.search(text, max(0, found.start - 20), found.start) is not None
        if (denied if is_denied else said).add(read, found.value, text[found.start : found.end]):
            rest.append(text[at : found.start])
            at = found.end
        if len(said.values) > 1:
            return unread(SEVERAL)
    if prose is not None:
        _add_words(said, prose, " \n ".join([*rest, text[at:]]))
    if denied.values and not said.values:
        return unread(DENIED)

    def is_canonical(source: str) -> bool:
        try:
            return asked(json.loads(source)) is not None
        except (ValueError, RecursionError):
            return False

    return said.reading(is_canonical)


def _add_words(said: FoundAnswers, prose: Read, words: str) -> None:
    """Read the words beside the JSON. Beside a JSON answer, words that are not an answer are ignored."""
    if not said.values:
        said.add(prose, words)
        return
    try:
        value = prose(words)
    except NoAnswerError:
        return
    said.add(lambda _: value, words)


def read_json_reply(text: str, read: Callable[[str], Reading], nothing: str) -> Reading:
    """Read a reply without a tag: it counts if it is JSON, or ends with JSON after a lead-in.

    The lead-in is short or ends with its line. Only a full stop or the end of a fence may follow the JSON.
    """
    if isinstance(load_json(text), dict | list):
        return read(text)
    if len(text) > LENIENT_LIMIT:
        return unread(nothing)
    found = find_json_values(text)
    if not found:
        return read(text) if load_lenient(text) is not None else unread(nothing)
    last = found[-1]
    after = _AFTER.match(text, last.end)
    end = last.end if after is None else after.end()
    if end < len(text) and not _COURTESY.fullmatch(text, end):
        return unread(MENTIONED)
    text = text[:end]
    lead = text[: last.start]
    if len(lead) > _LEAD and not _OWN_LINE.search(lead):
        return unread(MENTIONED)
    return read(text)


def reference_json(text: str) -> Any:
    """The JSON of a reference: the whole text must be JSON."""
    data = load_json(text)
    if data is None:
        raise ValueError("it is not JSON")
    return data
