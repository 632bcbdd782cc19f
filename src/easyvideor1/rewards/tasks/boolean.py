"""Yes or no: the verdict that opens an answer, or the one that it states."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from easyvideor1.rewards.readers.plain_text import typed, unwrapped
from easyvideor1.rewards.types import Reading, Rule, Verdict, unread

_YES, _NO = ("yes", "true", "correct", "right"), ("no", "false", "incorrect", "wrong")
_CHINESE_YES = (
    "\u662f\u7684|\u6709|\u662f|\u5bf9\u7684|\u5bf9|\u5c0d|\u6b63\u786e|\u6b63\u78ba|\u6ca1\u9519"
    "|\u306f\u3044|\ub124|\uc608"
)
_CHINESE_NO = (
    "\u4e0d\u662f|\u5426|\u4e0d\u5bf9|\u4e0d\u5c0d|\u9519\u8bef|\u932f\u8aa4|\u4e0d\u6b63\u786e|\u6ca1\u6709|\u4e0d"
    "|\u3044\u3044\u3048|\uc544\ub2c8\uc694|\uc544\ub2c8\uc624"
)
_WHOLE = {**dict.fromkeys((*_YES, "1", "y", "t"), True), **dict.fromkeys((*_NO, "0", "n", "f"), False)}
_WHOLE |= dict.fromkeys(("nope", "nah", "not really", "not at all"), False)
_WHOLE |= dict.fromkeys(("yep", "yup", "yeah", "of course", "certainly", "indeed", "absolutely"), True)
_WHOLE |= dict.fromkeys(_CHINESE_YES.split("|"), True) | dict.fromkeys(_CHINESE_NO.split("|"), False)
_VALUE = rf"(?:(?P<yes>yes|true|correct|right|{_CHINESE_YES})|(?P<no>no|false|incorrect|wrong|{_CHINESE_NO}))"
#: What may stand before a verdict that opens an answer.
_LEAD = (
    r"(?:(?:based\s++on|according\s++to|judging\s++by|from)\s++[^,.;\n]{1,60},\s*+)?+"
    r"(?:(?:so|thus|hence|therefore|well|okay|ok|in short|i\s++(?:think|believe|say|would\s++say)|my\s++answer|"
    r"(?:the\s++)?(?:final\s++|correct\s++)?answer(?:\s++to\s++(?:the|this)\s++question)?)\s*+(?:is\b|:)?[\s,:]*+)*+"
)
#: "No people are there" states nothing; "No the man walks" does.
_AFTER_NO = (
    r"(?:it|he|she|they|there|this|that|these|those|the|because|since|as|i|we|you|not|in|although|but|or|and|unless)"
)
_OPENING = re.compile(
    rf"{_LEAD}(?P<word>yes|true|false|no(?=\W*+\Z|\s*+[^\w\s]|[^\S\n]*+\n|\s++{_AFTER_NO}\b))\b", re.IGNORECASE
)
_OPENING_CHINESE = re.compile(
    rf"(?:\u7b54\u6848(?:\u662f|\u4e3a|:))?\s*+(?:(?P<no>{_CHINESE_NO})|(?P<yes>{_CHINESE_YES}))(?=[\s,.!;:\u3002\u3001]|$)"
)
#: "That is not true", "the statement is false", "so the answer is yes".
_STATED = re.compile(
    r"(?:^|[.;!?\n]\s*+|\b(?:so|thus|hence|therefore|then|that|because)\b,?\s++)"
    r"(?:i\s++(?:think|believe|would\s++say)\s++)?+(?:that\s++(?=it\b|this\b|the\b))?+"
    r"(?:(?:it|this|that|which|(?:the\s++)?(?:\w++\s++)?(?:statement|claim|answer|description|sentence))\s*+"
    r"(?:is|was|'s|:)\s*+)?+(?P<not>(?:definitely\s++|certainly\s++|clearly\s++)?+(?:not|never)\s++)?+"
    rf"{_VALUE}\s*+(?:[.,;!\"')]|$|because\b|since\b|that\b)",
    re.IGNORECASE,
)
#: "The answer to the question whether it moves is No."
_IS_LAST = re.compile(r"\banswer\b[^\n]{0,200}?\bis:?\s++(?:(?P<yes>yes)|(?P<no>no))[\s.!*\"')]*\Z", re.IGNORECASE)
_ISNT = re.compile(
    r"(?:it|this|that|which|(?:the\s++)?(?:statement|claim|answer))\s++(?:is|was)n't\s++(?P<yes>true|correct|right|yes)"
    r"\s*+(?:[.!]|$)",
    re.IGNORECASE,
)
#: "Yes or no?": the question's own words.
_QUESTION = re.compile(
    r"\b(?:yes|no|true|false)\s*+(?:/|\||,?\s*+\b(?:or|and)\b)\s*+(?:yes|no|true|false)\s*+\?", re.IGNORECASE
)
_NOT_THE_OTHER = re.compile(r"\bnot\s++(?:yes|no|true|false|correct|right|wrong|incorrect)\b", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+|\u6216|\u6216\u8005")
#: Words that join two verdicts and give no reason for either.
_JOIN = """or and maybe perhaps possibly probably unless either it is s be could might may rather actually wait also
then but not sure if the answer think i \u6216 \u6216\u8005 \u53ef\u80fd"""
#: The other verdict as a possibility of its own, for a verdict of yes and for one of no: "no otherwise", "or no (50%)".
_OPEN = {
    value: re.compile(
        rf"\b(?:otherwise|else|alternatively|or|if\s++not|possibly|perhaps|maybe|might\s++be|may\s++be|could\s++be)\b[\s,:]*+"
        rf"(?:it\s++is\s++|it's\s++)?{words}(?=\W*+(?:\Z|\n|\d)|\s*+[.,;!)])|\b{words}\W{{0,3}}(?:otherwise\b|else\b|\d)"
        rf"|\bit\s++(?:might|could|may)\s++(?:also\s++|well\s++)?be\s++{words}\b",
        re.IGNORECASE,
    )
    for value, words in ((True, "(?:no|false)"), (False, "(?:yes|true)"))
}
#: "Yes if it moves", "Yes is not the answer": what takes a verdict back.
_TAKES_BACK = re.compile(
    r"\s*+\?|[\s,]*+(?:only\s++)?(?:(?:if|unless|when)\b|in\s++one\s++sense\b"
    r"|(?:is|was|would\s++be)\s++(?:not|wrong|incorrect|false)\b|and\s++(?:no|yes)\b)",
    re.IGNORECASE,
)
_VERDICTS = frozenset(word for word in _WHOLE if len(word) > 1 or word in _CHINESE_YES or word in _CHINESE_NO)
_JOINING = frozenset(_JOIN.split())
_CJK = frozenset((*_CHINESE_YES.split("|"), *_CHINESE_NO.split("|")))
#: The forms that prompts ask for.
_ASKED = frozenset(("yes", "no", "true", "false", "1", "0", "y", "n", "t", "f"))
#: A statement of at most so many words is the answer as a whole.
_SHORT = 16
_BOTH = "both yes and no are given"
_CONDITIONAL = "the verdict is conditional or taken back"
_NONE = "neither yes nor no is stated"
#: Beyond this a text is read at its beginning and its end.
_LIMIT = 4000


def read_boolean(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read yes/no/true/false (``1``, ``0``, ``y``, ``n``, ``t``, ``f`` only when nothing else is there).

    The verdict that opens the answer counts, and a later "no" or "yes" belongs to its reason: "Yes. No people are near
    it." is yes. Without one, a verdict that the text states ("that is not true", "so the answer is no"), the last of
    several. "There is no dog" states nothing, and "yes or no", "yes, possibly no" and "maybe yes" commit to nothing.
    """
    if (plain := text.casefold()) in _ASKED:
        return Reading(_WHOLE[plain])
    text = unwrapped(typed(text)).strip()
    bare = unwrapped(text.strip(" \t\n.,;:!\u3002")).casefold()
    if bare in _WHOLE:
        return Reading(_WHOLE[bare], canonical=bare in _ASKED)
    if not text.isalnum():
        text = _QUESTION.sub(" ", re.sub(r"[*_`]", "", text)).strip()
    text = f"{text[:_LIMIT]}\n{text[-_LIMIT:]}" if len(text) > 2 * _LIMIT else text
    opening = _OPENING.match(text) or _OPENING_CHINESE.match(text)
    if opening is not None:
        value = _is_yes(opening)
        rest = text[opening.end() :]
        if _TAKES_BACK.match(rest):
            return unread(_CONDITIONAL)
        if _OPEN[value].search(rest) or _only_joins(rest, value):
            return unread(_BOTH)
        return Reading(value, canonical=opening.re is _OPENING)
    stated = [*_STATED.finditer(text), *_ISNT.finditer(text), *_IS_LAST.finditer(text[-400:])]
    if not stated:
        return unread(_NONE)
    last = stated[-1] if stated[-1].re is _IS_LAST else max(stated, key=lambda match: match.end())
    said = last.groupdict()
    value = said.get("yes") is not None
    return Reading(value != (said.get("not") is not None or last.re is _ISNT))


