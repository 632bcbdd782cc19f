"""Where in a response the answer stands. Every function here is total and linear in the text.

Runs of blanks are matched possessively (``\\s*+``): given back one by one they would make the time quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from easyvideor1.rewards.answer import Fallback, Found
from easyvideor1.rewards.grammar import ANSWER, Grammar

_OPEN = re.compile(r"<\s*+answer\s*+>", re.IGNORECASE)
_CLOSE = re.compile(r"<\s*+/\s*+answer\s*+>", re.IGNORECASE)
_PHRASE = re.compile(r"\banswers?\s*+(?:is\b|are\b|[:=\uff1a])[\s*_:\uff1a]*+", re.IGNORECASE)
_FINAL_PHRASE = re.compile(r"\bfinal\s++answer\s*+(?:is\b|[:=\uff1a])[\s*_:\uff1a]*+", re.IGNORECASE)

#: A phrase such as "the answer is" is looked for in this many last characters, so that a runaway response stays cheap.
_TAIL = 4000
#: Text without any marker is read as a whole up to this length; beyond it only its last line is.
_SHORT = 300


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of a response, how it was found, and where in the response it starts."""

    text: str
    found: Found
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tagged:
    """The content of an answer tag, and where the tag and its content begin and end."""

    content: str
    opening: int
    start: int
    end: int


def find_tag(text: str) -> Tagged | None:
    """The last closed ``<answer>``: from the last opening that has a closing after it."""
    closings = list(_CLOSE.finditer(text))
    if not closings:
        return None
    opening = None
    for match in _OPEN.finditer(text):
        if match.end() > closings[-1].start():
            break
        opening = match
    if opening is None:
        return None
    closing = next(match for match in closings if match.start() >= opening.end())
    return Tagged(text[opening.end() : closing.start()], opening.start(), opening.end(), closing.end())


def last_tag(text: str) -> str | None:
    """The content of the last closed ``<answer>``."""
    tagged = find_tag(text)
    return None if tagged is None else tagged.content


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


def split_thinking(text: str, grammar: Grammar = ANSWER) -> tuple[str, str]:
    """``(thinking, rest)``, cut after the last closing tag of the thinking; without one, nothing is thinking.

    Where the grammar has tags of its own, those inside an answer are part of it: a page may hold ``<caption>``.
    """
    closings = [tag for tag in grammar.thinking.finditer(text) if tag.group(1)]
    if closings and grammar.names and (tagged := find_tag(text)):
        closings = [tag for tag in closings if not tagged.start <= tag.start() < tagged.end]
    cut = closings[-1].end() if closings else 0
    return text[:cut], text[cut:]


def is_well_formed(text: str, grammar: Grammar) -> bool:
    """Whether the tags of a response that has its answer in a tag are those of the grammar."""
    thinking, body = split_thinking(text, grammar)
    tagged = find_tag(body)
    if tagged is None:
        return False
    return grammar.holds(thinking + body[: tagged.opening], body[tagged.end :])


def find_regions(text: str, fallback: Fallback, grammar: Grammar = ANSWER) -> Iterator[Region]:
    """The places to read, best first; the first that can be read counts.

    A tag outside the thinking is the only place if there is one. Else an ``<answer>`` that was never closed. Else, if
    nothing follows the thinking, a tag inside it. Else the fallbacks of the rule.
    """
    thinking, body = split_thinking(text, grammar)
    before = len(thinking)
    tagged = find_tag(body)
    if tagged is not None:
        yield from _inside(Region(tagged.content, "tag", before + tagged.start), fallback)
        return
    if openings := list(_OPEN.finditer(body)):
        end = openings[-1].end()
        yield from _inside(Region(body[end:], "open_tag", before + end), fallback)
        return
    if not body.strip():
        tagged = find_tag(thinking)
        if tagged is not None:
            yield from _inside(Region(tagged.content, "think_tag", tagged.start), fallback)
        return
    yield from _untagged(Region(body, "after_think" if thinking else "text", before), fallback)


def _stripped(region: Region) -> Region:
    left = len(region.text) - len(region.text.lstrip())
    return Region(region.text.strip(), region.found, region.start + left)


def _inside(region: Region, fallback: Fallback) -> Iterator[Region]:
    yield _stripped(region)
    if fallback == "scalar":
        for marked in _marked(region, fallback):
            yield Region(marked.text, region.found, marked.start)


def _marked(region: Region, fallback: Fallback) -> Iterator[Region]:
    text = region.text
    boxed = last_boxed(text)
    if boxed is not None:
        yield _stripped(Region(boxed, "boxed", region.start + text.rfind("\\boxed{") + len("\\boxed{")))
    skipped = max(0, len(text) - _TAIL)
    tail = text[skipped:]
    phrases = list((_PHRASE if fallback == "scalar" else _FINAL_PHRASE).finditer(tail))
    if phrases:
        end = phrases[-1].end()
        rest = _stripped(Region(tail[end:].partition("\n")[0], "phrase", region.start + skipped + end))
        if rest.text and not rest.text.lower().startswith("not "):
            yield rest


def _untagged(whole: Region, fallback: Fallback) -> Iterator[Region]:
    region = _stripped(whole)
    body = region.text
    if fallback != "block":
        yield from _marked(region, fallback)
    if fallback != "scalar" or len(body) <= _SHORT:
        yield region
    if fallback == "scalar":
        last_line = body.rpartition("\n")[2].strip()
        if len(last_line) <= _SHORT and last_line != body:
            yield Region(last_line, region.found, region.start + len(body) - len(last_line))
