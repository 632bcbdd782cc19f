"""How both published packages look for things in text; where they differ, a function takes a switch."""

from __future__ import annotations

import json
import re
from typing import Any

from easyvideor1.rewards.geometry import find_json
from easyvideor1.rewards.math import compare_math

_OPEN, _CLOSE = "<answer>", "</answer>"
_LETTER = "([A-J])"
_PATTERNS = (
    re.compile(rf"(?:the\s+)?(?:correct\s+|final\s+)?answer\s+is\s*:?\s*\(?{_LETTER}\b", re.IGNORECASE),
    re.compile(rf"(?:\u7b54\u6848\u662f|\u9009)\s?{_LETTER}", re.IGNORECASE),
    re.compile(rf"\b(?:choose|select|pick)\s+(?:option\s+)?\(?{_LETTER}\b", re.IGNORECASE),
    re.compile(rf"\boption\s+{_LETTER}\s+is\s+correct", re.IGNORECASE),
    re.compile(rf"\*\*{_LETTER}\*\*"),
)
_LEADING = re.compile(rf"{_LETTER}\s?[.):]", re.IGNORECASE)
#: A response longer than this is cut for the patterns above, which the published code runs over all of it.
_TAIL = 8000


def tags(text: str) -> list[str]:
    """The contents of all ``<answer>`` tags from left to right."""
    found: list[str] = []
    lower, at = text.lower(), 0
    while (start := lower.find(_OPEN, at)) >= 0:
        start += len(_OPEN)
        end = lower.find(_CLOSE, start)
        if end < 0:
            break
        found.append(text[start:end])
        at = end + len(_CLOSE)
    return found


def boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{}``, up to its balanced brace."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, start = 1, start + len("\\boxed{")
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : start + brace.start()]
    return None


def same(predicted: str, reference: str) -> bool:
    """The exact grader as far as plain texts go."""
    return predicted.strip().casefold() == reference.strip().casefold()


def same_math(predicted: str, reference: str) -> bool:
    """The exact grader for mathematics."""
    return same(predicted, reference) or compare_math(predicted, reference, {}).accuracy == 1.0


def option_letter(text: str, *, upper_only: bool) -> str | None:
    """The option letter A-J that a text gives, by the chain of patterns that both packages share.

    ``upper_only``: the last resort takes a lone upper-case letter in at most twelve characters; else a lone letter of
    any case anywhere, so that the article "a" is option A.
    """
    text = text.strip()
    if re.fullmatch(_LETTER, text, re.IGNORECASE):
        return text.upper()
    if leading := _LEADING.match(text):
        return leading.group(1).upper()
    if len(text) < 20 and re.match(rf"{_LETTER}\s", text):
        return text[0].upper()
    tail = text[-_TAIL:]
    for pattern in _PATTERNS:
        if found := pattern.search(tail):
            return found.group(1).upper()
    for line in tail.splitlines()[-5:]:
        if re.fullmatch(rf"\(?{_LETTER}\)?[.:]?", line.strip(), re.IGNORECASE):
            return re.sub(r"\W", "", line).upper()
    if upper_only:
        alone = set(re.findall(r"\b[A-J]\b", text)) if len(text) <= 12 else set()
    else:
        alone = {letter.upper() for letter in re.findall(r"\b[A-Ja-j]\b", tail)}
    return alone.pop() if len(alone) == 1 else None


def structure(text: str) -> dict[str, Any] | None:
    """The JSON object of a text: all of it, a fenced block, or the last one between other words."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = find_json(text)
    return found if isinstance(found, dict) else None
