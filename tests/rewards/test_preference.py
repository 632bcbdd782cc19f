"""Which response is preferred: labels, comparisons, and sentences that choose nothing."""

from __future__ import annotations

import pytest

from easyvideor1.rewards.tasks.preference import read_preference

SAID = {
    "1": [
        "1",
        "Response 1",
        "**Response 1**",
        "the first one",
        "A",
        "I prefer response 1",
        "The answer is 1",
        "\u56de\u7b541\u66f4\u597d",
    ],
    "2": [
        *("2", "#2", "response b", "Response 2 is better than Response 1", "2, because it is more accurate"),
        *(
            "Response 2. It is more detailed.",
            "I prefer response 2 because it has no errors",
            "I will choose response 2.",
        ),
        "The second response is better, since the first one is wrong",
    ],
    "tie": ["tie", "Tie.", "It is a tie", "both", "They are equally good"],
}
NOTHING = [
    *("Response 1 and Response 2", "12", "1 or 2", "2 (or 1)", "2, possibly 1", "The answer is 2, 1", "either 1 or 2"),
    *(
        "I first look at 2 for a while",
        "Response 2 is not better",
        "You can choose 1.",
        "If you choose 2, it is better",
    ),
    *("Response 1: a red car", "The answer is 1, 2 or tie", "The answer is 1, but the answer is not 1", "", "hm"),
]


@pytest.mark.parametrize(("text", "value"), [(text, value) for value, texts in SAID.items() for text in texts])
def test_a_choice(text: str, value: str) -> None:
    reading = read_preference(text, ())
    assert reading is not None
    assert reading.value == value


@pytest.mark.parametrize("text", NOTHING)
def test_no_choice(text: str) -> None:
    reading = read_preference(text, ())
    assert reading is not None
    assert reading.value is None
    assert reading.reason
