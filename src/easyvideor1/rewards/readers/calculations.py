"""A calculation with its result in words, as models write it: "13 - 12 is 1.", "The sum of 7 and 5 equals 12".

Such a sentence states its result only where the calculation gives it and nothing but a unit stands behind it. Anything
else denies, doubts or limits what it says: "5 - 3 is 2 less than expected", "10-14 is 12", "7 + 5 is 12. No."
"""

from __future__ import annotations

import re
from fractions import Fraction

#: A longer number is no operand of a calculation in one's head.
_OPERAND = r"(?:0|[1-9]\d{0,2}(?:,\d{3}){1,3}|[1-9]\d{0,11})(?:\.\d{1,9})?"
_SIGN = r"(?:[-+/x\u00d7\u00f7]|plus|minus|times|divided by)"
_IS = r"\s(?:is(?:\sequal\sto)?|equals|makes|gives)\s"
#: What begins like a calculation with a result, whatever it says then.
_BEGINS = re.compile(
    r"(?:(?:[-+]?\d[\d.,]*+\s?(?:[-+/x\u00d7\u00f7]|plus\b|minus\b|times\b|divided by\b)\s?)++[-+]?\d[\d.,]*+"
    rf"|(?:the\s)?(?:sum|difference|product)\s(?:of|between)\s[-+]?\d[\d.,]*+\sand\s[-+]?\d[\d.,]*+){_IS}(?=[-+]?\d)",
    re.IGNORECASE,
)
_UNIT = (
    r"(?:mm|cm|m|km|meters?|metres?|g|kg|grams?|s|seconds?|minutes?|h|hours?|days?|degrees|dollars?|euros?|cents?|points?"
    r"|shapes?|objects?|items?|people|persons?|cups?|balls?|apples?|frames?)"
)
_RESULT = rf"(?P<result>-?{_OPERAND})(?:\s{_UNIT})?[.!]?"
#: Signs stand between blanks, so that a date is no difference; two numbers may stand close: "5-8 gives -3".
_SIGNED = re.compile(
    rf"(?P<left>-?{_OPERAND}(?:(?:\s{_SIGN}\s-?{_OPERAND})+|(?:\u00d7{_OPERAND})+|[-+/x\u00d7\u00f7]{_OPERAND})){_IS}{_RESULT}",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:the\s)?(?P<name>sum of|product of|difference (?:of|between))"
    rf"\s(?P<one>-?{_OPERAND})\sand\s(?P<other>-?{_OPERAND}){_IS}{_RESULT}",
    re.IGNORECASE,
)
_PIECE = re.compile(rf"\s?({_SIGN})\s?(-?{_OPERAND})", re.IGNORECASE)
_SIGNS = {"plus": "+", "minus": "-", "times": "*", "x": "*", "\u00d7": "*", "divided by": "/", "\u00f7": "/"}


def begins_calculation(text: str) -> bool:
    """Whether a cleaned text begins with a calculation and a number said to be its result."""
    return _BEGINS.match(text) is not None


def stated_result(text: str) -> str | None:
    """The result of the calculation that is the whole text, with its sign; ``None`` if it is not what comes out."""
    if named := _NAMED.fullmatch(text):
        one, other = _exact(named["one"]), _exact(named["other"])
        name = named["name"].casefold()
        values = {one + other} if name.startswith("sum") else {one * other}
        if name.startswith("difference"):
            values = {one - other, abs(one - other)}
        return named["result"] if _exact(named["result"]) in values else None
    signed = _SIGNED.fullmatch(text)
    if signed is None or _worked_out(signed["left"]) != _exact(signed["result"]):
        return None
    return signed["result"]


def _exact(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _worked_out(left: str) -> Fraction | None:
    """The exact value of numbers with signs between them, products first; ``None`` for a division by 0."""
    first = re.match(rf"-?{_OPERAND}", left)
    assert first is not None
    terms = [_exact(first.group())]
    for sign, number in _PIECE.findall(left, first.end()):
        name, value = _SIGNS.get(sign.casefold(), sign), _exact(number)
        if name in "+-":
            terms.append(value if name == "+" else -value)
        elif name == "*":
            terms[-1] *= value
        elif value == 0:
            return None
        else:
            terms[-1] /= value
    return sum(terms, Fraction(0))
