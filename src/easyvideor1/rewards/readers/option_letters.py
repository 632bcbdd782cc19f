"""The letters that a sentence chooses by name, and what denies, asks about or hedges a letter."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Characters that are looked at around a letter.
NEAR = 300
_RIGHT = (
    r"[)\]]*+\s*+(?:(?:is|seems|looks|(?:must|should|has\s++to)\s++be)\s++(?:the\s++)?+(?:most\s++)?+"
    r"(?:correct|right|best|likely|closest|answer)(?:\s++(?:answer|option|choice|one|match))?+|\u662f?\u6b63\u786e\u7684?)"
    r"(?=[.!,;\u3002\s]|$)"
)
IS_RIGHT = re.compile(rf"(?:so\s++|i\s++think\s++)?+(?:option\s++)?+[(\[]*+([A-Z]){_RIGHT}[.!\u3002]?+", re.IGNORECASE)
#: A letter that a sentence chooses by name: "I would go with option B", "the correct answer is (B)", "B is correct".
NAMED = re.compile(
    r"\b(?:(?:option|choice)s?\s*+(?:is\b|are\b|:)?+|(?:choose|select|pick)\s++(?:option\s++)?+|go\s++with\s++(?:option\s++)?+|"
    r"answers?\s*+(?:is\b|are\b|:))\s*+(?:options?\s*+)?+[(\[]*+([A-Z])(?![\w'])"
    rf"|(?<![\w'])([A-Z]){_RIGHT}"
)
#: More letters after a named one: ", C and D".
_MORE = re.compile(r"(?:[)\]]*+\s*+(?:,|;|/|&|\band\b)\s*+(?:and\s++)?+[(\[]*+[A-Z](?![\w']))+")
#: Where a clause begins that can stand alone.
_CLAUSE = re.compile(
    r"[.!?;:\n\u3002\uff1f]|,\s*+(?=(?:so|but|and|yet|therefore|thus|hence|then|i|we|it|this|the|my|option|answer|choose|select"
    r"|pick)\b)|\b(?:so|but|therefore|thus|hence|however)\b",
    re.IGNORECASE,
)
#: A clause with one of these before a letter does not choose it.
_DENIES = re.compile(
    r"\b(?:not|never|cannot|nobody|neither|nor|rules?\s++out|ruled\s++out|ruling\s++out|exclud\w*+|eliminat\w*+|impossible|unlikely"
    r"|wrong|incorrect|mistaken|false|anyone|whoever|someone|refuse\w*+|instead\s++of|rather\s++than|whether|unless|if)\b"
    r"|n't\b|\u4e0d|\u975e|\u6392\u9664|\u9519",
    re.IGNORECASE,
)
#: What denies the letter before it: "is wrong", "can't be right", "- no", ": not this one".
DENIED = re.compile(
    r"[\s)\]\"'.,:;\u2013\u2014-]*+(?:(?:(?:is|are|was|it's|that's|seems|looks|sounds|would\s++be|could\s++be)\s++)?+"
    r"(?:definitely|clearly|probably|surely|certainly|simply)?+\s*+"
    r"(?:not|no|never|wrong|incorrect|false|mistaken|impossible|unlikely|ruled\s++out|out\s++of\s++the\s++question)\b(?!\s++(?:one\s++else|other))"
    r"|(?:isn't|aren't|wasn't|can't|cannot|couldn't|doesn't|won't)\b|\u4e0d|\u9519)",
    re.IGNORECASE,
)
#: Another letter as a possibility: "or C", "Alternatively C".
HEDGE = re.compile(
    r"(?:\b(?i:or|else|maybe|perhaps|possibly|probably|unless|alternatively|otherwise|might|could|may|also|second\s++guess|if\s++not)\b"
    r"|\u6216|\u53ef\u80fd|\u4e5f\u8bb8)"
    r"[^.\n]{0,24}?(?<![\w'])[(\[]*+([A-Z])(?=[)\].,:;!?\s]|$)"
)
_ENDS = re.compile(r"[.!?\n\u3002\uff1f]")


@dataclass(frozen=True, slots=True)
class ChosenLetters:
    """The ``letters`` that a text chooses last, and where they end; ``denied``: it denies or asks about some."""

    letters: str
    end: int
    denied: bool


def chosen_letters(text: str) -> ChosenLetters:
    """The last letter that a text chooses by name, and neither denies nor asks about; linear in the text."""
    letters, end, begun, looked, denied = "", 0, 0, 0, False
    for match in NAMED.finditer(text):
        letter = match.group(1) or match.group(2)
        for clause in _CLAUSE.finditer(text, looked, match.start()):
            begun = clause.end()
        looked = match.start()
        if _is_denied(text, max(begun, match.start() - NEAR), match):
            denied = True
            continue
        more = _MORE.match(text, match.end())
        noun = "option" in match.group().lower() or "choice" in match.group().lower()
        follows = text[match.end() : match.end() + 12]
        goes_on = re.match(r"\s+[A-Za-z]", follows) and not re.match(r"\s+(?:because|since|but|as)\b", follows)
        if letter in "AI" and goes_on and not noun:
            continue  # "the answer is A cat"
        letters = letter + ("".join(re.findall(r"\b[A-Z]\b", more.group())) if more else "")
        end = more.end() if more else match.end()
    return ChosenLetters(letters, end, denied)


def _is_denied(text: str, begun: int, match: re.Match[str]) -> bool:
    """Whether the clause around a named letter, which began at ``begun``, denies it or asks about it."""
    if _DENIES.search(text, begun, match.start()) or DENIED.match(text, match.end()):
        return True
    ends = _ENDS.search(text, match.end(), match.end() + NEAR)
    return ends is not None and ends.group() in "?\uff1f"
