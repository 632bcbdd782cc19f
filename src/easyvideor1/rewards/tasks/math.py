"""Mathematical equality: cheap comparisons first, then sympy and math-verify in a helper process that can be killed.

math-verify's own time limit is an alarm signal, which works in the main thread only and not inside C code. A process
with a deadline works from any thread and against anything. The helper reads one expression as a whole: nothing is equal
because a part of it could be read.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from easyvideor1.rewards.concurrency import Pool
from easyvideor1.rewards.readers.number_words import number_in_words
from easyvideor1.rewards.tasks.math_expressions import STOP, formula, unboxed, unwrapped_math, wording
from easyvideor1.rewards.types import Reading, RewardError, Rule, Verdict, cannot_judge, unread

#: Seconds that one comparison may take.
TIME_LIMIT = 5.0
#: Seconds that the helper may take to start: it imports sympy.
_START_LIMIT = 120.0
#: Expressions longer than this are compared as text only.
_LONGEST = 2000
_WORKER = Path(__file__).with_name("math_worker.py")
_DECIMAL = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
#: Characters without a meaning. A blank between two letters or digits has one: "11 5/6" is not "115/6".
_NOISE = re.compile(
    r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[,;!:](?!\s*+\d)|(?<![0-9A-Za-z])\s++|\s++(?![0-9A-Za-z])"
)
#: A letter with the option it stands for: "B. 42", "(B) 42".
_LETTER = re.compile(r"\(?([A-Z])\s?(?:[.):]\s.*+|\))", re.DOTALL)
#: "The total is 42", "so we get x = 5", "it equals 7": what comes before the value, and the value.
_STATEMENT = re.compile(
    r"((?:[^\W\d_]++[,:]?+\s++|\$[^$\n]{1,40}\$\s++|\d{1,6}+\s++){0,12}?)"
    r"(?:is|are|equals|was|be|get|gives?|have|(?:is\s++)?equal\s++to|(?:is|are)\s++(?:approximately|about|exactly)"
    r"|comes\s++to|[^\W\d_]{2,20}:)\s++(?![a-z]{2,20}\s)(.++)",
    re.IGNORECASE | re.DOTALL,
)
_FIRST = re.compile(
    r"(?:so|thus|hence|therefore|then|and)?+,?\s*+(\S.{0,200}?)\s++is\s++(?:the|my|our)\s++(?:final\s++)?(?:answer|result|value|total|solution|sum)",
    re.IGNORECASE | re.DOTALL,
)
_LEADS = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|and|finally|now|we\s++get|we\s++have|=|\\approx|\\therefore|\u2234|\u2248)[,:]?+\s++)++",
    re.IGNORECASE,
)
#: One piece without blanks and wrappers, which needs no look inside.
_TOKEN = re.compile(r"[\w+\-\\({\[](?:[\w+\-=/^{}(),.]|\\(?!boxed|fbox|\)|\]))*+(?<![.])")
#: A text of more words than this is prose.
_WORDS = 25

#: What a comparison found; ``None`` stands for one beyond the limits.
Outcome = Literal["equal", "different", "answer unread", "reference unread"]
_OUTCOMES: Mapping[bytes, Outcome] = {
    b"=": "equal", b"!": "different", b"p": "answer unread", b"r": "reference unread"
}  # fmt: skip
_NO_EXPRESSION = "the answer could not be read as one expression"
_NO_REFERENCE = "the reference is no expression: only the same text is right"


class MathHelper:
    """One helper process, started when first needed, killed at a deadline and started again.

    Thread-safe.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self.time_limit = time_limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, predicted: str, reference: str) -> Outcome | None:
        """Whether two expressions are equal; ``None`` if the comparison went beyond the limits.

        A helper that ends before the deadline may have been killed from outside: a second one is started.

        Args:
            predicted: an expression as ``math_expressions.formula`` gives it.
            reference: another.

        Raises:
            RewardError: the helper cannot be started.
        """
        request = json.dumps([reference, predicted]).encode() + b"\n"
        with self._lock:
            for _ in range(2):
                process = self._running()
                until = time.monotonic() + self.time_limit
                reply = _line(process, self.time_limit) if _ask(process, request) else None
                if reply is not None:
                    return _OUTCOMES.get(reply, "different")
                self._stop()
                if time.monotonic() >= until:
                    break
            return None

    def close(self) -> None:
        """End the helper; the next comparison starts another."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            # -P keeps this directory, whose math.py would hide the standard one, off the helper's path.
            command = [sys.executable, "-P", str(_WORKER), str(self.time_limit)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            if _line(self._process, _START_LIMIT) != b"ready":
                self._stop()
                raise RewardError(
                    "the helper process for math rewards did not start: its error is printed above. "
                    'Check the installation with `python -c "import math_verify"`.'
                )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ask(process: subprocess.Popen[bytes], request: bytes) -> bool:
    """Send a line; false when the helper has ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(request)
    except BrokenPipeError:
        return False
    return True


