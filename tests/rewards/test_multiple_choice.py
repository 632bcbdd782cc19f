"""What multiple-choice answers say, in the forms that models write, and what says nothing."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import parse
from easyvideor1.rewards.tasks.multiple_choice import CONTRADICTS, NO_OPTION, SEVERAL, UNKNOWN, UNSURE, read_choice
from easyvideor1.types import Completion

OPTIONS = ("A. a red car", "B. a blue car", "C. a dark red car", "D. no car at all")
VERDICTS = ("A. Yes", "B. No")

RIGHT = [
    *(
        "B",
        "b",
        "(B)",
        "[B]",
        "<B>",
        "\u3010B\u3011",
        "\u300cB\u300d",
        "`B`",
        "**B**",
        "\uff22",
        "B.",
        "B\u3002",
        "B!",
        "'B'",
    ),
    *("\\text{B}", "$B$", "\u201cB\u201d", "B\n", "option B", "Option (B)", "Correct: B", "It's B.", "Answer: B"),
    *(
        "B. a blue car",
        "(B) a blue car",
        "B: a blue car",
        "B) a blue car",
        "B a blue car",
        "B \u2013 a blue car",
        "B\na blue car",
    ),
    *("B. a bleu car", "B. because it moves down", "B, because it is blue", "B\n\nBecause it is blue", "B.a blue car"),
    *("B is correct", "B is the correct answer.", "Option B is correct", "The correct option is (B) a blue car."),
    *("I would choose option B because it moves down", "I'd go with B", "So the answer is B"),
    *(
        "\u7b54\u6848\u662fB",
        "\u9009B",
        "\u9078B",
        "\u6b63\u786e\u7b54\u6848\uff1aB",
        "\u7b54\u6848\u4e3a B",
        "\u61c9\u9078 B",
    ),
    *(
        "\u6240\u4ee5\u9009B",
        "\uc815\ub2f5: B",
        "\u7b54\u3048\u306fB",
        "B\u6b63\u786e",
        "B\uff0c\u56e0\u4e3a\u5b83\u662f\u84dd\u8272\u7684",
    ),
    *("a blue car", "blue car", "It is a blue car.", "The answer is a blue car", '"A blue car."'),
    "We compare:\n(A) a red car\n(B) a blue car\n(C) a dark red car\n(D) no car at all\n\n**(B)**",
    "D. no car at all\n\nThe answer is B. a blue car",
]


@pytest.mark.parametrize("text", RIGHT)
def test_forms_of_one_letter(text: str) -> None:
    reading = read_choice(text, OPTIONS)
    assert reading is not None
    assert reading.value == ("B",)


NOTHING = {
    SEVERAL: [
        *("A or B", "B (or C)", "B, possibly C", "B unless it is C", "B \u6216 C", "The answer is B (or C)"),
        *("A. a red car\nB. a bluue car", "It may be B or C.", "B. blue or C. dark red"),
        "B. a blue car is A. a red car is C. a dark red car",
    ],
    UNSURE: ["maybe B", "not B", "It is not B.", "either B or C", "B?", "\u53ef\u80fd\u662f B"],
    CONTRADICTS: ["A. a blue car", "(A) a blue car", "A. a bleu car", "A: blue car, as it seems", "A.blue car"],
    UNKNOWN: ["E", "E. a car", "The answer is E"],
    NO_OPTION: [
        *("A cat is seen", "I think it is a dog", "the answer is A cat", "A wooden bridge is a kind of bridge"),
        *("The video shows a blue car and a tree", "the red one", "I first look at B for a while", "hm", ""),
        *("I wonder whether it is B that is meant here.", "Is it B? Is it C?", "a car that is blue car-like"),
    ],
}


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in NOTHING.items() for text in texts])
def test_what_names_no_option_says_why(reason: str, text: str) -> None:
    reading = read_choice(text, OPTIONS)
    assert reading is not None
    assert (reading.value, reading.reason) == (None, reason)


COLOURS = ("A. red", "B. green", "C. blue", "D. yellow")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The circle is blue.", ("C",)),
        ("the shape that moves left was Blue", ("C",)),
        ("It turns blue!", ("C",)),
        ("The circle is not blue.", None),
        ("The wrong one is blue.", None),
        ("The one that isn't red is blue.", None),
        ("The red circle is blue.", None),
        ("The circle is red, green, blue or yellow.", None),
        ("The circle is red and blue.", None),
        ("The circle is maybe blue.", None),
        ("The circle is blue?", None),
        ("The circle is red. The square is blue.", None),
        ("A man walks to a blue", None),
    ],
)
def test_a_sentence_states_the_option_that_is_all_it_says_of_its_subject(text: str, value: object) -> None:
    """Real models answer a choice so, where they are not told another form."""
    reading = read_choice(text, COLOURS)
    assert reading is not None
    assert reading.value == value and not (value and reading.canonical)


#: Sentences that end in an option's words, and deny, doubt, quote or judge it.
HOSTILE = [
    "The only colour that it lacks is red.",
    "It cannot be said it is red",
    "It hardly is red.",
    "The answer nobody should pick is red",
    "The opposite of the answer is red.",
    "Nobody says the answer is red",
    "It is not the case that the answer is red",
    "I deny that the answer is red",
    "I don't believe the answer is red.",
    "The non-answer is red",
    "The opposite of the correct answer is red.",
    "They say it is red",
    "The colour we can rule out is red.",
    "The circle is red\uff1f",
    "The circle is red\u2026",
    "The circle is ~~red~~",
    'The circle is "red".',
    "The trap is red.",
    "The alternative is red.",
    "The other colour is red.",
    "This guess is red.",
    "Some say the circle is red",
    "The circle is no longer red",
    "The least likely colour is red.",
    "The answer is anything but red.",
    "The answer I reject is red",
    "A bad answer is red",
    "If the circle is red",
    "The circle is red. Or not.",
    "The circle is red.\nThat is false.",
    "The answer is red.\nThat is wrong.",
    "The following is false.\nThe circle is red.",
    "The next sentence is not true:\nred",
    "False:\nThe circle is red.",
    "Not red:\nThe circle is red.",
    "Wrong:\nred",
]


@pytest.mark.parametrize("form", ["{}", "<answer>{}</answer>", "<think>hm</think>{}"])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_sentence_that_does_not_plainly_state_an_option_is_unread(form: str, text: str) -> None:
    answer = parse("multiple_choice", Completion(form.format(text), "stop"), COLOURS)
    assert answer.value is None
    assert answer.reason


WAYS = ("A. left", "B. right", "C. up", "D. down")
JUDGED = ("A. correct", "B. wrong")


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("The square moves right.", WAYS, ("B",)),
        ("It turns right", WAYS, ("B",)),
        ("The circle is right", WAYS, None),
        ("The man is right.", WAYS, None),
        ("The user is right", WAYS, None),
        ("They are right", WAYS, None),
        ("The circle turns out right", WAYS, None),
        ("The question is wrong", JUDGED, None),
        ("They are wrong", JUDGED, None),
        ("The man is wrong", JUDGED, None),
    ],
)
def test_praise_and_blame_name_no_option(text: str, options: tuple[str, ...], value: object) -> None:
    assert parse("multiple_choice", Completion(text, "stop"), options).value == value


@pytest.mark.parametrize(
    "text",
    [
        "The square is red.",
        "It is red",
        "Its colour is red",
        "The color of the circle is red.",
        "The object on the left is red.",
        "The big circle that moves left is red.",
    ],
)
def test_plain_sentences_of_what_is_seen_are_read(text: str) -> None:
    assert parse("multiple_choice", Completion(text, "stop"), COLOURS).value == ("A",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("B, C", ("B", "C")),
        ("B and C", ("B", "C")),
        ("both B and C", ("B", "C")),
        ("BC", ("B", "C")),
        ("B\nC", ("B", "C")),
        ("The answer is B\nC", ("B", "C")),
        ("A. a red car\nB. a blue car", ("A", "B")),
        ("options B and C", ("B", "C")),
    ],
)
def test_several_letters_are_several_options(text: str, value: tuple[str, ...]) -> None:
    reading = read_choice(text, OPTIONS)
    assert reading is not None
    assert reading.value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", ("A",)),
        ("No.", ("B",)),
        ("Yes, because he runs", ("A",)),
        ("No. There are none", ("B",)),
        ("Yes, no", None),
    ],
)
def test_options_that_are_yes_and_no(text: str, value: object) -> None:
    reading = read_choice(text, VERDICTS)
    assert reading is not None
    assert reading.value == value


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("A. front-left", ("A. front-right", "B. front-left", "C. back-left"), None),
        ("A. yes", ("A. no", "B. yes", "C. unclear"), None),
        (
            "A. Her racket breaks\nB. She fallss down",
            ("A. Her racket breaks", "B. She falls down", "C. She plays"),
            None,
        ),
        (
            "E. Yellow card.",
            ("A. Green card.", "B. Blue card.", "C. Red card.", "D. No card.", "E. Yellow card."),
            ("E",),
        ),
        ("D. door\n\nThe answer is A.chair.", ("A. chair", "B. lamp", "C. tv", "D. door"), ("A",)),
        ("The answer is A, but the answer is not A", ("A. chair", "B. lamp"), None),
        ("If it moves, the answer is A.", ("A. chair", "B. lamp"), None),
        ("The answer is A\n\nB", ("A. chair", "B. lamp"), None),
    ],
)
def test_replies_without_a_tag(text: str, options: tuple[str, ...], value: object) -> None:
    assert parse("multiple_choice", Completion(text, "stop"), options).value == value
