"""Reading the one number that a text states: with its unit, percent sign, fraction, exponent, or in words.

A text that only mentions a number states none; neither does a bound, a range, a guess between two, or a question.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from easyvideor1.rewards.answer import Reading, unread
from easyvideor1.rewards.characters import nfkc
from easyvideor1.rewards.numberprose import MENTIONED, STATING, WORD, WORDS, says_none, why_only_mentioned
from easyvideor1.rewards.numberwords import NUMBER_WORDS, SCALES, runs, value_of
from easyvideor1.rewards.numberwords_cjk import CJK, states_in_characters

#: Beyond this length a text is no number.
_LIMIT = 2000
_VULGAR = re.compile(r"(\d)([\u00bc-\u00be\u2150-\u215e])")
#: A raised or lowered digit after a digit would become its neighbour: 5² is no 52.
_RAISED = re.compile(r"(\d)(?=[\u00b2\u00b3\u00b9\u2070\u2074-\u207e])")
_LOWERED = re.compile(r"(\d)(?=[\u2080-\u208e])")
_NEARLY = r"(?:(?:about|around|roughly|approximately|exactly|only|just|a total of|the|a)\s)?"
#: What makes the number after it a bound or a denied one: "more than 5", "not 5".
_BOUND = re.compile(
    r"(?:\b(?:at least|at most|at the most|up to|under|over|above|below|beyond|within|exceeds|exceeding|until"
    r"|max(?:imum)?"
    rf"|min(?:imum)?|(?:more|less|fewer|greater|larger|smaller|other|bigger|higher|lower) than)(?: of)?\s{_NEARLY}"
    r"|[<>\u2264\u2265\u2260\u00b1]|!=|\+/-)\s?\Z"
)
_DENIED = re.compile(rf"\b(?:not|never|isn't|aren't|wasn't|weren't|no longer)\s{_NEARLY}\Z")
#: "One shape is a triangle" speaks of one of them and counts nothing.
_ONE_OF_THEM = re.compile(r"one\s++\w++\s++(?:is|are|was|were|has|have)\b")
#: What makes the number before it one.
_BOUND_AFTER = re.compile(
    r"\s?(?:\+(?!\s?\d)|\s?\w{0,20}\s?\b(?:or (?:more|fewer|less|higher|lower|greater|above|below|over|under|better)"
    r"|and (?:up|above|below|over|under)|at (?:least|most)|plus|maximum|minimum|max)\b)",
    re.IGNORECASE,
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*+\{([^{}]*+)\}\s*+\{([^{}]*+)\}")
_LATEX_WRAP = re.compile(r"\\(?:text|mathrm|mathbf|boxed|fbox|,|;|!|left|right|[()\[\]])\s*+")
_LATEX_SIGN = re.compile(r"\\(leq?|geq?|lt|gt|neq?|pm|approx|sim|leqslant|geqslant)(?![a-zA-Z])")
_SIGNS = {
    "le": "\u2264", "leq": "\u2264", "leqslant": "\u2264", "ge": "\u2265", "geq": "\u2265", "geqslant": "\u2265",
    "lt": "<", "gt": ">", "ne": "\u2260", "neq": "\u2260", "pm": "\u00b1", "approx": "\u2248", "sim": "~",
}  # fmt: skip
_TIMES_TEN = re.compile(
    r"\s?(?:\u00d7|x|\*|\\times|\\cdot)\s?10\s?(?:\^\s?\{?\s?([+-]?\d{1,4})\s?\}?|\*\*\s?([+-]?\d{1,4}))"
)
_POWER_OF_TEN = re.compile(r"(?<![\w.^])10\s?\^\s?([+-]?\d{1,4})(?!\d)")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.^_])(?P<sign>(?<![\d)])[+-]\s?)?(?P<value>{_DIGITS})(?P<exponent>e[+-]?\d{{1,4}}(?!\w))?"
    rf"(?:\s?/\s?(?P<below>{_DIGITS})|\s(?P<top>\d+)\s?/\s?(?P<bottom>\d+))?(?P<end>\.(?!\d)|(?![\d.]))"
    rf"(?P<percent>\s?(?:%|percent\b|per cent\b))?(?:\s?(?P<scale>{'|'.join(SCALES)})\b|(?P<thousand>k)\b)?",
    re.IGNORECASE,
)
#: Powers, sums and products are to be worked out, not read.
_EXPRESSION = re.compile(r"\d\s?(?:\^|x\s?\d|[+*\u00d7\u00f7]\s?\d)|\d\s-\s\d|\\sqrt|\\times|\u221a", re.IGNORECASE)
#: Groups of three digits with spaces between are one number where nothing else stands.
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_TIMES = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
#: "1. Measure the way": the number of a point in a list.
_LIST_MARK = re.compile(r"\A\s*+(?:\d{1,3}[.)]|[-*\u2022])\s++(?=[^\W\d_]{2})")
#: A number alone or with one plain unit, which most answers are.
_SIMPLE = re.compile(r"([+-]?\d{1,15}(?:\.\d{1,15})?)(?: ([a-z]{2,12}(?:/[a-z]{1,3})?|m|s|g|h))?\.?")
#: A word behind a number that is no unit: it scales, joins or limits it.
_NO_UNIT = frozenset(
    {
        *("or", "and", "to", "plus", "max", "dozen", "per", "point", "half", "quarters", "thirds", "third", "over"),
        *("at", "but", "if", "then", "maximum", "minimum", "times", "of", "in", "is", "so", "as", "maybe", "not"),
        *("unclear",),
    }
)
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)][.!?;])\s+(?=\S)|\n", re.IGNORECASE)

#: "One" is an amount only as the first word or after one of these: not in "the red one", "no one" or "one of them".
_BEFORE_ONE = STATING | {"only", "exactly", "about", "just", "total"}
_SEVERAL = "several numbers are named"
_BOUNDED = "a bound or a range is no number"
_TO_WORK_OUT = "a calculation without its result is no number"


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number; ``percent`` says that it was written with a percent sign, and then 50% has value 50."""

    value: float
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value:.12g}{'%' if self.percent else ''}"

    def meanings(self, other: Number) -> tuple[float, ...]:
        """The values it may stand for beside ``other``: p% is p or p/100 if the other has no sign, else p."""
        if self.percent and not other.percent:
            return (self.value, self.value / 100)
        return (self.value,)


