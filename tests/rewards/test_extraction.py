"""Where answers are found, how they are read, and that hostile text costs neither errors nor time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import parse
from easyvideor1.rewards.extraction import (
    CUT_OFF,
    EMPTY,
    EMPTY_PLACE,
    NOTHING_SAID,
    UNCLOSED_TAG,
    UNCLOSED_THINKING,
    UNSTATED,
)
from easyvideor1.rewards.tags import ANSWER, grammar_of
from easyvideor1.tasks import TASKS
from easyvideor1.types import Completion, DataError, FinishReason

from .test_score import TEXTS

GRAMMARS = (ANSWER, grammar_of("think-answer"), grammar_of((("think", "boxed"), "answer")))
OPTIONS = ("A. a red car", "B. Blue", "C. dark red", "D. no")


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("<answer>B</answer>", ("B",), "tag"),
        ("<answer>A</answer><answer>B</answer>", ("B",), "tag"),
        ("<answer>B</answer> <answer>", ("B",), "tag"),
        ("<think><answer>A</answer></think><answer>B</answer>", ("B",), "tag"),
        ("<think><answer>A</answer></think> so B", ("B",), "reply"),
        ("<think><answer>A</answer></think>", None, "nothing"),
        ("<think>so <answer>B</answer>", None, "nothing"),
        ("<think>A</think><think>so <answer>B</answer>", None, "nothing"),
        ("The answer is B <think>or", None, "nothing"),
        ("<answer>B</answer><think>or", ("B",), "tag"),
        ("<answer>B", None, "nothing"),
        ("B</answer>", None, "nothing"),
        (r"So it is \boxed{\text{B}}", ("B",), "boxed"),
        ("The answer is A but the answer is B", ("B",), "phrase"),
        ("So the answer is a red car. Therefore, the final answer is: C", ("C",), "phrase"),
        ("**Final Answer:** (D)", ("D",), "phrase"),
        ("The answer is not B", None, "nothing"),
        ("I looked twice.\nB", ("B",), "reply"),
        ("it is a cat", None, "reply"),
        ("A cat is seen", None, "reply"),
        ("I think it is a dog", None, "reply"),
        ("the answer is A cat", None, "phrase"),
        ("<think>A</think>B", ("B",), "reply"),
        ("", None, "nothing"),
        ("<answer>The red one</answer>", None, "tag"),
    ],
)
def test_places(text: str, value: object, found: str) -> None:
    answer = parse("multiple choice", text, OPTIONS)
    assert (answer.value, answer.found) == (value, found)


@pytest.mark.parametrize(
    ("text", "finish", "value"),
    [
        ("<answer>B", "stop", ("B",)),  # an engine drops the closing tag where it is its stop string
        ("<answer>B", "length", None),
        ("<answer>B</answer> and", "length", ("B",)),
        (r"\boxed{B} and", "length", None),
        ("The answer is B", "length", None),
        ("B", "length", None),
        ("B", "stop", ("B",)),
        ("<think>so B", "stop", None),
        ("B", "offline", ("B",)),
    ],
)
def test_a_response_that_was_cut_has_only_what_it_had_closed(text: str, finish: FinishReason, value: object) -> None:
    assert parse("mc", Completion(text, finish), OPTIONS).value == value


def test_a_response_may_begin_inside_the_thinking_that_its_prompt_opened() -> None:
    inside = Completion("It goes down, so <answer>B</answer>", "stop", opens_thinking=True)
    assert (parse("mc", inside, OPTIONS).value, parse("mc", inside, OPTIONS).reason) == (None, UNCLOSED_THINKING)
    closed = Completion("It goes down.</think><answer>B</answer>", "stop", opens_thinking=True)
    assert parse("mc", closed, OPTIONS).value == ("B",)


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("<think>so B", None, UNCLOSED_THINKING),
        ("<think>so B", "length", CUT_OFF),
        ("<answer>B", None, UNCLOSED_TAG),
        ("<think>B</think> \n", None, NOTHING_SAID),
        ("", None, EMPTY),
        ("<answer> </answer>", None, EMPTY_PLACE),
        ("I look at all of it. " * 30, None, UNSTATED),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str, finish: FinishReason | None, reason: str) -> None:
    for task in ("multiple_choice", "numerical", "boolean"):
        assert parse(task, Completion(text, finish)).reason == reason


def test_a_tag_is_the_only_place_to_look() -> None:
    assert parse("mc", "<answer>hm</answer> The answer is B").value is None


def test_letters_go_to_z_and_unicode_ones_are_letters() -> None:
    assert parse("mc", "<answer>Z</answer>").value == ("Z",)
    assert parse("mc", "<answer>\uff22</answer>").value == ("B",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("two hundred", 200),
        ("one hundred and five", 105),
        ("minus twenty-five", -25),
        ("three point five", 3.5),
        ("two and a half", 2.5),
        ("two thirds", 2 / 3),
        ("a dozen", 12),
        ("3 million", 3e6),
        ("nineteen ninety", None),
        ("one two three", None),
        ("the red one", None),
        ("no one", 0),
        ("only one", 1),
        ("1\u00bd", 1.5),
        ("1 3/4", 1.75),
        (r"\frac{3}{4}", 0.75),
        ("\u22125", -5),
        ("\u0663", 3),
        ("$1,234.50", 1234.5),
        ("1.2 \\times 10^{5}", 120000),
        ("10^5", 100000),
        ("2^3", None),
        ("3x4", None),
        ("1,5", None),
        ("1,234, I think", 1234),
        ("12:30", None),
        ("3-5", None),
        ("5 km/h", 5),
        ("5 m^2", 5),
        ("3 + 4 = 7", 7),
        ("5/0", None),
        ("1e999", None),
        ("9" * 5000, None),
    ],
)
def test_numbers(text: str, value: float | None) -> None:
    read = parse("numerical", f"<answer>{text}</answer>").value
    assert (None if read is None else read.value) == (None if value is None else pytest.approx(value))


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(DataError, match="unknown task type"):
        parse("telepathy", "x")


@settings(max_examples=500, deadline=None)
@given(text=TEXTS, options=st.lists(st.text(max_size=8), max_size=5))
def test_parsing_is_total(text: str, options: list[str]) -> None:
    for task in TASKS:
        for grammar in GRAMMARS:
            answer = parse(task, text, options, grammar)
            assert answer.value is None or answer.text
            assert text[answer.start :].startswith(answer.text)
            assert answer.value is not None or answer.reason


HOSTILE = {
    "open tags": "<answer>" * 12_000,
    "close tags": "</answer>" * 12_000,
    "tag pairs": "<answer>A</answer>" * 6_000,
    "think tags": "<think></think>" * 7_000,
    "angle brackets": "<" * 100_000,
    "tag and space": "<answer" + " " * 100_000,
    "boxed": "\\boxed{" * 14_000,
    "braces": "{" * 100_000,
    "brackets": "[" * 100_000,
    "objects": '{"a":' * 20_000,
    "digits": "9" * 100_000,
    "numbers": "1 " * 50_000,
    "fences": "```\n" * 25_000,
    "phrases": "the answer is " * 7_000,
    "letters": "A, " * 33_000,
    "words": "two hundred and " * 6_000,
    "markup": "<!--<![CDATA[&#" * 6_500,
    "elements": "<a b='" * 16_000,
    "svg": "<svg>" * 20_000 + "</svg>",
    "parentheses": "(" * 100_000,
    "spaces": " " * 100_000 + "x",
    "different words": " ".join(f"w{n:x}" for n in range(17_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_does_not_hang(name: str) -> None:
    """What takes time quadratic in its length takes minutes here; what is linear, a fraction of a second."""
    for text in (HOSTILE[name], f"<answer>{HOSTILE[name]}</answer>", f"<answer>{HOSTILE[name]}"):
        for task in TASKS:
            start = time.process_time()
            parse(task, text, OPTIONS)
            assert time.process_time() - start < 20, task


BLANKS = {
    "open option": ("<answer>option", " ", "?</answer>"),
    "option and newlines": ("<answer>option", "\n", "?</answer>"),
    "answer and blanks": ("The answer", " ", "x"),
    "answer is and blanks": ("<answer>answer is", "\t", "?</answer>"),
    "bracket and blanks": ("<answer>(", " ", "?</answer>"),
    "angle and blanks": ("<", " ", "x"),
    "angle, slash and blanks": ("x </", " ", "x"),
    "blanks in front": ("", " ", "x"),
    "newlines in front": ("", "\n", "x"),
    "blanks inside": ("<answer>a", " ", "a</answer>"),
    "blanks before a fence": ("<answer>{", " ", "``</answer>"),
    "fence and blanks": ("```", " ", "x"),
    "fence and newlines": ("```json\n", "\n", "``"),
    "fraction and blanks": ("<answer>\\frac", " ", "x</answer>"),
    "text and blanks": ("<answer>\\text", " ", "x</answer>"),
    "response and blanks": ("<answer>response", " ", "x</answer>"),
    "angles": ("<answer>", "<", "x</answer>"),
    "angles and blanks": ("", "< ", "x"),
    "comments": ("<answer>", "<!-- >", "</answer>"),
    "backticks": ("<answer>", "`", "x</answer>"),
    "backticks and blanks": ("", "``` ", "x"),
    "digits": ("<answer>", "7", "x</answer>"),
    "digits after a point": ('<answer>{"time": [1.', "7", "]}</answer>"),
    "groups of digits": ("<answer>1", ",111", ",x</answer>"),
    "marks": ("<answer>a", "\u0301\u0327", "</answer>"),
    "both and blanks": ("<answer>both", " ", "x</answer>"),
    "is and blanks": ("<answer>B is", " ", "wrong</answer>"),
    "or and blanks": ("<answer>answer is B", " ", "or x</answer>"),
    "more letters": ("<answer>option A", ", B", " x</answer>"),
    "brackets after a letter": ("<answer>option A", "]", "x</answer>"),
    "yes and blanks": ("<answer>yes", " ", "x</answer>"),
    "yes or": ("<answer>", "yes or ", "x</answer>"),
    "groups of three digits": ("<answer>1", " 111", " x</answer>"),
    "labelled lines": ("<answer>", "B. Blue\n", "x</answer>"),
    "stars": ("<answer>answer is ", "*", "x</answer>"),
}


def seconds_to_parse(task: str, text: str) -> float:
    """The fastest of three, so that what else the machine does counts for little."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        parse(task, text, OPTIONS)
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.parametrize("name", BLANKS)
def test_doubling_a_run_no_more_than_doubles_the_time(name: str) -> None:
    before, run, after = BLANKS[name]
    short, long = (before + run * (count // len(run)) + after for count in (16_000, 64_000))
    for task in TASKS:
        # Quadratic time would grow sixteenfold; what takes less than a few milliseconds is measured too coarsely.
        assert seconds_to_parse(task, long) < 8 * max(seconds_to_parse(task, short), 0.002), task


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("That is false.\nFalse", False),
        ("The answer is no.\nThat is false.", False),
        ("The answer is yes.\nThat is false.", None),
        ("The answer is 12.\nThat is false.", None),
    ],
)
def test_a_line_that_takes_an_answer_back_is_not_one_that_repeats_it(text: str, value: object) -> None:
    task = "numerical" if "12" in text else "boolean"
    assert parse(task, Completion(text, "stop")).value == value
