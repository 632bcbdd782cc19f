"""Yes or no: the last one that is stated, with negations understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from easyvideor1.rewards.answer import Reading, Rule, Verdict
from easyvideor1.rewards.characters import nfkc

_WHOLE = {"yes": True, "true": True, "1": True, "y": True, "t": True}
_WHOLE |= {"no": False, "false": False, "0": False, "n": False, "f": False}
_WORD = re.compile(r"[\w']+|[^\w\s]|\n")
_STATED = {"yes": True, "true": True, "no": False, "false": False}
#: The question's own words, or no decision: "yes or no", "yes/no".
_BOTH = re.compile(r"\b(?:yes|no|true|false)\s*+(?:/|\||,?\s*+\b(?:n?or|and)\b)\s*+(?:yes|no|true|false)\b")
_NEGATORS = {"not", "never", "cannot", "hardly", "neither", "nor"}
_BREAKS = set(".,;:!?\n")
_REACH = 3
#: Words beyond this many from the end are not read: a statement that far back is not the last one.
_LIMIT = 2000


def read_boolean(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read yes/no/true/false (``1``, ``0``, ``y``, ``n``, ``t``, ``f`` only when nothing else is there).

    The last statement counts. A "not" (or "n't", "never") up to three words before it in the same clause turns it
    round, so "No, it is not yes" is no. A "no" before a noun ("there is no dog") states nothing unless it opens the
    sentence or follows "answer is". "Yes or no" and "yes/no" state nothing.
    """
    text = nfkc(text).replace("\u2019", "'").casefold().strip()
    bare = text.strip(" \t\n.,;:!?*_\"'`()[]{}$")
    if bare in _WHOLE:
        return Reading(_WHOLE[bare], canonical=True)
    words = _WORD.findall(_BOTH.sub(" ", text[-_LIMIT * 6 :]))[-_LIMIT:]
    for at in range(len(words) - 1, -1, -1):
        if words[at] in _STATED and _states(words, at):
            return Reading(_STATED[words[at]] != _negated(words, at))
    return None


def _states(words: list[str], at: int) -> bool:
    if words[at] != "no":
        return True
    after_opening = at == 0 or words[at - 1] in _BREAKS
    before_end = at + 1 == len(words) or not words[at + 1][0].isalnum()
    return after_opening or before_end or words[max(0, at - 2) : at] == ["answer", "is"]


def _negated(words: list[str], at: int) -> bool:
    negations = 0
    for word in reversed(words[max(0, at - _REACH) : at]):
        if word in _BREAKS:
            break
        negations += word in _NEGATORS or word.endswith("n't")
    return negations % 2 == 1


def _reference(text: str, options: tuple[str, ...]) -> bool:
    bare = text.casefold().strip(" .")
    if bare not in _WHOLE:
        raise ValueError("it is neither yes nor no")
    return _WHOLE[bare]


def _compare(predicted: bool, reference: bool, row: Mapping[str, Any]) -> Verdict:
    return Verdict(float(predicted == reference))


BOOLEAN = Rule(read_boolean, _reference, _compare, "'yes' or 'no' ('true' or 'false')")