def read_number(text: str, options: tuple[str, ...]) -> Reading:
    """Read the one number that a text presented as the answer states.

    After the last "=" or "≈" if there is one. Units, currency signs and words around it are ignored; two different
    numbers ("between 3 and 5", "3-5", "12:30") are no answer, and neither is a bound or a denied number ("more than 5",
    "not 5"). Long prose and several sentences have to state it ("There are three cups."), not only mention it. "None"
    and "no cups" are 0.
    """
    return _read(text, strict=False)


def read_number_reply(text: str, options: tuple[str, ...]) -> Reading:
    """The same of an untagged reply, which has to be one number, alone or in one sentence that states it."""
    return _read(text, strict=True)


def _read(text: str, *, strict: bool) -> Reading:
    if len(text) > _LIMIT:
        return unread("the text is too long for a number")
    if (simple := _SIMPLE.fullmatch(text)) is not None:
        unit = simple[2]
        if unit is None or (unit not in _NO_UNIT and unit not in NUMBER_WORDS):
            return Reading(Number(float(simple[1]), unit == "percent"))
    text = _LIST_MARK.sub("", _cleaned(text))
    if (times := _TIMES.get(text.casefold().rstrip(".!"))) is not None:
        return Reading(Number(times))
    if not text.isascii() and CJK.search(text):
        return _in_characters(text)
    if text.rstrip(".! ").endswith("?"):
        return unread("a question states no number")
    lower = text.lower()
    if not lower.isascii() and "\u2019" in lower:
        lower = lower.replace("\u2019", "'")
    if strict and _ONE_OF_THEM.match(lower):
        return unread(MENTIONED)
    if ("no" in lower or "n't any" in lower) and says_none(lower.strip(" .!")):
        return Reading(Number(0.0), canonical=False)
    return _stated(text, strict)


def _in_characters(text: str) -> Reading:
    found = states_in_characters(re.sub(r"(?<=\d) | (?=\d)", "", text))
    if found is None or not math.isfinite(found[0]):
        return unread(MENTIONED)
    return Reading(Number(*found), canonical=False)


def _stated(text: str, strict: bool) -> Reading:
    """The number that a cleaned text states after its last equals sign."""
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if "=" in text or "\u2248" in text:
        if re.search(r"[<>!]=|=[<>]", text):
            return unread(_BOUNDED)
        pieces = re.split(r"[=\u2248]", text)
        if len(pieces) > 2 and any(re.search(r"[,;]|\b(?:and|or)\b", piece) for piece in pieces[1:-1]):
            return unread(_SEVERAL)
        text = pieces[-1].strip()
    sentences = _SENTENCE_END.split(text)
    long = len(sentences) > 1 or text.count(" ") > WORDS
    if len(sentences) > 1:
        telling = [piece for piece in sentences if _tells(piece)]
        if strict or len(telling) != 1:
            return unread(_SEVERAL if len(telling) > 1 else MENTIONED)
        text = telling[0]
    if _EXPRESSION.search(text):
        return unread(_TO_WORK_OUT)
    matches = list(_NUMBER.finditer(text))
    for match in matches:
        before = text[max(0, match.start() - 40) : match.start()].lower()
        if _BOUND.search(before) or _BOUND_AFTER.match(text, match.end()):
            return unread(_BOUNDED)
        if _DENIED.search(before):
            return unread("the number is denied")
    found = {number for number in map(_number, matches) if number is not None}
    if not found and re.search(r"\d", text):
        return unread(MENTIONED)
    spoken = _spoken(text)
    if spoken is None:
        return unread(_SEVERAL)
    values = {known.value for known in found}
    others = {number for number, _, _ in spoken if number.value not in values}
    if len(found) + len(others) != 1:
        return unread(_SEVERAL if found or others else MENTIONED)
    number = (found | others).pop()
    if not math.isfinite(number.value):
        return unread("the number is too large")
    if matches:
        begins, ends = matches[0].start(), matches[-1].end()
    else:
        begins, ends = spoken[0][1], spoken[-1][2]
    before, after = text[:begins].lower(), text[ends:].lower()
    refusal = why_only_mentioned(before, after, structured=strict or long or not matches)
    return unread(refusal) if refusal else Reading(number)


