"""The number that a text states, in every form; what mentions one, bounds it or leaves it open states none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import score
from easyvideor1.rewards.readers.number_words import value_in_characters
from easyvideor1.rewards.tasks.numbers import Number, read_number, read_number_reply


def stated(text: str) -> float | None:
    number: Number | None = read_number(text, ()).value
    return None if number is None else number.value


def replied(text: str) -> float | None:
    number: Number | None = read_number_reply(text, ()).value
    return None if number is None else number.value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "none",
            "None.",
            "no cups",
            "there are no cups",
            "There are no cups on the table.",
            "zero",
            "nobody",
            "no one",
        ),
        *("none of them", "none of the cups", "I see no cups", "There aren't any cups.", "0", "没有", "没有杯子", "零"),
    ],
)
def test_nothing_counted_is_zero(text: str) -> None:
    assert stated(text) == 0
    assert replied(text) == 0


@pytest.mark.parametrize(
    "text", ["no", "no idea", "no answer", "there is no way to tell", "none of the above", "not sure"]
)
def test_no_answer_is_not_zero(text: str) -> None:
    assert stated(text) is None
    assert replied(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("三", 3),
        ("十二", 12),
        ("二十", 20),
        ("两百", 200),
        ("两百零五", 205),
        ("三万五千", 35000),
        ("一亿", 1e8),
        ("二〇二四", 2024),
        ("三点五米", 3.5),
        ("负三", -3),
        ("三个", 3),
        ("一共有三个杯子。", 3),
        ("答案是三", 3),
        ("桌子上有3个杯子", 3),
        ("大约九米", 9),
        ("百分之五十", 50),
        ("3個", 3),
        ("3개", 3),
        ("세 개", 3),
        ("三つ", 3),
        ("三四个", None),
        ("三个或四个", None),
        ("三到四个", None),
        ("至少三个", None),
        ("三个以上", None),
        ("第三个", None),
        ("不是三个", None),
        ("三个吗", None),
        ("先看三个杯子\uff0c再看两个盘子", None),
        ("十十", None),
        ("杯子", None),
    ],
)
def test_chinese_japanese_and_korean(text: str, value: float | None) -> None:
    assert stated(text) == value
    assert value is None or not read_number(text, ()).canonical


@pytest.mark.parametrize(
    "text",
    [
        *("< 5", "<= 5", ">5", "≥ 5", "x \\leq 5", "\\lt 5", "≠ 5", "!= 5", "±5", "at least 5", "at most 5", "up to 5"),
        *("over 5", "under 5", "above 5", "more than 5", "more than about 5", "no more than 5", "fewer than 5 cups"),
        *("a maximum of 5", "5+", "5 or more", "5 cups or more", "5 or fewer", "5 at most", "5 and up", "within 5 m"),
        *("0 to 100", "3-5", "3\u20135", "3 - 5", "3~5", "between 3 and 5", "from 3 to 5", "5 - 5"),
    ],
)
def test_a_bound_or_a_range_is_no_number(text: str) -> None:
    assert stated(text) is None
    assert replied(text) is None
    assert read_number(text, ()).reason


@pytest.mark.parametrize(
    "text",
    [
        "3 or 4",
        "3, maybe 4",
        "3/4?",
        "3?",
        "three or four",
        "3 or",
        "three, or",
        "roughly 4.5 metres, or",
        "3, 4",
        "12:30",
        "not 3",
        "it is not three, it is unclear",
        "a = 3, b = 4",
        "5 + 5",
        "2 * 3",
        "2^3",
        "3x4",
        "3 of 4",
    ],
)
def test_what_leaves_its_number_open_states_none(text: str) -> None:
    assert stated(text) is None
    assert replied(text) is None
    assert read_number(text, ()).reason


PROSE = [
    "First, look at one of the two cups.",
    "This takes some geometry: it asks for the difference between two points and how far they are from each other.",
    "1. Measure the way from the nearest corner of each object to the mirror.",
    "2) Then count the squares",
    "The answer to question 2 is unclear",
    "I looked at the whole video again and at 3 seconds the cup falls from the table to the floor",
    "I count 3 squares, then",
    "3 squares and",
    "We need to look at the two cups on the left and then compare them.",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_that_mentions_a_number_states_none(text: str) -> None:
    assert stated(text) is None
    assert replied(text) is None
    assert read_number_reply(text, ()).reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.", 3),
        ("**3**", 3),
        ("`3`", 3),
        ('"3"', 3),
        ("$3$", 3),
        ("\\(3\\)", 3),
        ("\\text{3}", 3),
        ("\uff13", 3),
        ("3 squares", 3),
        ("three", 3),
        ("Two cups.", 2),
        ("about 2.5 meters", 2.5),
        ("~5", 5),
        ("≈ 5", 5),
        ("5 or so", 5),
        ("12.5 km/h", 12.5),
        ("total: 12", 12),
        ("total: twelve", 12),
        ("There are three cups on the table.", 3),
        ("I count 3 squares", 3),
        ("The distance is 2.5 m.", 2.5),
        ("So the total is 42", 42),
        ("In total, there are five red cups on the table.", 5),
        ("The video shows 3 people.", 3),
        ("Exactly two people", 2),
        ("There is one cup", 1),
        ("3 + 4 = 7", 7),
    ],
)
def test_statements_are_read_in_a_tag_and_in_a_reply(text: str, value: float) -> None:
    assert stated(text) == value
    assert replied(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("Frame 12", 12), ("at 3 seconds", 3), ("There are 3 cups. They are red.", 3), ("a nice 3", 3)],
)
def test_a_reply_is_read_more_strictly_than_a_tag(text: str, value: float) -> None:
    assert stated(text) == value
    assert replied(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3 or 4", "several numbers are named"),
        ("at least 5", "a bound or a range is no number"),
        ("not 5", "the number is denied"),
        ("3?", "a question states no number"),
        ("3, or", "the text leaves open which number it means"),
        ("5 + 5", "a calculation without its result is no number"),
        ("1e999", "the number is too large"),
        ("a dog", "the text states no number"),
        ("9" * 3000, "the text is too long for a number"),
    ],
)
def test_what_is_unread_says_why(text: str, reason: str) -> None:
    assert read_number(text, ()).reason == reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("13 - 12 is 1.", 1),
        ("7 plus 5 is 12.", 12),
        ("7 + 5 + 8 equals 20", 20),
        ("The sum of 7 and 5 is 12.", 12),
        ("The product of 3 and 4 is equal to 12.", 12),
        ("5-8 gives -3", -3),
        ("7 + 5 is not 12", None),
        ("7 + 5 is 12 or 13", None),
        ("7 + 5 is more than 11", None),
        ("7 + 5 is 10 + 2", None),
        ("7 and 5 is 12", None),
        ("7 + 5 is what?", None),
        ("The sum of 7 and 5 is 12. The sum of 7 and 6 is 13.", None),
    ],
)
def test_a_calculation_in_words_states_its_result(text: str, value: float | None) -> None:
    assert stated(text) == replied(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("10-14 is 12", "5-8 is 7", "2024-05-01 is 3", "2024-05-01 is 2018", "10-4-2 is 4", "3/4 is 5", "5-5 is 5"),
        *("5 minus 5 is 5", "5 / 0 is 5", "0/0 is 0", "7 + 5 is 13", "the sum of 7 and 5 is 13"),
        *("the difference of 7 and 5 is 12", "01-01 is 0", "2 + 3 x 4 equals 20"),
        *("5 - 3 is 2 less than expected", "7 + 5 is 12 is false", "10 minus 5 is 5 I doubt it", "7 + 5 is 12 maybe"),
        *("7 + 5 is 12 no", "7 + 5 is 12, wrong", "7 + 5 is 12 (false)", "7 + 5 is 12+", "7 + 5 is 12 percent"),
        *("the sum of 7 and 5 is 12 said nobody", "7 plus 5 gives 12 points too many", "7 + 5 is 12 thousand"),
        *("7 + 5 equals 12. That is wrong.", "7 + 5 is 12? No.", "7 + 5 is 12. So the total is unclear."),
        *("7 + 5 = 12 is false", "7 + 5 = 12. No.", "12 is false", "x = 12 is not true", "12. That is not true."),
    ],
)
def test_a_calculation_that_is_wrong_or_taken_back_states_nothing(text: str) -> None:
    assert stated(text) is None
    assert replied(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000 + 1 is 1,001", 1001),
        ("2 + 3 x 4 equals 14", 14),
        ("2 * 3 * 4 is 24", 24),
        ("10 divided by 4 is 2.5", 2.5),
        ("$7 + $5 is $12", 12),
        ("-3 - -5 is 2", 2),
        ("7 + 5 gives 12 apples.", 12),
        ("The difference between 8 and 9 is 1.", 1),
        ("There are 3 false alarms", 3),
    ],
)
def test_a_calculation_that_gives_its_result_states_it(text: str, value: float) -> None:
    assert stated(text) == replied(text) == value


WORDS_OF_TEN = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS_OF_ONE = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()  # noqa: SIM905
CHARACTERS = "零一二三四五六七八九"


def in_words(number: int) -> str:
    """English for 0 to 999, written independently of the reader."""
    if number >= 100:
        rest = number % 100
        return f"{WORDS_OF_ONE[number // 100]} hundred" + (f" and {in_words(rest)}" if rest else "")
    if number < 16:
        return WORDS_OF_ONE[number]
    if number < 20:
        return ["sixteen", "seventeen", "eighteen", "nineteen"][number - 16]
    return WORDS_OF_TEN[number // 10] + (f"-{WORDS_OF_ONE[number % 10]}" if number % 10 else "")


def in_characters(number: int) -> str:
    """Chinese for 0 to 9999, written independently of the reader."""
    if number < 10:
        return CHARACTERS[number]
    said, gap = "", False
    for size, step in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // size % 10
        if digit:
            said += ("零" if gap and said else "") + CHARACTERS[digit] + step
            gap = False
        else:
            gap = True
    return said.removeprefix("一") if 10 <= number < 20 else said


FORMS = ("{}", "{}.", "**{}**", "`{}`", '"{}"', "${}$", "\\text{{{}}}", "{} cups", "There are {} cups.", "total: {}")


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 10**12), form=st.sampled_from(FORMS))
def test_an_integer_in_any_form_is_itself(number: int, form: str) -> None:
    written = form.format(number)
    assert stated(written) == number
    assert replied(written) == number
    assert stated(form.format(f"{number:,}")) == number
    assert stated(form.format("".join(chr(ord(digit) + 0xFEE0) for digit in str(number)))) == number


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 999), form=st.sampled_from(FORMS))
def test_an_integer_in_english_words_is_itself(number: int, form: str) -> None:
    assert stated(form.format(in_words(number))) == number
    assert replied(form.format(in_words(number))) == number


@settings(max_examples=300, deadline=None)
@given(number=st.integers(0, 9999), form=st.sampled_from(["{}", "{}个", "一共有{}个杯子。", "答案是{}", "**{}**"]))
def test_an_integer_in_chinese_is_itself(number: int, form: str) -> None:
    assert value_in_characters(in_characters(number)) == number
    assert stated(form.format(in_characters(number))) == number


@settings(max_examples=200, deadline=None)
@given(
    one=st.integers(0, 1000),
    other=st.integers(0, 1000),
    join=st.sampled_from([" or ", ", maybe ", " to ", "-", "/", ", ", " and ", "; ", " vs "]),
)
def test_two_numbers_are_never_either_of_them(one: int, other: int, join: str) -> None:
    read = stated(f"{one}{join}{other}")
    if one != other and not (join == "/" and other):
        assert read is None
    if join == "/" and other:
        assert read == pytest.approx(one / other)


PIECES = st.sampled_from(
    [
        *"0123456789.,+-*/^_=(){}[]$%<>~? \n",
        "three",
        " two ",
        "one ",
        "there are ",
        "no ",
        "or ",
        "三",
        "十",
        "个",
        "没有",
        "\\frac{",
        "\\le ",
        "cups",
        " is ",
        "not ",
        "²",
        "½",
        "million",
        "at least ",
        "1. ",
    ]
)


@settings(max_examples=500, deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=20).map("".join)))
def test_readers_are_total_and_say_why(text: str) -> None:
    for read in (read_number, read_number_reply):
        reading = read(text, ())
        assert (reading.value is None) == bool(reading.reason)
    assert replied(text) is None or replied(text) == stated(text)


@pytest.mark.parametrize(
    "piece", ["no cups ", "three ", "there are ", "一", "没有", "5 ", "1. ", "or more ", "<", "= ", "a ", "- "]
)
def test_a_text_of_the_greatest_length_is_read_at_once(piece: str) -> None:
    start = time.process_time()
    read_number((piece * 2000)[:2000], ())
    read_number_reply((piece * 2000)[:2000], ())
    assert time.process_time() - start < 1


@pytest.mark.parametrize("task", ["numerical", "regression"])
def test_both_types_read_the_same(task: str) -> None:
    assert score(task, "<answer>none</answer>", "0").accuracy == 1.0
    assert score(task, "<answer>三个</answer>", "3").accuracy == 1.0
    assert score(task, "<answer>There are three cups.</answer>", "3").accuracy == 1.0
    for prose in PROSE:
        for reference in ("1", "2", "3"):
            assert score(task, f"<answer>{prose}</answer>", reference).accuracy == 0.0
