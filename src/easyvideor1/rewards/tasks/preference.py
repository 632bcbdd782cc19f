"""Preference between two responses: labels are compared without a judge.

A row may hold a response in place of a label. Then the policy writes one too, and only a judge (``rewards.judge``) can
tell which of the two is better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.readers.plain_text import typed, unwrapped
from easyvideor1.rewards.types import Reading, Rule, Verdict, cannot_judge, unread

_WHOLE = {"1": "1", "a": "1", "first": "1", "one": "1", "2": "2", "b": "2", "second": "2", "two": "2"}
_WHOLE |= {
    "\u4e00": "1",
    "\u4e8c": "2",
    "\u7b2c\u4e00": "1",
    "\u7b2c\u4e8c": "2",
    "\u7b2c\u4e00\u4e2a": "1",
    "\u7b2c\u4e8c\u4e2a": "2",
}
_TIE = {"tie", "tied", "equal", "both", "draw", "same", "neither", "\u5e73\u5c40", "\u4e00\u6837"}
_NOUN = (
    r"(?:the\s++)?(?:response|answer|option|choice|candidate|assistant|model"
    r"|\u56de\u7b54|\u56de\u590d|\u9009\u9879|\u7b54\u6848)"
)
_LABEL = re.compile(rf"{_NOUN}?\s*+#?(\w+)(?:\s++(?:response|one|answer))?")
_RESPONSE = r"(?:response|assistant|model|candidate)"
_NAMED = re.compile(rf"\b{_RESPONSE}\s*+#?([12ab])\b|\b(?:the\s++)?(first|second)\s++(?:response|one|answer)\b")
_BARE = re.compile(r"(?<![\w.])([12])(?![\w.]*\w)")
_BETTER = re.compile(
    rf"(?:{_RESPONSE}\s*+#?([12ab])|the\s++(first|second)\s++(?:response|one|answer))\s++(?:is|was|seems)\s++(?:\w++\s++)?"
    r"(?:better|preferred|best|superior)\b|(?:\u56de\u7b54\s*+|\u7b2c)([12\u4e00\u4e8c])\u4e2a?(?:\u56de\u7b54|\u56de\u590d|\u7b54\u6848)?\s*+\u66f4[\u597d\u4f73\u4f18]"
)
#: "Response 1 is more accurate than response 2", "1 > 2": which of two is above the other.
_ABOVE = re.compile(
    rf"{_NOUN}?\s*+#?([12ab])\s*+(?:>{{1,2}}|(?:is|was|seems)\s++(?:\w++\s++)?more\s++(?:accurate|detailed|helpful|correct|complete"
    r"|informative|relevant|precise|thorough|comprehensive|coherent|clear|useful|faithful|specific|appropriate)\b"
    rf"[^.<>?!\n]{{0,60}}?\bthan)\s*+{_NOUN}?\s*+#?([12ab])(?!\w)"
)
#: What introduces a label: "Preferred: 1", "the better response is".
_LEAD = re.compile(
    r"(?:the\s++|my\s++)?(?:preferred|preference|better|best|chosen|choice|winner|verdict|answer)"
    r"(?:\s++(?:response|answer|one|option|choice))?\s*+(?:is\b|[:=\uff1a])\s*+"
)
#: What a clause that opens with an answer gives as its reason.
_REASON = re.compile(r"[,.;:]?\s++(?:because|since|as)\b|[,;]?\s*+\u56e0\u4e3a")
#: A clause chooses only with one of these words.
_CHOOSES = re.compile(
    r"\b(?:prefer\w*|choose|chosen|choice|pick\w*|select\w*|better|best|superior|favou?r|go\s++with|wins?|winner|answer\s++is)\b"
)
_TIED = re.compile(
    r"\b(?:it\s++is\s++|it's\s++)?(?:a\s++)?(?:tied?|draw)\b|\b(?:both|they)\b[^.]{0,30}\b(?:equal|equally|the\s++same|tied)\b"
)
#: A clause with one of these says what is not so, or turns the order round: no label is read from it.
_TURNED = re.compile(
    r"\b(?:not|no|never|cannot|neither|nor|doubt\w*|hardly|worse|worst|inferior|loses?|lost|instead|whether|wonder|might|may|or"
    r"|maybe|perhaps|possibly|either|unless|can|could|if|when)\b|n['\u2019]t\b|\u6216"
)
_UNSURE = re.compile(r"\b(?:maybe|perhaps|possibly|or|and|also|otherwise|else|then|alternatively|if\s++not)\b")
#: Between two digits a point or a comma belongs to a number, which is no label.
_STOP = r"(?:(?<!\d)[.,]|[.,](?!\d)|[;:!?\n])"
_CLAUSE = re.compile(_STOP + r"|\b(?:but|because|since|while|than|over)\b")
#: A sentence that asks.
_QUESTION = re.compile(r"[^.!?\n]*+\?")
_HEDGED = re.compile(r"\b(?:or|maybe|perhaps|possibly|either)\b|\u6216")
_PIECE = re.compile(_STOP + r"|\bbut\b")
_SEVERAL = "several responses are named"
_NOTHING = "no preference is stated"


def read_preference(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read ``"1"``, ``"2"`` or ``"tie"``.

    A bare label, "Response 1", "the first one", "tie"; a label that opens the answer before its reason ("2, because
    ..."); or what a sentence chooses ("Response 2 is better", "I prefer response 2"), the last of several. A clause
    that denies, hedges, asks or reverses the order ("not", "worse", "or") is ignored, and a mention chooses nothing.
    """
    text = unwrapped(typed(text)[-2000:].casefold().strip(" \t\n.,;:!\u3002"), brackets=True)
    text = re.sub(r"[*_`]", "", text).strip(" \t\n.,;:!\u3002()[]\"'")
    if text in _TIE:
        return Reading("tie")
    if (lead := _LEAD.match(text)) is not None:
        text = text[lead.end() :]
    if (label := _label(text)) is not None:
        return Reading(label)
    if (above := _ABOVE.fullmatch(text)) is not None and _WHOLE[above[1]] != _WHOLE[above[2]]:
        return Reading(_WHOLE[above[1]])
    text = _QUESTION.sub("\n", text)
    clauses = _CLAUSE.split(text)
    said = [clause for clause in clauses if not _TURNED.search(clause)]
    better = [next(group for group in match if group) for clause in said for match in _BETTER.findall(clause)]
    alone = {
        label
        for clause in _PIECE.split(text)
        if (label := _label(_UNSURE.sub("", clause).strip(" \"'()[]"))) is not None
    }
    hedged = {label for clause in clauses if _HEDGED.search(clause) for label in _labels(clause)}
    if better:
        return unread(_SEVERAL) if (alone | hedged) - {_WHOLE[better[-1]]} else Reading(_WHOLE[better[-1]])
    chosen = [label for clause in said if _CHOOSES.search(clause) for label in _labels(clause)]
    if chosen:
        one = len({*chosen, *alone, *hedged}) == 1 and not _denies(text, chosen[-1])
        return Reading(chosen[-1]) if one else unread(_SEVERAL)
    opening = _label(clauses[0].strip(" \"'()[]"))
    if any(_TIED.search(clause) and not _labels(clause) for clause in said):
        return Reading("tie") if opening is None else unread(_SEVERAL)
    if opening is None or text[len(clauses[0]) : len(clauses[0]) + 1] == ":":  # "Response 1: ..." quotes it
        return unread(_NOTHING)
    given = text if (reason := _REASON.search(text)) is None else text[: reason.start()]
    others = {
        label
        for clause in _CLAUSE.split(given)[1:]
        if not clause.lstrip().startswith("not ")
        for label in _labels(clause)
    }
    return unread(_SEVERAL) if (others | alone) - {opening} or _denies(text, opening) else Reading(opening)


def _denies(text: str, label: str) -> bool:
    return re.search(rf"\bnot\s++(?:response\s*+)?{label}\b", text) is not None


def _label(text: str) -> str | None:
    whole = _LABEL.fullmatch(text)
    return _WHOLE.get(whole.group(1)) if whole else None


def _labels(clause: str) -> list[str]:
    named = [_WHOLE[first or second] for first, second in _NAMED.findall(clause)]
    return named or [_WHOLE[bare] for bare in _BARE.findall(clause)]


#: A reference of at least so many words that is no label is a response to compare with.
_WRITTEN_WORDS = 4


@dataclass(frozen=True, slots=True)
class Written:
    """A reference that is a response itself."""

    text: str


def is_label(reference: str) -> bool:
    """Whether a reference names a response or a tie; else it is a response to compare with."""
    return _value_of(reference) is not None


def _value_of(reference: str) -> str | None:
    reading = read_preference(reference, ())
    return None if reading is None else reading.value


def _reference(text: str, options: tuple[str, ...]) -> str | Written:
    label = _value_of(text)
    if label is not None:
        return label
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