def _tells(sentence: str) -> bool:
    """Whether a sentence holds a number at all."""
    return re.search(r"\d", sentence) is not None or bool(_spoken(sentence))


#: Short forms of a fraction of digits: "\\dfrac12", "\\frac 1 2", "\\frac1{2}".
_SHORT_FRACTION = re.compile(r"\\[dt]?frac\s*+(?:(\d)\s*+(\d)(?!\d)|(\d)\s*+\{(\d++)\}|\{(\d++)\}\s*+(\d)(?!\d))")
#: How a number came about, in brackets behind it: "12 (3 rows of 4)".
_ASIDE = re.compile(
    r"\A(\s*+[-+]?\d[\d.,]*+)\s++\((?![^()]*?\b(?:or|to|maybe|perhaps|possibly|not|but|if|least|most|about)\b)(?=[^()]*?[a-z]{2})[^()]{1,80}\)(?=\s*+\.?+\s*+\Z)"
)


def _short_fraction(match: re.Match[str]) -> str:
    top, below = [group for group in match.groups() if group is not None]
    return f" {top}/{below} "


def _cleaned(text: str) -> str:
    if not text.isascii():
        text = _VULGAR.sub(r"\1 \2", text)
        text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})", "", text)
        text = _LOWERED.sub(r"\1_", _RAISED.sub(r"\1^", text))
        text = nfkc(text).translate({0x2212: "-", 0x2013: "-", 0x2044: "/"})
    text = text.replace("{,}", ",")
    if "\\" in text:
        text = _SHORT_FRACTION.sub(_short_fraction, text)
        text = _LATEX_FRACTION.sub(r" \1/\2 ", text)
        text = _LATEX_SIGN.sub(lambda sign: f" {_SIGNS[sign[1]]} ", text)
        text = _LATEX_WRAP.sub(" ", text).replace("\\%", "%")
    text = _ASIDE.sub(r"\1", text)
    text = re.sub(r"\b(?:minus|negative)\s++(?=\d)(?<!\d minus )", "-", text, flags=re.IGNORECASE)
    text = re.sub(r"[${}_`\"\u201c\u201d\u20ac\u00a3\u00a5]", " ", text)
    if "10" in text:
        text = _TIMES_TEN.sub(lambda match: f"e{match.group(1) or match.group(2)}", text)
        text = _POWER_OF_TEN.sub(r"1e\1", text)
    text = re.sub(r"(?<=\d)\s?\*\s?(?=\d)", "\u00d7", text).replace("*", " ")
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return "\n".join(line for line in lines if line)


def _number(match: re.Match[str]) -> Number | None:
    value = float(match["value"].replace(",", "") + (match["exponent"] or ""))
    if match["below"] is not None:
        below = float(match["below"].replace(",", ""))
        value = value / below if below else math.inf
    if match["bottom"] is not None:
        value = value + float(match["top"]) / float(match["bottom"]) if float(match["bottom"]) else math.inf
    value *= SCALES[match["scale"].lower()] if match["scale"] else 1000.0 if match["thousand"] == "k" else 1.0
    return Number(-value if (match["sign"] or "").startswith("-") else value, match["percent"] is not None)


def _spoken(text: str) -> list[tuple[Number, int, int]] | None:
    """Numbers said in words, and where in the text they begin and end; ``None`` if number words make no number."""
    places = list(WORD.finditer(text.lower()))
    words = [place.group() for place in places]
    found = []
    for start, run in runs(words):
        if not any(word in NUMBER_WORDS or word in {"quarter", "quarters", "thirds"} for word in run):
            continue
        if run[0] in SCALES and re.search(r"\d", text):
            continue  # "3 million": the scale belongs to the digits
        end = start + len(run)
        if run == ["one"] and (
            (start > 0 and words[start - 1] not in _BEFORE_ONE) or (end < len(words) and words[end] == "of")
        ):
            continue
        value = value_of(run)
        if value is None:
            return None
        found.append((Number(value, percent="percent" in words), places[start].start(), places[end - 1].end()))
    return found
