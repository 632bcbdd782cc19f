"""The helper process of ``rewards.tasks.math``: a script that compares one pair a line until its input ends.

In: ``[reference, predicted]`` as JSON, both normalised by ``math_expressions``. Out, one letter: ``=`` equal, ``!``
different, ``p`` the predicted text is not one expression, ``r`` the reference is not. It first prints ``ready``.
Limits: its parent's deadline, memory here, and an alarm that ends a helper whose parent died. Nothing else may be
written to standard output, so that is kept aside.

math-verify looks for expressions inside a text, drops what it cannot read and rounds to six decimals. Here a text is
one expression from end to end or none, decimals are fractions, and numbers are compared exactly. math-verify compares
the rest: relations, unions of sets and the like.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import resource
import signal
import sys
import warnings
from functools import lru_cache
from typing import Any

import sympy  # type: ignore[import-untyped]
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy  # type: ignore[import-untyped]
from math_verify import verify
from math_verify.grader import is_assignment_relation, is_equation, take_first_relation, take_last_relation

_MEMORY = 4 << 30
#: Digits to which numbers that are not rational are worked out, and to how many of them equal ones agree.
_DIGITS, _AGREE = 120, 100
#: A decimal fraction of this many digits may be the rounding of an exact value (0.333333 of 1/3), and one of that many
#: the rounding of a longer decimal fraction.
_ROUNDED, _ROUNDED_DECIMAL = 6, 9
#: What sympy shows of math-verify's percent sign.
_HUNDREDTH = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
#: Digits of a power, and what a factorial is taken of, beyond which nothing is worked out.
_DIGITS_AT_MOST, _FACTORIAL_AT_MOST = 1e5, 1e4
#: Power of something with variables beyond which it is not multiplied out.
_EXPANDED_AT_MOST = 300
_EXPONENT = re.compile(r"[eE][+-]?\d{5,}")


class _Refused(Exception):  # noqa: N818  (no error: a text that is not an expression)
    """A text that is not one expression."""


class _Reader(_Latex2Sympy):  # type: ignore[misc]
    """latex2sympy that drops nothing: it refuses what it would have guessed at, and keeps decimals exact."""

    def __init__(self, real: bool | None) -> None:
        super().__init__(is_real=real, convert_degrees=False)
        self.parsers: list[Any] = []
        #: The decimal fractions that were read, and how many digits stood behind the point.
        self.decimals: dict[Any, int] = {}

    def create_parser(self, latex_str: str) -> Any:
        parser = super().create_parser(latex_str)
        self.parsers.append(parser)
        return parser

    def parse_number(self, text: str) -> Any:
        if _EXPONENT.search(text):
            raise _Refused
        value = sympy.Rational(text.replace(",", ""))
        if "." in text and text.replace(".", "").isdigit():
            self.decimals[value] = len(text.partition(".")[2])
        return value

    def convert_atom(self, atom: Any) -> Any:
        """A number with an index is in the base that the index names, and equal to nothing but itself."""
        number = atom.number_subexpr()
        if number is not None and number.subexpr() is not None:
            base = number.subexpr().getText().strip("_{}")
            return sympy.Function("base")(sympy.Symbol(number.NUMBER().getText()), sympy.Symbol(base))
        return super().convert_atom(atom)

    def convert_postfix_list(self, arr: Any, i: int = 0) -> Any:
        """Factors side by side; a whole number before a proper fraction is a mixed number, other pairs are refused."""
        if i + 1 < len(arr):
            left, right = arr[i].getText(), arr[i + 1].getText()
            fraction = re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", right)
            if left.isdigit() and fraction and i + 2 == len(arr):
                top, bottom = int(fraction[1]), int(fraction[2])
                if not 0 < top < bottom:
                    raise _Refused
                return int(left) + sympy.Rational(top, bottom)
            if right[0].isdigit() and left[-1].isdigit():
                raise _Refused
            first = super().convert_postfix_list(arr[i : i + 1])
            if isinstance(first, sympy.Expr):
                rest = self.convert_postfix_list(arr, i + 1)
                return self.mul_flat(first, rest) if isinstance(rest, sympy.Expr) else self.mat_mul_flat(first, rest)
        return super().convert_postfix_list(arr, i)


def _within_bounds(tree: Any) -> bool:
    """Whether a tree can be evaluated: towers of powers, with more than a million digits, are not answers."""
    if not isinstance(tree, sympy.Basic):
        return True
    for node in sympy.preorder_traversal(tree):
        if isinstance(node, sympy.Pow) and node.is_number and _digits(node) > _DIGITS_AT_MOST:
            return False
        if isinstance(node, sympy.exp) and node.is_number and _size(node.args[0]) > _DIGITS_AT_MOST:
            return False
        if isinstance(node, sympy.Pow) and node.base.free_symbols and _size(node.exp) > _EXPANDED_AT_MOST:
            return False
        if isinstance(node, sympy.binomial) and node.is_number and _size(node.args[0]) > _FACTORIAL_AT_MOST:
            return False
        if isinstance(node, sympy.factorial) and node.is_number and _size(node.args[0]) > _FACTORIAL_AT_MOST:
            return False
    return True


def _size(node: Any) -> float:
    """About how large a number is, without working it out; infinity where that is beyond a float."""
    if isinstance(node, sympy.Pow) and node.is_number:
        digits = _digits(node)
        return math.inf if digits > 300 else 10.0**digits
    if isinstance(node, sympy.exp) and node.is_number:
        inner = _size(node.args[0])
        return math.inf if inner > 700 else math.exp(inner)
    if isinstance(node, sympy.Mul | sympy.Add) and node.is_number:
        sizes = [_size(part) for part in node.args]
        return (
            math.prod(sizes) if isinstance(node, sympy.Mul) else math.fsum(sizes) if math.inf not in sizes else math.inf
        )
    try:
        return abs(float(node))
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return 0.0


def _digits(power: Any) -> float:
    """About how many digits a power has, before or behind the point."""
    base, exponent = _size(power.base), _size(power.exp)
    if base in (0.0, 1.0) or exponent == 0.0:
        return 0.0
    return math.inf if math.inf in (base, exponent) else exponent * abs(math.log10(base))


class _Read:
    """An expression and the decimals written in it."""

    def __init__(self, text: str, real: bool | None) -> None:
        reader = _Reader(real)
        self.tree = reader.parse(text)
        if any(parser.getCurrentToken().type != -1 for parser in reader.parsers):
            raise _Refused
        if isinstance(self.tree, bool) or self.tree is None or not _within_bounds(self.tree):
            raise _Refused
        self.decimals = reader.decimals
        names = {str(name) for name in getattr(self.tree, "free_symbols", ())}
        if names == {"i"} and isinstance(self.tree, sympy.Basic):
            self.tree = self.tree.subs(dict.fromkeys(self.tree.free_symbols, sympy.I))

    def places(self, value: Any) -> int:
        """Digits behind the point of a value that was written as a decimal fraction; 0 for any other."""
        return self.decimals.get(value, self.decimals.get(-value, 0)) if value.is_Rational else 0


@lru_cache(maxsize=512)
def _read(text: str, real: bool | None) -> _Read | None:
    try:
        return _Read(text, real)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (the grammar and sympy raise anything on odd input: then it is not an expression)
        return None


def _percent(tree: Any) -> Any | None:
    """The number before a percent sign, or ``None``."""
    if isinstance(tree, sympy.Mul) and len(tree.args) == 2 and tree.args[1] == _HUNDREDTH:
        return tree.args[0]
    return None


def _is_scalar(tree: Any) -> bool:
    return isinstance(tree, sympy.Expr) and not isinstance(tree, sympy.MatrixBase | sympy.MatrixExpr)


def _rounds(short: Any, places: int, other: Any, needed: int) -> bool:
    """Whether ``short``, with ``places`` digits behind the point, is ``other`` rounded to that many.

    The last digits of one with 15 or more are rounding errors of floats: Python shows the square root of 12 as
    3.4641016151377544.
    """
    if abs(short) * 10**places >= 10**14 and abs(sympy.N(other - short, 30)) <= abs(short) / 2**51:
        return True
    if places < _ROUNDED or abs(short) * 10**places < 10 ** (needed - 1):
        return False
    distance = abs(sympy.N(other - short, 30))
    return bool(distance <= sympy.Rational(1, 2) * sympy.Rational(1, 10**places) * (1 + sympy.Rational(1, 10**12)))


def _numbers_equal(gold: Any, answer: Any) -> bool:
    """Exact where both are rational; else to a hundred digits relative to their size."""
    if gold.is_Rational and answer.is_Rational:
        return bool(gold == answer)
    if not (gold.is_finite is not False and answer.is_finite is not False):
        return bool(gold == answer)
    a, b = sympy.N(gold, _DIGITS), sympy.N(answer, _DIGITS)
    size = max(abs(a), abs(b))
    if size > sympy.Rational(1, 10**_AGREE):
        return bool(abs(a - b) <= size * sympy.Rational(1, 10**_AGREE))
    return bool(sympy.simplify(gold - answer) == 0)  # so small that it may be what is left of a difference


def _scalars_equal(gold: Any, answer: Any, gold_read: _Read, answer_read: _Read) -> bool:
    gold_percent, answer_percent = _percent(gold), _percent(answer)
    if gold_percent is not None or answer_percent is not None:
        # A percent sign on a whole number may be left out: 50% is 50, and 0.5.
        a = gold if gold_percent is None else gold_percent
        b = answer if answer_percent is None else answer_percent
        if a.is_Integer and b.is_Integer:
            return bool(a == b)
    places = (gold_read.places(gold_percent or gold), answer_read.places(answer_percent or answer))
    gold, answer = gold.doit(), answer.doit()
    if gold == answer:
        return True
    if not (gold.is_number and answer.is_number):
        return bool(sympy.simplify(gold - answer) == 0)
    if gold.has(sympy.nan, sympy.zoo) or answer.has(sympy.nan, sympy.zoo):
        return False
    if _numbers_equal(gold, answer):
        return True
    needed = _ROUNDED_DECIMAL if all(places) else _ROUNDED
    shifts = (2 * (gold_percent is not None), 2 * (answer_percent is not None))
    return (bool(places[1]) and _rounds(answer, places[1] + shifts[1], gold, needed)) or (
        bool(places[0]) and _rounds(gold, places[0] + shifts[0], answer, needed)
    )


def _sides_agree(chain: Any) -> bool:
    """Whether the numbers of a chain of equations are one and the same: not so in "x = 42 = 43"."""
    links = chain.args if isinstance(chain, sympy.And) else (chain,)
    sides = [side for link in links for side in (link.lhs, link.rhs)]
    numbers = [side.doit() for side in sides if _is_scalar(side) and side.is_number]
    return all(_numbers_equal(numbers[0], number) for number in numbers[1:])


def _only_element(tree: Any) -> Any:
    """The element of a set that has one; anything else as it is."""
    return tree.args[0] if isinstance(tree, sympy.FiniteSet) and len(tree.args) == 1 else tree


def _as_set(tree: Any) -> Any:
    """The values that an inequality of one variable leaves it, "x >= 3"; anything else as it is."""
    strict = isinstance(tree, sympy.StrictGreaterThan | sympy.StrictLessThan)
    if (strict or isinstance(tree, sympy.GreaterThan | sympy.LessThan)) and len(tree.free_symbols) == 1:
        return tree.as_set()
    return tree


def _states(relation: Any) -> bool:
    """Whether an equation gives the value of something: "x = 5" does, and "3 + 4 = 7", but "x^2 = 5" does not."""
    if is_assignment_relation(relation):
        return _sides_agree(relation)
    left, right = take_first_relation(relation).lhs, take_last_relation(relation).rhs
    return bool(_is_scalar(left) and _is_scalar(right) and left.is_number and right.is_number) and _numbers_equal(
        left.doit(), right.doit()
    )


def _unwrapped(gold: Any, answer: Any) -> tuple[Any, Any]:
    """The sides of equations that count: "x = 5" answers "5", and "5" answers "x = 5"."""
    if is_equation(answer) and not is_equation(gold) and _states(answer):
        return gold, take_last_relation(answer).rhs
    if is_equation(gold) and not is_equation(answer) and _states(gold):
        return take_last_relation(gold).rhs, answer
    return gold, answer


def _matched(gold: list[Any], answer: list[Any], reads: tuple[_Read, _Read]) -> bool:
    """Whether the elements of two sets are the same ones, in any order."""
    left = list(answer)
    for wanted in gold:
        at = next((at for at, given in enumerate(left) if _trees_equal(wanted, given, *reads)), None)
        if at is None:
            return False
        del left[at]
    return not left


def _trees_equal(gold: Any, answer: Any, gold_read: _Read, answer_read: _Read) -> bool:
    gold, answer = _unwrapped(gold, answer)
    if isinstance(gold, sympy.Set) or isinstance(answer, sympy.Set):
        gold, answer = _as_set(gold), _as_set(answer)
    if _is_scalar(gold) != _is_scalar(answer):
        gold, answer = _only_element(gold), _only_element(answer)
    reads = (gold_read, answer_read)
    if _is_scalar(gold) and _is_scalar(answer):
        return _scalars_equal(gold, answer, *reads)
    if isinstance(gold, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet):
        return len(gold.args) == len(answer.args) <= 50 and _matched(list(gold.args), list(answer.args), reads)
    if isinstance(gold, sympy.Interval) and isinstance(answer, sympy.Interval):
        same_ends = (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open)
        pairs = ((gold.start, answer.start), (gold.end, answer.end))
        return bool(same_ends) and all(_trees_equal(a, b, *reads) for a, b in pairs)
    if isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase):
        return gold.shape == answer.shape and all(
            _trees_equal(a, b, *reads) for a, b in zip(gold.flat(), answer.flat(), strict=True)
        )
    gold_list, answer_list = _elements(gold), _elements(answer)
    if gold_list is not None and answer_list is not None:
        same = len(gold_list) == len(answer_list)
        return same and all(_trees_equal(a, b, *reads) for a, b in zip(gold_list, answer_list, strict=True))
    if _is_scalar(gold) != _is_scalar(answer) and (is_equation(gold) or is_equation(answer)):
        return False  # an equation that states no value is no number
    if _is_scalar(gold) and isinstance(answer, sympy.Set | sympy.Tuple):
        return False  # several values are not the one that was asked for
    return bool(verify([gold], [answer], 40, 400, timeout_seconds=None, raise_on_error=False))


def _elements(tree: Any) -> list[Any] | None:
    """What stands in a pair of brackets in its order; "(1, 2)" is read as an open interval, "1, 2" as a set."""
    if isinstance(tree, sympy.Tuple):
        return list(tree.args)
    if isinstance(tree, sympy.Interval) and tree.left_open and tree.right_open:
        return [tree.start, tree.end]
    if isinstance(tree, sympy.FiniteSet) and hasattr(tree, "_unsorted_args"):
        return list(tree._unsorted_args)
    return None


def _exact_side(text: str, real: bool | None) -> str:
    """The value of an answer with an "approximately": 22/7 of "22/7 \\approx 3.14", and x = 3.14 of "x \\approx 3.14".

    Two numbers that differ by more than a hundredth are not an answer.
    """
    left, sign, right = text.partition("\\approx")
    if not sign or "\\approx" in right:
        return text
    value, about = _read(left, real), _read(right, real)
    if value is None or about is None or not (_is_scalar(value.tree) and _is_scalar(about.tree)):
        return text
    if not value.tree.is_number:
        return f"{left}={right}"
    a, b = sympy.N(value.tree, 30), sympy.N(about.tree, 30)
    return left if abs(a - b) <= abs(a) / 100 else ""


def _outcome(reference: str, predicted: str) -> str:
    either = f"{reference} {predicted}"
    real = None if re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])|\\(?:Re|Im|arg)\b", either) else True
    gold = _read(reference, real)
    if gold is None:
        return "r"
    answer = _read(_exact_side(predicted, real), real)
    if answer is None:
        return "p"
    return "=" if _trees_equal(gold.tree, answer.tree, gold, answer) else "!"


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # A hundred thousand digits are no answer, but numbers in between are worked out.
    sys.set_int_max_str_digits(0)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # The first comparison builds the grammars: it must not count against the deadline of somebody's answer.
    for pair in (("\\frac{1}{2}", "0.5 + x - x"), ("\\sqrt{8}", "2\\sqrt{2}")):
        _outcome(*pair)
    replies.write("ready\n")
    limit = float(sys.argv[1])
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, limit + 1)
        reference, predicted = json.loads(line)
        try:
            outcome = _outcome(reference, predicted)
        except Exception:  # noqa: BLE001  (sympy raises anything on odd input: then equality is not known)
            outcome = "!"
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(f"{outcome}\n")


if __name__ == "__main__":
    main()