def read_boolean_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    """The same for a reply without a tag: its first words are the verdict, or the whole reply states one."""
    reading = read_boolean(text, options)
    if reading is None or reading.value is None:
        return reading
    plain = re.sub(r"[*_`]", "", unwrapped(typed(text)).strip())
    opens = _OPENING.match(plain) or _OPENING_CHINESE.match(plain)
    if opens or len(_WORDS.findall(plain)) <= _SHORT:
        return reading
    return unread(_NONE)


def _is_yes(match: re.Match[str]) -> bool:
    said = match.groupdict()
    return said["word"].casefold() in _YES if said.get("word") else said.get("yes") is not None


def _only_joins(rest: str, value: bool) -> bool:
    """Whether the other verdict follows: alone in a sentence, or after words that join the two."""
    sentences = (unwrapped(sentence.strip()).casefold() for sentence in re.split(r"[.;!\n]", rest))
    if any(sentence in _VERDICTS and _WHOLE[sentence] != value for sentence in sentences):
        return True
    # "No, it is not yes" says no twice.
    words = [word.casefold() for word in _WORDS.findall(_NOT_THE_OTHER.sub(" ", rest))]
    verdicts = {_WHOLE[word] for word in words if word in _WHOLE and (len(word) > 1 or word in _CJK)}
    others = [word for word in words if word not in _WHOLE and word not in _JOINING]
    return (not value) in verdicts and not others


def _reference(text: str, options: tuple[str, ...]) -> bool:
    bare = text.casefold().strip(" .")
    if bare not in _WHOLE:
        raise ValueError("it is neither yes nor no")
    return _WHOLE[bare]


def _compare(predicted: bool, reference: bool, row: Mapping[str, Any]) -> Verdict:
    return Verdict(float(predicted == reference))


BOOLEAN = Rule(
    read_boolean,
    _reference,
    _compare,
    "'yes' or 'no' ('true' or 'false')",
    read_reply=read_boolean_reply,
)
