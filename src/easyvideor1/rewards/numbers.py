"""Numerical and regression answers: one number with its unit, percent sign, fraction, exponent or words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easyvideor1.rewards.answer import ColumnError, Reading, Rule, Verdict, cannot_judge
from easyvideor1.rewards.characters import nfkc
from easyvideor1.rewards.numberwords import NUMBER_WORDS, SCALES, runs, value_of

#: Beyond this length a text is no number.
_LIMIT = 2000
_VULGAR = re.compile(r"(\d)([\u00bc-\u00be\u2150-\u215e])")
#: A raised or lowered digit after a digit would become its neighbour: 5² is no 52.
_RAISED = re.compile(r"(\d)(?=[\u00b2\u00b3\u00b9\u2070\u2074-\u207e])")
_LOWERED = re.compile(r"(\d)(?=[\u2080-\u208e])")
#: What makes the number after it a bound or a denied one: "more than 5", "not 5".
_BOUND = re.compile(
    r"(?:\b(?:not|never|at least|at most|(?:more|less|fewer|greater|other) than)\s|[<>\u2264\u2265])\s?\Z"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*+\{([^{}]*+)\}\s*+\{([^{}]*+)\}")
_LATEX_WRAP = re.compile(r"\\(?:text|mathrm|mathbf|boxed|,|;|!|left|right)\s*")
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
#: Powers and products are to be worked out, not read.
_EXPRESSION = re.compile(r"\d\s?(?:\^|x\s?\d)|\\sqrt|\u221a", re.IGNORECASE)
#: Groups of three digits with spaces between are one number where nothing else stands.
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_TIMES = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
#: "One" is an amount only as the first word or after one of these: not in "the red one" or "no one".
_BEFORE_ONE = {"is", "are", "only", "exactly", "about", "just", "was", "were", "be", "answer"}


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


def read_number(text: str, options: tuple[str, ...]) -> Reading | None:
    """Read the one number that a text states.

    After the last "=" or "≈" if there is one. Units, currency signs and words around it are ignored; two different
    numbers ("between 3 and 5", "3-5", "12:30") are ambiguous and no answer, and so is a bound or a denied number ("more
    than 5", "not 5").
    """
    if len(text) > _LIMIT:
        return None
    text = _cleaned(text)
    if (times := _TIMES.get(text.casefold().rstrip(".!"))) is not None:
        return Reading(Number(times))
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    text = re.split(r"[=\u2248]", text)[-1]
    if _EXPRESSION.search(text):
        return None
    matches = list(_NUMBER.finditer(text))
    if any(_BOUND.search(text[max(0, match.start() - 20) : match.start()].lower()) for match in matches):
        return None
    found = {number for number in map(_number, matches) if number is not None}
    spoken = _spoken(text)
    if spoken is None:
        return None
    if not found and re.search(r"\d", text):
        return None
    found |= {number for number in spoken if number.value not in {known.value for known in found}}
    if len(found) != 1:
        return None
    number = found.pop()
    return Reading(number) if math.isfinite(number.value) else None


def _cleaned(text: str) -> str:
    text = _VULGAR.sub(r"\1 \2", text)
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})", "", text)
    text = _LOWERED.sub(r"\1_", _RAISED.sub(r"\1^", text))
    text = nfkc(text).translate({0x2212: "-", 0x2013: "-", 0x2044: "/"})
    text = _LATEX_FRACTION.sub(r" \1/\2 ", text)
    text = _LATEX_WRAP.sub(" ", text).replace("\\%", "%")
    text = re.sub(r"[${}*_`]|[\u20ac\u00a3\u00a5]", lambda match: "*" if match.group() == "*" else " ", text)
    text = _TIMES_TEN.sub(lambda match: f"e{match.group(1) or match.group(2)}", text)
    text = _POWER_OF_TEN.sub(r"1e\1", text)
    return re.sub(r"\s+", " ", text.replace("*", " ")).strip()


def _number(match: re.Match[str]) -> Number | None:
    value = float(match["value"].replace(",", "") + (match["exponent"] or ""))
    if match["below"] is not None:
        below = float(match["below"].replace(",", ""))
        value = value / below if below else math.inf
    if match["bottom"] is not None:
        value = value + float(match["top"]) / float(match["bottom"]) if float(match["bottom"]) else math.inf
    value *= SCALES[match["scale"].lower()] if match["scale"] else 1000.0 if match["thousand"] == "k" else 1.0
    return Number(-value if (match["sign"] or "").startswith("-") else value, match["percent"] is not None)


def _spoken(text: str) -> set[Number] | None:
    """Numbers said in words; ``None`` if number words stand there that make no number."""
    words = re.findall(r"[a-z]+", text.lower())
    found = set()
    for start, run in runs(words):
        if not any(word in NUMBER_WORDS or word in {"quarter", "quarters", "thirds"} for word in run):
            continue
        if run[0] in SCALES and re.search(r"\d", text):
            continue  # "3 million": the scale belongs to the digits
        if run == ["one"] and start > 0 and words[start - 1] not in _BEFORE_ONE:
            continue
        value = value_of(run)
        if value is None:
            return None
        found.add(Number(value, percent="percent" in words))
    return found


def _reference(text: str, options: tuple[str, ...]) -> Number:
    reading = read_number(text, options)
    if reading is None:
        raise ValueError("it is not one number")
    number: Number = reading.value
    return number


def _rounding(reference: float) -> float:
    """Whole references must be met; others forgive rounding to two decimals, never more than 5% of the reference."""
    if reference == round(reference):
        return 1e-9 * abs(reference)
    return min(0.005, 0.05 * abs(reference)) * (1 + 1e-9)


def _given_tolerance(row: Mapping[str, Any]) -> float | None:
    """The column ``tolerance``: how far an answer may be from the reference, in its unit.

    Raises:
        ColumnError: it is no number from 0 on.
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


def _relative(p: float, r: float) -> float:
    if r == 0 or p == r:
        return float(p == r)
    return max(0.0, 1.0 - abs(p - r) / abs(r))


def _mean_relative(p: float, r: float) -> float:
    if r == 0 or p == r:
        return float(p == r)
    error = round(abs(p - r) / abs(r) * 100, 9)
    return sum(error < step for step in range(5, 55, 5)) / 10


def compare_regression(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """Mean relative accuracy: the share of thresholds t = 0.50, 0.55, ..., 0.95 with |p - r| / |r| < 1 - t.

    The thresholds are those of VSI-Bench (Yang et al. 2024), evaluated in hundredths, so an error of exactly 10% fails
    t = 0.90 whatever floats say. A reference of 0 asks for 0. ``relative_accuracy`` is ``max(0, 1 - |p - r| / |r|)``.
    """
    accuracy, relative = max((_mean_relative(p, r), _relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(accuracy, {"relative_accuracy": relative})


def compare_relative(predicted: Number, reference: Number, row: Mapping[str, Any]) -> Verdict:
    """The simpler form: ``max(0, 1 - |p - r| / |r|)``; ``mean_relative_accuracy`` is the one over thresholds."""
    relative, mean = max((_relative(p, r), _mean_relative(p, r)) for p, r in _pairs(predicted, reference))
    return Verdict(relative, {"mean_relative_accuracy": mean})


NUMERICAL = Rule(
    read_number,
    _reference,
    compare_numerical,
    "one number ('12', '3/4', '50%', '1.2e5', 'two hundred')",
    columns=_check_columns,
    form="equal",
)
REGRESSION = Rule(
    read_number, _reference, compare_regression, "one number ('0.4')", form="mra", forms={"relative": compare_relative}
)