def _line(process: subprocess.Popen[bytes], limit: float) -> bytes | None:
    """The next line of the helper, or ``None`` when it ended or the limit passed."""
    assert process.stdout is not None
    until, line = time.monotonic() + limit, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not piece:
            return None
        line += piece
    return line.strip()


_HELPERS: Pool[MathHelper] = Pool(MathHelper)
atexit.register(_HELPERS.close)


def _plain(text: str) -> str:
    """An expression without marks that have no meaning: dollars, boxes, spacing, sizes of brackets, full stop."""
    text = text.strip()
    if "\\boxed" in text or "\\fbox" in text:
        text = unboxed(text)
    text = text.strip().removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]")
    if "$" in text:
        text = text.replace("\\$", " ").replace("$", " ")
    text = _NOISE.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return text.rstrip(".").replace("\u2212", "-")


def _decimal(text: str) -> str | None:
    return text.replace(",", "") if len(text) <= _LONGEST and _DECIMAL.fullmatch(text) else None


def _decimals_equal(p: str, r: str) -> bool:
    """Exactly; but a decimal fraction of 9 digits or more may be the rounding of a longer one.

    The last of 16 or 17 digits is a rounding error of floats: 0.30000000000000004 is 0.3.
    """
    if Decimal(p) == Decimal(r):
        return True
    if max(len(p), len(r)) < 10 or "." not in p + r:
        return False
    fractions = [text.partition(".")[2].rstrip("0") for text in (p, r)]
    digits = [
        len((text.partition(".")[0] + behind).lstrip("+-0")) for text, behind in zip((p, r), fractions, strict=True)
    ]
    a, b = Fraction(p), Fraction(r)
    distance, size = abs(a - b), max(abs(a), abs(b))
    if any(fraction and count >= 16 for fraction, count in zip(fractions, digits, strict=True)):
        return distance <= size / 2**51
    places = min(map(len, fractions))
    return min(digits) >= 9 and places > 0 and distance <= Fraction(1, 2 * 10**places)


def _goes_on(text: str) -> bool:
    """Whether a second sentence follows."""
    return re.search(r"[.!?;]\s++\S|\n\s*+\S", text) is not None


def _stated(text: str) -> str | None:
    """The expression that a sentence states: 42 of "The total is 42", x = 5 of "So we get x = 5"."""
    if len(text) > 400 or _goes_on(text):
        return None
    text = unwrapped_math(_LEADS.sub("", text.strip(), count=1) if _LEADS.match(text.strip()) else text)
    for match, group in ((_FIRST.fullmatch(text), 1), (_STATEMENT.fullmatch(text), 2)):
        if match is None:
            continue
        before = match[1] if group == 2 else ""
        if STOP & _REFUSING & set(re.findall(r"[a-z]+", before.lower())):
            return None
        value = unwrapped_math(match[group].strip())
        if formula(value) is not None and _VALUE.search(value):
            return value
    return text if formula(text) is not None and _VALUE.search(text) else None


#: What an expression holds and a mere word does not.
_VALUE = re.compile(r"\d|\\[a-zA-Z]|[=^_]|\A[a-zA-Z]\Z")
#: Marks around an answer that is still understood, though the prompt asks for it without them.
_EMPHASIS = ("*", "_", "`", '"', "\u201c")
#: An expression before words that do not change it: "7. That is all", "7, which is odd".
_FIRST_PIECE = re.compile(r"(.{1,200}?)(?:[.;]\s++(?=[A-Z])|,\s++(?=[a-z]{2,20}\s))", re.DOTALL)
#: Words before a value that make it a guess, a bound or a condition.
_REFUSING = frozenset({"or", "not", "than", "least", "most", "if", "when", "maybe", "perhaps", "either"})


def read_math(text: str, options: tuple[str, ...]) -> Reading | None:
    """An expression, an option letter or a short text; in a sentence ("The total is 42.") what it states."""
    bare = text.strip()
    if len(bare) > _LONGEST or _TOKEN.fullmatch(bare):
        return Reading(bare)
    if not _plain(text):
        return unread("the answer is empty")
    whole = unwrapped_math(text)
    canonical = not bare.startswith(_EMPHASIS)
    if formula(whole) is not None:
        return Reading(whole or bare, canonical)
    stated = _stated(whole)
    if stated is None and (first := _FIRST_PIECE.match(whole)) and not _VALUE.search(whole[first.end() :]):
        words = re.findall(r"[a-z]+", whole[first.end() :].lower())
        stated = None if _REFUSING & set(words) else _stated(first[1])
    if stated is not None:
        return Reading(stated, canonical=False)
    if len(whole.split()) > _WORDS:
        return unread("the text is prose and states no expression")
    return Reading(whole or bare, canonical)


