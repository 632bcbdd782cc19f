"""Equality of expressions read as a whole, under a limit that works in any thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import score
from easyvideor1.rewards.concurrency import Pool
from easyvideor1.rewards.tasks import math
from easyvideor1.rewards.tasks.math import MathHelper, Outcome, compare_math, read_math, read_math_reply
from easyvideor1.rewards.tasks.math_expressions import formula


def equal(predicted: str, reference: str) -> float:
    result = score("math", f"<answer>{predicted}</answer>", reference)
    assert result.applicable, result.reason
    return result.accuracy


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("$\\frac{1}{2}$", "\\dfrac{1}{2}", 1.0),
        ("0.5", "\\frac{1}{2}", 1.0),
        ("x^2 + 2x + 1", "(x+1)^2", 1.0),
        ("2\\sqrt{2}", "\\sqrt{8}", 1.0),
        ("\\{2, 1\\}", "\\{1, 2\\}", 1.0),
        ("\\boxed{7}", "7", 1.0),
        ("1,000", "1000.0", 1.0),
        ("B", "B", 1.0),
        ("C", "B", 0.0),
        ("7", "8", 0.0),
        ("x^2 + 1", "(x+1)^2", 0.0),
        ("\\frac{1}{", "1", 0.0),
        ("nonsense )( \\\\ {", "3", 0.0),
    ],
)
def test_equality(predicted: str, reference: str, expected: float) -> None:
    assert equal(predicted, reference) == expected


@pytest.mark.parametrize(
    ("predicted", "reference"),
    [
        (r"7\sqrt(3)", "7"),
        (r"2\sqrt{2", "2"),
        (r"2\sqrt{2", r"2\sqrt{2}"),
        ("12_8", "12"),
        ("12_8", "10"),
        ("1010_2", "1010_3"),
        (r"x \equiv 3 \pmod{7}", r"x \equiv 3 \pmod{5}"),
        (r"x \equiv 3 \pmod{7}", "3"),
        (r"1+\mathrm{e}", r"1-\mathrm{e}"),
        ("< 5", "5"),
        ("x < 5", "5"),
        (r"x \le 5", "5"),
        ("0 to 100", "0"),
        ("3-5", "3"),
        (r"x \in [0,1]", "1"),
        ("3 or 5", "3"),
        ("3 or 5", "5"),
        ("x = 5 or x = 3", "5"),
        ("x = 5, y = 3", "5"),
        (r"5 \pm 2", "5"),
        ("x^2 = 5", "5"),
        ("3 + 5 = 7", "7"),
        ("12:30", "12"),
        ("2 3", "6"),
        ("11 5/6", "115/6"),
        ("$3$ $5$", "35"),
        (r"\boxed{3}, \boxed{5}", "5"),
        ("not 5", "5"),
        ("5?", "5"),
        ("5 or more", "5"),
        (r"5\text{ or more}", "5"),
        ("listen", "silent"),
        ("5t", "5"),
        ("5, or maybe more than that", "5"),
        ("7. Or is it 8", "7"),
    ],
)
def test_a_part_of_an_answer_is_not_the_answer(predicted: str, reference: str) -> None:
    assert equal(predicted, reference) == 0.0


@pytest.mark.parametrize(
    ("predicted", "reference"),
    [
        (r"7\sqrt(3)", r"7\sqrt{3}"),
        ("7 sqrt(3)", r"7\sqrt{3}"),
        ("2√2", r"\sqrt{8}"),
        ("11 5/6", "71/6"),
        ("-11 5/6", "-71/6"),
        (r"1\frac{1}{2}", "3/2"),
        ("1½", "1.5"),
        ("2(3)", "6"),
        (r"\frac{4}{2}\frac{1}{3}", r"\frac{2}{3}"),
        ("**73**", "73"),
        ("`73`", "73"),
        (r"\$5", "5"),
        ("$5", "5"),
        (r"\mathrm{e}", "e"),
        (r"1+\mathrm{e}", "1+e"),
        (r"3+4\mathrm{i}", "3+4i"),
        ("(1+i)^2", "2i"),
        (r"\boxed {42}", "42"),
        (r"\fbox{42}", "42"),
        (r"\text{42}", "42"),
        ("1010_2", "1010_{2}"),
        ("x = 5", "5"),
        ("5", "x = 5"),
        ("3 + 4 = 7", "7"),
        ("P(X=2) = 0.5", "1/2"),
        ("x = 5 or x = 3", r"\{3, 5\}"),
        ("3 and 5", "5, 3"),
        (r"x \in [0,1]", "[0,1]"),
        ("x^2", "x²"),
        ("1e5", "100000"),
        (r"3 \times 10^5", "300000"),
        (r"1\,000", "1000"),
        ("5 cm", "5"),
        ("5 apples", "5"),
        (r"5\text{ cm}^2", "5"),
        ("12.5 km/h", "12.5"),
        (r"30^\circ", "30"),
        (r"\angle ABC = 30°", "30"),
        ("b", "B"),
        ("B", "b"),
        ("B. 42", "B"),
        (r"\text{Paris}", "paris"),
        ("The total is 42.", "42"),
        ("So x = 5", "5"),
        ("7. That is all.", "7"),
        (r"\frac{1}{2}, which is a half", "0.5"),
    ],
)
def test_one_value_in_many_forms(predicted: str, reference: str) -> None:
    assert equal(predicted, reference) == 1.0


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}", 0.0),
        (r"\frac{1}{2^{98}}", r"\frac{2}{2^{99}}", 1.0),
        (str(10**30), str(10**30 + 1), 0.0),
        ("10^{30}", "10^{30} + 1", 0.0),
        ("10^{30}", str(10**30), 1.0),
        (r"\frac{x}{2^{98}}", r"\frac{x}{2^{99}}", 0.0),
        (r"\{10^{-9}\}", r"\{10^{-8}\}", 0.0),
        (r"\sqrt{2} \cdot 10^{-30}", r"\sqrt{2} \cdot 10^{-31}", 0.0),
        (r"\sqrt{6}-\sqrt{2}\sqrt{3}", "0", 1.0),
        ("0.3333", r"\frac{1}{3}", 0.0),
        ("0.333333", r"\frac{1}{3}", 1.0),
        ("0.0000003", r"\frac{1}{3000000}", 0.0),
        ("3.14", r"\pi", 0.0),
        ("3.141593", r"\pi", 1.0),
        ("0.30000000000000004", "0.3", 1.0),
        ("12.5000000001", "12.5", 0.0),
    ],
)
def test_numbers_are_compared_exactly_however_large_or_small(predicted: str, reference: str, expected: float) -> None:
    assert equal(predicted, reference) == expected


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ("50%", "50", 1.0),
        ("50", r"50\%", 1.0),
        ("50%", "0.5", 1.0),
        (r"50\%", r"\frac{1}{2}", 1.0),
        ("50 percent", "1/2", 1.0),
        ("0.5", "50%", 1.0),
        ("9.5%", "0.095", 1.0),
        ("9.5%", "9.5", 0.0),
        ("5%", "50%", 0.0),
    ],
)
def test_a_percent_sign_may_be_left_out_of_a_whole_number(predicted: str, reference: str, expected: float) -> None:
    assert equal(predicted, reference) == expected


def test_what_was_refused_leaves_a_reason() -> None:
    assert compare_math(r"2\sqrt{2", "2", {}).reason == "the answer could not be read as one expression"
    assert compare_math("0 to 100", "0", {}).reason == "the answer could not be read as one expression"
    assert "only the same text" in compare_math("7", r"x \equiv 3 \pmod{7}", {}).reason
    assert "only the same text" in compare_math("7", "a right triangle", {}).reason
    assert compare_math("x" * 3000, "7", {}).reason == "a text of this length is compared as text only"
    assert compare_math("8", "7", {}).reason == ""


def test_a_reference_that_is_no_expression_is_right_in_the_same_words() -> None:
    for reference in (r"x \equiv 3 \pmod{7}", "a right triangle", "0 to 100", "x > 3 or so"):
        assert equal(reference, reference) == 1.0
        assert equal("7", reference) == 0.0
    assert equal("A Right Triangle.", "a right triangle") == 1.0


INTEGERS = st.integers(-(10**40), 10**40)
FORMS = (
    "{}",
    "${}$",
    "\\boxed{{{}}}",
    "**{}**",
    "\\text{{{}}}",
    "x = {}",
    "{} \\text{{ cm}}",
    "\\({}\\)",
    "The total is {}.",
    "{}.0",
)


@settings(max_examples=150, deadline=None)
@given(number=INTEGERS, form=st.sampled_from(FORMS), step=st.integers(1, 5))
def test_a_whole_number_in_any_form_is_itself_and_not_the_next(number: int, form: str, step: int) -> None:
    assert equal(form.format(number), str(number)) == 1.0
    assert equal(form.format(number), str(number + step)) == 0.0


@settings(max_examples=150, deadline=None)
@given(value=st.fractions(max_denominator=10**12), other=st.fractions(max_denominator=10**12))
def test_fractions_are_equal_only_when_they_are(value: Fraction, other: Fraction) -> None:
    written = f"\\frac{{{3 * value.numerator}}}{{{3 * value.denominator}}}"
    assert equal(written, f"{value.numerator}/{value.denominator}") == 1.0
    assert equal(written, f"\\frac{{{other.numerator}}}{{{other.denominator}}}") == float(value == other)


@settings(max_examples=150, deadline=None)
@given(
    number=st.integers(1, 10**6),
    before=st.sampled_from(["", "2+", "x", "\\frac{"]),
    after=st.sampled_from(["\\sqrt{", "_", "^", "+", "\\frac{1}{", "\\text{", "(", "\\pmod", "\\foo", "\\sqrt{2", "="]),
)
def test_a_number_in_an_unfinished_formula_is_not_that_number(number: int, before: str, after: str) -> None:
    assert equal(f"{before}{number}{after}", str(number)) == 0.0


PIECES = st.sampled_from([*"0123456789.,+-*/^_=(){}[]$%<> xyie\\½²π", "\\frac", "\\sqrt", " or ", "\\text{", "is "])


@settings(max_examples=300, deadline=None)
@given(text=st.lists(PIECES, max_size=60).map("".join))
def test_readers_are_total(text: str) -> None:
    written = formula(text)
    assert written is None or written.strip()
    for read in (read_math, read_math_reply):
        reading = read(text, ())
        assert reading is not None
        assert (reading.value is None) == bool(reading.reason)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", "7"),
        ("B", "B"),
        ("x = 5", "x = 5"),
        (r"$\frac{1}{2}$.", r"\frac{1}{2}"),
        ("The total is 42.", "42"),
        ("So 7 is the result", "7"),
        ("Thus, x = 5.", "x = 5"),
        (r"The area is $5\pi$.", r"5\pi"),
        ("Therefore the sum of 3 and 4 is 7.", "7"),
        ("so 7 and then", None),
        ("I think it is 7, but not sure.", None),
        ("Let me count. 7", None),
        ("1. Measure the way from the nearest corner", None),
        ("x is 3 or y is 5", None),
        ("hm", None),
        ("Paris", None),
        ("", None),
    ],
)
def test_an_untagged_reply_counts_only_as_a_whole(text: str, value: str | None) -> None:
    reading = read_math_reply(text, ())
    assert reading is not None
    assert reading.value == value
    assert bool(reading.reason) == (value is None)


def test_prose_in_a_tag_states_no_expression() -> None:
    prose = "First I look at the 7 squares and then I go on to count " + "all the other things in the picture " * 4
    reading = read_math(prose, ())
    assert reading is not None and reading.value is None
    assert reading.reason == "the text is prose and states no expression"


@pytest.mark.parametrize(
    "piece", ["\\boxed{1}", "\\boxed{", "\\boxed {\\boxed{2}}, ", "{", " ", "$", "\\frac{", "½", "1 111", "is "]
)
def test_long_texts_cost_no_time(piece: str) -> None:
    start = time.process_time()
    for size in (1900, 100_000):
        text = (piece * size)[:size]
        assert equal(text, "7") == 0.0
        reading = read_math_reply(text, ())
        assert reading is not None and reading.value != "7"
    assert time.process_time() - start < 3


def test_plain_cases_need_no_helper() -> None:
    math._HELPERS.close()
    for n in range(100):
        assert score("math", f"<answer>{n}</answer>", str(n)).accuracy == 1.0
    with math._HELPERS.lend() as helper:
        assert helper._process is None


def test_a_comparison_that_takes_too_long_is_given_up_in_any_thread() -> None:
    helper = MathHelper(time_limit=0.7)
    results: list[Outcome | None] = []

    def compare() -> None:
        results.append(helper.compare("\\prod_{n=1}^{99999} (n+\\sqrt{n})", "3"))
        results.append(helper.compare("\\frac{2}{4}", "\\frac{1}{2}"))

    thread = threading.Thread(target=compare)
    start = time.monotonic()
    thread.start()
    thread.join(30)
    helper.close()
    assert results == [None, "equal"]
    assert time.monotonic() - start < 30


def test_an_answer_without_end_is_wrong_and_a_reference_without_end_judges_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helpers = Pool(lambda: MathHelper(time_limit=1.5))
    monkeypatch.setattr(math, "_HELPERS", helpers)
    endless = "\\prod_{n=1}^{99999} (n+\\sqrt{n})"
    wrong = score("math", f"<answer>{endless}</answer>", "3x + 1")
    assert wrong.applicable
    assert (wrong.accuracy, wrong.parts) == (0.0, {"beyond_limits": 1.0})
    assert "limits" in wrong.reason
    unusable = score("math", "<answer>3x + 1</answer>", endless)
    assert not unusable.applicable
    assert "reference" in unusable.reason
    helpers.close()


def test_a_helper_that_somebody_ended_is_replaced() -> None:
    helper = MathHelper()
    assert helper.compare("\\frac{2}{4}", "\\frac{1}{2}") == "equal"
    process = helper._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert helper.compare("\\frac{2}{4}", "\\frac{1}{3}") == "different"
    helper.close()


def test_a_forked_child_uses_a_helper_of_its_own() -> None:
    assert score("math", "<answer>\\frac{3}{6}</answer>", "0.5").accuracy == 1.0
    child = os.fork()
    if child == 0:
        right = score("math", "<answer>\\frac{4}{8}</answer>", "0.5").accuracy == 1.0
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert score("math", "<answer>\\frac{5}{10}</answer>", "0.5").accuracy == 1.0
