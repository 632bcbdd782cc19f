"""Numerical and regression answers: read the one number that a text states, compare within a tolerance.

A number may have a unit, a percent sign, a fraction, an exponent, or be written in words. A text that only mentions a
number states none; neither does a bound, a range, a guess between two, or a question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.readers.calculations import begins_calculation, stated_result
from easyvideor1.rewards.readers.number_words import (
    CJK,
    MENTIONED,
    NUMBER_WORDS,
    PROSE_WORDS,
    SCALES,
    STATING,
    WORD,
    number_in_words,
    number_word_runs,
    says_none,
    states_in_characters,
    why_only_mentioned,
)
from easyvideor1.rewards.readers.plain_text import nfkc, takes_back
from easyvideor1.rewards.tasks.relative_accuracy import mean_relative, relative, vsi_bench
from easyvideor1.rewards.types import ColumnError, Reading, Rule, Verdict, cannot_judge, unread

#: A longer text is not a number.
_LIMIT = 2000
_VULGAR = re.compile(r"(\d)([\u00bc-\u00be\u2150-\u215e])")
#: A raised or lowered digit after a digit would become its neighbour: 5² is not 52.
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
#: Words after a number that are not units: they scale, join or limit it.
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
_WORKED_OUT_WRONG = "the text does not only state a calculation and what it gives"
_TO_WORK_OUT = "a calculation without its result is no number"


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number; ``percent`` says that it was written with a percent sign, and then 50% has value 50."""

    value: float
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value:.12g}{'%' if self.percent else ''}"

    def meanings(self, other: Number) -> tuple[float, ...]:
        """The values that it may mean beside ``other``: p% is p or p/100 if the other has no sign, else p."""
        if self.percent and not other.percent:
            return (self.value, self.value / 100)
        return (self.value,)


def read_number(text: str, options: tuple[str, ...]) -> Reading:
    """Read the one number that a text presented as the answer states.

    After the last "=" or "≈" if there is one. Units, currency signs and words around it are ignored. Not answers are
    two different numbers ("between 3 and 5", "3-5", "12:30"), a bound ("more than 5") and a denied number ("not 5").
    Long prose and several sentences have to state it ("There are three cups."), not only mention it. "None" and "no
    cups" are 0.
    """
    return _read(text, strict=False)


def read_number_reply(text: str, options: tuple[str, ...]) -> Reading:
    """The same for an untagged reply, which has to be one number, alone or in one sentence that states it."""
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
    """The number that a cleaned text states after its last equals sign, or behind a calculation in words."""
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if "=" in text or "\u2248" in text:
        if re.search(r"[<>!]=|=[<>]", text):
            return unread(_BOUNDED)
        pieces = re.split(r"[=\u2248]", text)
        if len(pieces) > 2 and any(re.search(r"[,;]|\b(?:and|or)\b", piece) for piece in pieces[1:-1]):
            return unread(_SEVERAL)
        text = pieces[-1].strip()
    elif begins_calculation(text):
        if (result := stated_result(text)) is None:
            return unread(_WORKED_OUT_WRONG)
        text = result
    sentences = _SENTENCE_END.split(text)
    long = len(sentences) > 1 or text.count(" ") > PROSE_WORDS
    if len(sentences) > 1:
        telling = [piece for piece in sentences if _tells(piece)]
        if strict or len(telling) != 1:
            return unread(_SEVERAL if len(telling) > 1 else MENTIONED)
        if takes_back(sentences[-1]):
            return unread("the number is denied")
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
    """Numbers in words, and where in the text they begin and end; ``None`` if number words are not a number."""
    places = list(WORD.finditer(text.lower()))
    words = [place.group() for place in places]
    found = []
    for start, run in number_word_runs(words):
        if not any(word in NUMBER_WORDS or word in {"quarter", "quarters", "thirds"} for word in run):
            continue
        if run[0] in SCALES and re.search(r"\d", text):
            continue  # "3 million": the scale belongs to the digits
        end = start + len(run)
        if run == ["one"] and (
            (start > 0 and words[start - 1] not in _BEFORE_ONE) or (end < len(words) and words[end] == "of")
        ):
            continue
        value = number_in_words(run)
        if value is None:
            return None
        found.append((Number(value, percent="percent" in words), places[start].start(), places[end - 1].end()))
    return found