def read_math_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    """The same for an untagged reply: one expression, an option letter, or one sentence that states an expression."""
    whole = unwrapped_math(text)
    if len(whole) <= _LONGEST:
        if re.fullmatch(r"\(?[A-Za-z]\)?", whole):
            return Reading(whole, canonical=False)
        if _VALUE.search(whole) and not _goes_on(whole) and formula(whole) is not None:
            return Reading(whole, canonical=False)
        stated = _stated(whole)
        if stated is not None:
            return Reading(stated, canonical=False)
    return unread("the reply as a whole is no expression and states none")


@lru_cache(maxsize=10_000)
def _same(predicted: str, reference: str) -> Outcome | None:
    with _HELPERS.lend() as helper:
        return helper.compare(predicted, reference)


def _readable(reference: str) -> bool:
    """Whether a reference can be compared with something simple within the limits."""
    return _same("0", reference) is not None


def compare_math(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """1 if both are the same text or equal expressions; else 0.

    Both are read as a whole: a text that is more than one expression is right only if the reference is the same text.
    Numbers are compared exactly, however small or large; a decimal fraction with six digits or more also equals the
    value that it rounds (0.333333 and 1/3). Units are not compared. p% is p/100, and a whole number of percent also the
    number without the sign. An answer that takes the comparison beyond its limits scores 0, with the reason; if the
    reference alone goes beyond them, the answer is not applicable.
    """
    if predicted == reference:
        return Verdict(1.0)
    p, r = _plain(predicted), _plain(reference)
    if p == r:
        return Verdict(1.0)
    p_value, r_value = _decimal(p), _decimal(r)
    if p_value is not None and r_value is not None:
        return Verdict(float(_decimals_equal(p_value, r_value)))
    if len(p) == 1 and len(r) == 1 and p.isalpha() and r.isalpha() and p.isupper():
        return Verdict(float(p == r.upper()))
    if len(predicted) > _LONGEST or len(reference) > _LONGEST:
        return Verdict(0.0, reason="a text of this length is compared as text only")
    if wording(predicted) == wording(reference) != "":
        return Verdict(1.0)
    if len(r) == 1 and r.isalpha() and (letter := _LETTER.fullmatch(unwrapped_math(predicted))):
        return Verdict(float(letter[1] == r.upper()))
    p_formula, r_formula = formula(_in_digits(predicted)), formula(_in_digits(reference))
    if p_formula is None or r_formula is None:
        return Verdict(0.0, reason=_NO_EXPRESSION if p_formula is None else _NO_REFERENCE)
    if p_formula == r_formula:
        return Verdict(1.0)
    return _judged(p_formula, r_formula)


def _in_digits(text: str) -> str:
    """A number in words as digits, "forty-two" as 42; any other text as it is."""
    if not _IN_WORDS.fullmatch(text):
        return text
    value = number_in_words(re.findall(r"[a-z]+", text.lower()))
    return text if value is None else str(Fraction(value).limit_denominator(1000))


_IN_WORDS = re.compile(r"\s*+[a-zA-Z]{3,10}(?:[ -][a-zA-Z]{1,10}){0,8}\s*+\.?+\s*+")


def _judged(predicted: str, reference: str) -> Verdict:
    """The verdict of the helper process on two normalised expressions."""
    outcome = _same(predicted, reference)
    if outcome is None:
        limits = f"({TIME_LIMIT:g} s, 4 GiB)"
        if not _readable(reference):
            return cannot_judge(f"the reference takes every comparison beyond its limits {limits}")
        return Verdict(0.0, {"beyond_limits": 1.0}, reason=f"the answer took the comparison beyond its limits {limits}")
    reasons = {"answer unread": _NO_EXPRESSION, "reference unread": _NO_REFERENCE}
    return Verdict(float(outcome == "equal"), reason=reasons.get(outcome, ""))


def _reference(text: str, options: tuple[str, ...]) -> str:
    if not _plain(text):
        raise ValueError("it is empty")
    return text.strip()


MATH = Rule(
    read_math,
    _reference,
    compare_math,
    "an expression or a number, LaTeX or plain",
    read_reply=read_math_reply,
    lists=True,
)
