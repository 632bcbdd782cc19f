"""Where in a response the answer stands. Every function here is total and linear in the text.

Runs of blanks are matched possessively (``\\s*+``): given back one by one they would make the time quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from easyvideor1.rewards.answer import Fallback, Found

_OPEN = re.compile(r"<\s*+answer\s*+>", re.IGNORECASE)
_CLOSE = re.compile(r"<\s*+/\s*+answer\s*+>", re.IGNORECASE)
_THINK = re.compile(r"<\s*+(/?)\s*+think\s*+>", re.IGNORECASE)
_PHRASE = re.compile(r"\banswer\s*+(?:is\b|[:=\uff1a])[\s*_:\uff1a]*+", re.IGNORECASE)
_FINAL_PHRASE = re.compile(r"\bfinal\s++answer\s*+(?:is\b|[:=\uff1a])[\s*_:\uff1a]*+", re.IGNORECASE)

#: A phrase such as "the answer is" is looked for in this many last characters, so that a runaway response stays cheap.
_TAIL = 4000
#: Text without any marker is read as a whole up to this length; beyond it only its last line is.
_SHORT = 300


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of a response and how it was found."""

    text: str
    found: Found


def last_tag(text: str) -> str | None:
    """The content of the last closed ``<answer>``: from the last opening that has a closing after it."""
    closings = [match.start() for match in _CLOSE.finditer(text)]
    if not closings:
        return None
    content = None
    for opening in _OPEN.finditer(text):
        if opening.end() > closings[-1]:
            break
        content = opening.end()
    if content is None:
        return None
    return text[content : next(at for at in closings if at >= content)]


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{...}`` with its braces balanced, or ``None``."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : start + brace.start()]
    return None


def split_thinking(text: str) -> tuple[str, str]:
    """``(thinking, rest)``, cut after the last ``</think>``; without one, nothing is thinking."""
    cut = 0
    for tag in _THINK.finditer(text):
        if tag.group(1):
            cut = tag.end()
    return text[:cut], text[cut:]


def find_regions(text: str, fallback: Fallback) -> Iterator[Region]:
    """The places to read, best first; the first that can be read counts.

    A tag outside the thinking is the only place if there is one. Else an ``<answer>`` that was never closed. Else, if
    nothing follows the thinking, a tag inside it. Else the fallbacks of the rule.
    """
    thinking, body = split_thinking(text)
    tagged = last_tag(body)
    if tagged is not None:
        yield from _inside(tagged, "tag", fallback)
        return
    if openings := list(_OPEN.finditer(body)):
        yield from _inside(body[openings[-1].end() :], "open_tag", fallback)
        return
    if not body.strip():
        tagged = last_tag(thinking)
        if tagged is not None:
            yield from _inside(tagged, "think_tag", fallback)
        return
    yield from _untagged(body, "after_think" if thinking else "text", fallback)


def _inside(content: str, found: Found, fallback: Fallback) -> Iterator[Region]:
    yield Region(content.strip(), found)
    if fallback == "scalar":
        for region in _marked(content, fallback):
            yield Region(region.text, found)


def _marked(text: str, fallback: Fallback) -> Iterator[Region]:
    boxed = last_boxed(text)
    if boxed is not None:
        yield Region(boxed.strip(), "boxed")
    tail = text[-_TAIL:]
    phrases = list((_PHRASE if fallback == "scalar" else _FINAL_PHRASE).finditer(tail))
    if phrases:
        rest = tail[phrases[-1].end() :].partition("\n")[0].strip()
        if rest and not rest.lower().startswith("not "):
            yield Region(rest, "phrase")


def _untagged(body: str, found: Found, fallback: Fallback) -> Iterator[Region]:
    body = body.strip()
    if fallback != "block":
        yield from _marked(body, fallback)
    if fallback != "scalar" or len(body) <= _SHORT:
        yield Region(body, found)
    if fallback == "scalar":
        last_line = body.rpartition("\n")[2].strip()
        if len(last_line) <= _SHORT and last_line != body:
            yield Region(last_line, found)
