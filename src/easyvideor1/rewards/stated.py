"""The JSON that a text states as its answer: the whole text, or the one value that stands between other words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from easyvideor1.rewards.answer import Reading, unread
from easyvideor1.rewards.geometry import find_json, load_json
from easyvideor1.rewards.nearjson import LONGEST, find_all, load_near

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
    """A value that is no answer; the message is the reason."""


#: Turns JSON (or what is nearly JSON) into the value of an answer; raises ``NoAnswerError``.
Read = Callable[[Any], Any]


class Statements:
    """The different answers that a text gives, and the different reasons why others are none."""

    def __init__(self, nothing: str) -> None:
        self.nothing = nothing
        self.values: list[Any] = []
        self.reasons: list[str] = []
        self.sources: list[str] = []

    def add(self, read: Read, data: Any, source: str = "") -> bool:
        """Read a value, and keep what came of it unless it is there already; whether it looked like an answer."""
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
        """The one answer, or why there is none; ``canonical`` is asked about the text that it was read from."""
        if len(self.values) + len(self.reasons) > 1:
            return unread(SEVERAL)
        if self.values:
            return Reading(self.values[0], canonical(self.sources[0]))
        return unread(self.reasons[0] if self.reasons else self.nothing)


def read_stated(text: str, read: Read, nothing: str, asked: Callable[[Any], Any], prose: Read | None = None) -> Reading:
    """Read a text that is presented as the answer.

    Args:
        text: the text, with or without words and fences around its JSON.
        read: what makes an answer of a JSON value.
        nothing: the reason when there is none; ``read`` raises it for values that are no answer at all.
        asked: the value of strict JSON in the form that was asked for; ``None`` if it has another.
        prose: what makes an answer of the words beside the JSON, if words can be one.
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
    if len(text) > LONGEST:
        try:
            return Reading(read(find_json(text)), canonical=False)
        except NoAnswerError as error:
            return unread(str(error))
    said = Statements(nothing)
    if (near := load_near(text)) is not None:
        said.add(read, near)
        if said.values:
            return said.reading(lambda source: False)
        said = Statements(nothing)
    denied = Statements(nothing)
    rest, at = [], 0
    for found in find_all(text):
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


def _add_words(said: Statements, prose: Read, words: str) -> None:
    """Read the words beside the JSON; where there is JSON, words that are no answer are words around it."""
    if not said.values:
        said.add(prose, words)
        return
    try:
        value = prose(words)
    except NoAnswerError:
        return
    said.add(lambda _: value, words)


def read_last(text: str, read: Callable[[str], Reading], nothing: str) -> Reading:
    """Read a reply without a tag: it counts if it is its JSON, or ends with it after a lead-in.

    The lead-in is short or ends with its line, and nothing but a full stop or the end of a fence comes after the JSON.
    """
    if isinstance(load_json(text), dict | list):
        return read(text)
    if len(text) > LONGEST:
        return unread(nothing)
    found = find_all(text)
    if not found:
        return read(text) if load_near(text) is not None else unread(nothing)
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
