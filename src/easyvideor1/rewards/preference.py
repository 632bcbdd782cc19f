"""Preference between two responses: the label is compared, which takes no judge.

A row may hold a written response in place of a label; then the policy writes one too, and only a judge
(``rewards.judge``) can tell which of the two is preferred.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.answer import Reading, Rule, Verdict, cannot_judge
from easyvideor1.rewards.characters import nfkc

_WHOLE = {"1": "1", "a": "1", "first": "1", "one": "1", "2": "2", "b": "2", "second": "2", "two": "2"}
_TIE = {"tie", "tied", "equal", "both", "draw", "same"}
_NOUN = r"(?:the\s++)?(?:response|answer|option|choice|candidate)"
_LABEL = re.compile(rf"{_NOUN}?\s*+#?(\w+)(?:\s++(?:response|one|answer))?")
_MENTION = re.compile(r"\bresponse\s*+#?([12ab])\b|\b(tied?)\b|(?<![\w.])([12])(?![\w.]*\w)")
_BETTER = re.compile(r"\bresponse\s*+#?([12ab])\s++(?:is|was)\s++(?:\w++\s++)?(?:better|preferred|best|superior)\b")
#: A clause with one of these says what is not so, or turns the order round: no label is read from it.
_TURNED = re.compile(
    r"\b(?:not|no|never|cannot|neither|nor|doubt\w*|hardly|worse|worst|inferior|loses?|lost|instead)\b|n['\u2019]t\b"
)
_CLAUSE = re.compile(r"[.,;:!?\n]|\b(?:but|because|since|while)\b")


def read_preference(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read ``"1"``, ``"2"`` or ``"tie"``.

    A bare label, "Response 1", "the first one", "tie". In a sentence the last "response N is better" counts, else the
    one label that it mentions; a sentence that mentions two labels without a comparison says nothing, and a clause that
    denies or turns the order round ("not", "worse") is passed over.
    """
    text = nfkc(text)[-2000:].casefold().strip(" \t\n.,;:!*_\"'`()[]")
    if text in _TIE:
        return Reading("tie")
    if (whole := _LABEL.fullmatch(text)) and whole.group(1) in _WHOLE:
        return Reading(_WHOLE[whole.group(1)])
    said = [clause for clause in _CLAUSE.split(text) if not _TURNED.search(clause)]
    better = [label for clause in said for label in _BETTER.findall(clause)]
    if better:
        return Reading(_WHOLE[better[-1]])
    mentioned = {
        "tie" if tie else _WHOLE[named or bare] for clause in said for named, tie, bare in _MENTION.findall(clause)
    }
    return Reading(mentioned.pop()) if len(mentioned) == 1 else None


#: A reference of at least so many words that is no label is a response to compare with.
_WRITTEN_WORDS = 4


@dataclass(frozen=True, slots=True)
class Written:
    """A reference that is a response itself."""

    text: str


def is_label(reference: str) -> bool:
    """Whether a reference names a response or a tie; else it is a response to compare with."""
    return read_preference(reference, ()) is not None


def _reference(text: str, options: tuple[str, ...]) -> str | Written:
    reading = read_preference(text, ())
    if reading is not None:
        return str(reading.value)
    if len(text.split()) >= _WRITTEN_WORDS:
        return Written(text)
    raise ValueError("it names neither response nor a tie")


def _compare(predicted: str, reference: str | Written, row: Mapping[str, Any]) -> Verdict:
    if isinstance(reference, Written):
        return cannot_judge("the reference is a response and no label: it takes rewards.judge to compare with it")
    return Verdict(float(predicted == reference))


PREFERENCE = Rule(
    read_preference,
    _reference,
    _compare,
    "'1', '2' or 'tie' ('Response 1' is understood), or a whole response for a judge to compare with",
)
