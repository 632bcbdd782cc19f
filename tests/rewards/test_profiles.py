"""The published behaviours as the facts about them state them, and the table of intended differences."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import Scorer, score
from easyvideor1.rewards.profiles import DIFFERENCES, PROFILES, Difference, published_score
from easyvideor1.tasks import TASKS
from easyvideor1.types import ConfigError, Sample

from .references import REFERENCES
from .test_score import TEXTS

VIDEO, UNIFIED = "easyvideor1-video", "easyvideor1-unified"


def tagged(content: str) -> str:
    return f"<answer>{content}</answer>"


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.cause.replace(" ", "-"))
def test_every_difference_is_as_its_example_says(difference: Difference) -> None:
    found = [
        score(
            difference.task,
            difference.response,
            difference.answer,
            options=difference.options,
            profile=profile,
            **difference.row,
        )
        for profile in ("strict", VIDEO, UNIFIED)
    ]
    accuracies = [result.accuracy if result.applicable else None for result in found]
    expected = [difference.strict, difference.video, difference.unified]
    assert [value is None for value in accuracies] == [value is None for value in expected]
    assert [value or 0.0 for value in accuracies] == pytest.approx([value or 0.0 for value in expected])
    if difference.formats is not None:
        assert tuple(result.format for result in found) == difference.formats
    assert len({*expected, *map(str, difference.formats or ())}) > 1  # it does show a difference
    assert difference.cause
    assert difference.rule.endswith(".")


@pytest.mark.parametrize(
    ("profile", "task", "response", "answer", "accuracy", "form"),
    [
        # Observed on the published code.
        (UNIFIED, "mc", tagged("Blue"), "B", 0.0, 0.5),
        (UNIFIED, "mc", tagged("it is a cat"), "A", 1.0, 1.0),
        (VIDEO, "numerical", tagged("50%"), "50", 0.0, 1.0),
        (VIDEO, "numerical", tagged("two hundred"), "102", 1.0, 1.0),
        (VIDEO, "numerical", tagged("3.145"), "3.14", 1.0, 1.0),
        (UNIFIED, "numerical", tagged("5 m"), "5", 0.0, 0.0),
        (VIDEO, "regression", tagged("9"), "10", 0.9, 1.0),
        (VIDEO, "boolean", tagged("No, it is not yes"), "yes", 1.0, 1.0),
        (UNIFIED, "boolean", tagged(""), "", 1.0, 0.5),
        (VIDEO, "temporal", tagged("[5, 15]"), '{"time": [5, 15]}', 0.0, 0.5),
        (VIDEO, "temporal", "from 5 to 15 seconds", '{"time": [5, 15]}', 1.0, 0.0),
        (VIDEO, "ocr", tagged("A / B"), "A / B", 0.0, 1.0),
        (UNIFIED, "ocr", tagged("A / B"), "A / B", 0.0, 1.0),
        (UNIFIED, "code", tagged("def f():\n    return 1"), "def f():\n    return 2", 1.0, 1.0),
        # By their formulas.
        (VIDEO, "mc", "Output: [x] response: " + tagged("B"), tagged("B"), 1.0, 1.0),
        (VIDEO, "mc", tagged("A") + tagged("B"), "B", 1.0, 1.0),
        (UNIFIED, "mc", tagged("A") + tagged("B"), "A", 1.0, 1.0),
        (VIDEO, "mc", tagged(""), "B", 0.0, 0.0),
        (VIDEO, "mc", "So \\boxed{C}", "C", 1.0, 0.0),
        (VIDEO, "numerical", tagged("3/4"), "0.75", 1.0, 1.0),
        (VIDEO, "numerical", tagged("about 1,234"), "1234", 1.0, 1.0),
        (UNIFIED, "numerical", tagged("1,234"), "$1234$", 1.0, 1.0),
        (UNIFIED, "regression", tagged("9"), "10", 0.0, 1.0),
        (UNIFIED, "boolean", tagged("True"), "yes", 1.0, 1.0),
        (UNIFIED, "boolean", tagged("Yes."), "yes", 0.0, 0.5),
        (VIDEO, "temporal", tagged('{"time": [0, 10]}'), '{"time": [5, 15]}', 1 / 3, 1.0),
        (VIDEO, "temporal", tagged('{"time": [0, 1]}'), '{"time": [9, 10]}', 0.0, 1.0),
        (UNIFIED, "temporal", tagged('```json\n{"time": [5, 15]}\n```'), '{"time": [5, 15]}', 1.0, 1.0),
        (UNIFIED, "spatial", tagged('{"boxes": [0, 0, 50, 100]}'), '{"boxes": [0, 0, 100, 100]}', 0.5, 1.0),
        (UNIFIED, "spatial", tagged('{"boxes": [5, 5, 5, 5]}'), '{"boxes": [5, 5, 5, 5]}', 0.0, 1.0),
        (UNIFIED, "tracking", tagged('{"boxes": {"1": [0, 0, 1, 1]}}'), '{"boxes": {"2": [0, 0, 1, 1]}}', 0.0, 1.0),
        (VIDEO, "open-ended", tagged("the dog runs"), "the dog runs away", (6 / 7 + 4 / 5 + 6 / 7) / 3, 1.0),
        (UNIFIED, "open-ended", tagged("Negative"), "negative", 1.0, 1.0),
        (VIDEO, "open-ended", tagged("Negative"), "negative", 2 / 3, 1.0),
        (UNIFIED, "ocr", tagged("exit 42 here"), "EXIT 42", 0.5, 1.0),
        (UNIFIED, "math", tagged("x = \\frac{3}{4}"), "$\\frac{3}{4}$", 1.0, 1.0),
        (VIDEO, "math", tagged("0.75"), "3/4", 1.0, 1.0),
        (UNIFIED, "code", tagged("x = 1"), "y = 2", 0.5, 1.0),
        (UNIFIED, "code", tagged("def f(:"), "def f(): pass", 0.0, 1.0),
        (UNIFIED, "svg", tagged("<svg><g></g></svg>"), "<svg><p></p></svg>", 0.7 * 0.5 + 0.3, 1.0),
        (UNIFIED, "llava", tagged("Response 1"), "1", 1.0, 1.0),
        (VIDEO, "llava", tagged("Response 1"), "1", 0.0, 1.0),
    ],
)
def test_published_behaviour(profile: str, task: str, response: str, answer: str, accuracy: float, form: float) -> None:
    result = score(task, response, answer, profile=profile)
    assert result.accuracy == pytest.approx(accuracy)
    if not result.reason:
        assert result.format == form
        assert result.total == pytest.approx(0.9 * accuracy + 0.1 * form)
    else:
        assert result.total == 0.0  # an exception costs the format as well


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("task", TASKS)
def test_the_reference_against_itself(profile: str, task: str) -> None:
    answer, row = REFERENCES[task]
    result = score(task, tagged(answer), answer, profile=profile, **row)
    # One word has no pair of words, and only the unified package has a shortcut for it.
    expected = 2 / 3 if (profile, task) == (VIDEO, "video_qa") else 1.0
    assert result.accuracy == pytest.approx(expected)
    assert result.applicable


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, other=TEXTS | st.just("B"))
def test_no_text_raises(text: str, other: str) -> None:
    for profile in PROFILES:
        for task in TASKS:
            if task == "math":
                continue  # asks the helper process for every pair
            result = published_score(profile, task, text, other, (0.9, 0.1))
            assert 0.0 <= result.accuracy <= 1.0
            assert result.applicable


def test_a_configuration_chooses_the_profile() -> None:
    sample = Sample("a", "?", "numerical", "50")
    assert Scorer(RewardConfig())(sample, tagged("50%")).accuracy == 1.0
    assert Scorer(RewardConfig(profile="easyvideor1-video"))(sample, tagged("50%")).accuracy == 0.0
    with pytest.raises(ConfigError, match="strict, easyvideor1-video or easyvideor1-unified"):
        score("mc", "B", "B", profile="published")


@pytest.mark.parametrize("profile", PROFILES)
def test_hostile_text_ends(profile: str) -> None:
    for text in ("9" * 20_000, "<answer>" * 9000, "{" * 20_000, "the final answer is " * 1500, "\\boxed{" * 4000):
        for task in TASKS:
            if task != "math":
                assert published_score(profile, task, text, "1", (0.9, 0.1)).applicable