def _reference(text: str, options: tuple[str, ...]) -> Number:
    reading = read_number(text, options)
    if reading.value is None:
        raise ValueError("it is not one number")
    number: Number = reading.value
    return number


def _rounding(reference: float) -> float:
    """Whole references must be met exactly; others allow rounding to two decimals, at most 5% of the reference."""
    if reference == round(reference):
        return 1e-9 * abs(reference)
    return min(0.005, 0.05 * abs(reference)) * (1 + 1e-9)


def _given_tolerance(row: Mapping[str, Any]) -> float | None:
    """The column ``tolerance``: how far an answer may be from the reference, in its unit.

    Raises:
        ColumnError: it is not a number of at least 0.
    """
    value = row.get("tolerance")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ColumnError("tolerance", f"it is {value!r}; write the allowed distance from the reference, 0 or more")
    return float(value)


def _check_columns(row: Mapping[str, Any]) -> None:
    _given_tolerance(row)


def _pairs(predicted: Number, reference: Number) -> list[tuple[float, float]]:
    return [(p, r) for p in predicted.meanings(reference) for r in reference.meanings(predicted)]


def compare_numerical(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """Equality within a tolerance, for any of the meanings that a lone percent sign allows.

    The tolerance is the row's column ``tolerance`` if it has one. Else whole references must be met exactly, and others
    within 0.005 (rounding to two decimals) and within 5% of the reference.
    """
    try:
        given = _given_tolerance(row)
    except ColumnError as error:
        return cannot_judge(error.cause)
    close = any(
        abs(p - r) <= (_rounding(r) if given is None else given * (1 + 1e-9) + 1e-12 * abs(r))
        for p, r in _pairs(predicted, reference)
    )
    return Verdict(float(close))


def compare_regression(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """Mean relative accuracy: the share of thresholds t = 0.50, 0.55, ..., 0.95 with |p - r| / |r| < 1 - t.

    The thresholds are those of VSI-Bench (Yang et al. 2024), evaluated in hundredths, so an error of exactly 10% fails
    t = 0.90 whatever floats say. With a reference of 0 only 0 is right. ``relative_accuracy`` is ``max(0, 1 - |p - r| /
    |r|)``.
    """
    pairs = _pairs(predicted, reference)
    accuracy, near = max((mean_relative(p, r), relative(p, r)) for p, r in pairs)
    return Verdict(accuracy, {"relative_accuracy": near})


def compare_relative(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """The simpler form: ``max(0, 1 - |p - r| / |r|)``; ``mean_relative_accuracy`` is the one over thresholds."""
    near, mean = max((relative(p, r), mean_relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(near, {"mean_relative_accuracy": mean})


def compare_vsi_bench(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """The mean relative accuracy as VSI-Bench's own scorer computes it: thresholds are met with equality, in floats, so
    an error of 10% meets t = 0.90 and one of 20% misses t = 0.80."""
    accuracy, near = max((vsi_bench(p, r), relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(accuracy, {"relative_accuracy": near})


NUMERICAL = Rule(
    read_number,
    _reference,
    compare_numerical,
    "one number ('12', '3/4', '50%', '1.2e5', 'two hundred')",
    columns=_check_columns,
    form="equal",
    read_reply=read_number_reply,
    lists=True,
)
REGRESSION = Rule(
    read_number,
    _reference,
    compare_regression,
    "one number ('0.4')",
    form="mra",
    forms={"relative": compare_relative, "vsi-bench": compare_vsi_bench},
    read_reply=read_number_reply,
    lists=True,
)
