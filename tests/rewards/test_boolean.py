"""Yes or no: the verdict that opens an answer, native forms, and hedges."""

from __future__ import annotations

import pytest

from easyvideor1.rewards.tasks.boolean import read_boolean, read_boolean_reply

YES = [
    *(
        "Yes",
        "yes.",
        "**Yes**",
        "TRUE",
        "1",
        "y",
        "\u300c\u662f\u300d",
        "\u662f\u7684\uff0c\u4ed6\u5728\u8dd1\u3002",
        "\u5bf9",
        "\u6b63\u786e",
        "\u306f\u3044",
        "\uc608",
    ),
    *(
        "Yes. No people are near it.",
        "Yes. No car passes before the bus stops.",
        "Yes, there is a dog.",
        "\u201cYes\u201d",
    ),
    *(
        "So the answer is yes",
        "The answer is: **Yes**",
        "he runs, so yes",
        "It is correct.",
        "\\text{Yes}",
        "yes/no? It is yes.",
    ),
    *("The statement is true because he falls", "True. The man walks"),
]
NO = [
    *(
        "No",
        "false",
        "0",
        "f",
        "\u5426",
        "\u4e0d\u662f",
        "\u4e0d\u5bf9\uff0c\u4ed6\u6ca1\u6709",
        "\u3044\u3044\u3048",
        "\uc544\ub2c8\uc694",
    ),
    *("No, although the sign says yes", "No.\nYes would need two cars.", "No, it is not yes"),
    *("No, it is true that he runs but he does not fall.", "That is not true", "It isn't true", "That is false."),
]
NEITHER = [
    *("yes/no", "yes or no", "Yes, no", "yes and no", "No, possibly Yes", "No (or Yes)", "No \u6216 Yes", "No\nYes"),
    *("No unless it is Yes", "No, Yes, No, Yes", "Yes. Or rather, no.", "No, the shape is black. Yes.", "maybe yes"),
    *(
        "There is no dog.",
        "I think there is no dog",
        "no one",
        "No one is there",
        "yesterday eyes",
        "\u662f\u5426",
        "",
        "?",
    ),
    *("I wonder whether it is Yes that is meant here.", "Is it Yes? Is it No?"),
]


@pytest.mark.parametrize(
    ("text", "value"), [*((t, True) for t in YES), *((t, False) for t in NO), *((t, None) for t in NEITHER)]
)
def test_what_an_answer_says(text: str, value: bool | None) -> None:
    reading = read_boolean(text, ())
    assert reading is not None
    assert reading.value is value
    assert value is not None or reading.reason


def test_a_reply_counts_if_it_opens_with_the_verdict_or_states_it_briefly() -> None:
    for text, value in (("Yes, there is.", True), ("That is not true.", False), ("No people are there at all", None)):
        reading = read_boolean_reply(text, ())
        assert reading is not None
        assert reading.value is value, text
    long = "The man walks along the street and looks at all the shops until the rain begins to fall, so yes"
    reading = read_boolean_reply(long, ())
    assert reading is not None
    assert reading.value is None
