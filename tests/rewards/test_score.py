"""Golden scores per task type, the format grammar, and the invariants that hold for all types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.rewards import check_answer, score
from easyvideor1.rewards.rules import RULES
from easyvideor1.tasks import TASKS
from easyvideor1.types import DataError

from .references import REFERENCES, SQUARE

OPTIONS = ("A. a red car", "B. Blue", "C. dark red", "D. no")


def tagged(content: str) -> str:
    return f"<think>It may be so.</think>\n<answer>{content}</answer>"


def accuracy(task: str, content: str, answer: object, **row: Any) -> float:
    result = score(task, tagged(content), answer, **row)
    assert result.applicable, result.reason
    return result.accuracy


def test_every_task_type_has_a_rule_and_a_reference() -> None:
    assert set(RULES) == set(TASKS) == set(REFERENCES)


@pytest.mark.parametrize("task", REFERENCES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_reference_against_itself_is_perfect(task: str, wrapped: bool) -> None:
    answer, row = REFERENCES[task]
    reference = f"<answer>{answer}</answer>" if wrapped else answer
    check_answer(task, reference, row.get("options", ()))
    result = score(task, tagged(answer), reference, **row)
    assert (result.accuracy, result.format) == (1.0, 1.0)
    assert result.total == pytest.approx(1.0)
    assert result.applicable
    assert result.parsed


@pytest.mark.parametrize("task", REFERENCES)
def test_the_response_may_be_an_alias_away(task: str) -> None:
    answer, row = REFERENCES[task]
    for alias in TASKS[task]:
        assert score(alias.upper().replace(" ", "-"), tagged(answer), answer, **row).accuracy == 1.0


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [
        ("B", "B", 1.0),
        ("b", "<answer>B</answer>", 1.0),
        ("Blue", "B", 1.0),
        ("B. Blue", "Blue", 1.0),
        ("C", "B", 0.0),
        ("A, C", "A, C", 1.0),
        ("A", "AC", 0.5),
        ("A, B", "A, C", 0.0),
        ("A, B, C, D", "B", 0.0),
        ("E", "B", 0.0),
        ("not Blue", "B", 0.0),
        ("red", "A", 0.0),
    ],
)
def test_multiple_choice(content: str, answer: str, expected: float) -> None:
    assert accuracy("multiple choice", content, answer, options=OPTIONS) == expected


def test_the_options_own_letters_count_in_any_order() -> None:
    options = ["B. Distillation", "A. Photosynthesis", "C. Respiration"]
    assert accuracy("mc", "Photosynthesis", "A", options=options) == 1.0
    assert accuracy("mc", "B", "Distillation", options=options) == 1.0
    bare = ["Distillation", "Photosynthesis", "Respiration"]
    assert accuracy("mc", "A", "Distillation", options=bare) == 1.0


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [
        ("200", "two hundred", 1.0),
        ("two hundred", "200", 1.0),
        ("102", "two hundred", 0.0),
        ("5 m", "5", 1.0),
        ("1,234", "1234", 1.0),
        ("7243000", "7243000", 1.0),
        ("1.2 x 10^5", "120000", 1.0),
        ("3/4", "0.75", 1.0),
        ("0.33", "1/3", 1.0),
        ("3.14", "3.14159", 1.0),
        ("3.2", "3.14159", 0.0),
        ("0", "0.003", 0.0),
        ("12", "11", 0.0),
        ("1001", "1000", 0.0),
        ("50%", "50", 1.0),
        ("50%", "0.5", 1.0),
        ("0.5", "50%", 1.0),
        ("50", "50%", 1.0),
        ("0.5%", "50%", 0.0),
        ("0.5", "50", 0.0),
        ("between 3 and 5", "3", 0.0),
        ("nan", "0", 0.0),
    ],
)
def test_numerical(content: str, answer: str, expected: float) -> None:
    assert accuracy("number", content, answer) == expected


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [("10", "10", 1.0), ("9", "10", 0.8), ("9.01", "10", 0.9), ("5", "10", 0.0), ("5.01", "10", 0.1), ("0", "0", 1.0)],
)
def test_regression_counts_thresholds_exactly(content: str, answer: str, expected: float) -> None:
    assert accuracy("regression", content, answer) == pytest.approx(expected)


def test_regression_agrees_with_the_formula_between_the_thresholds() -> None:
    for predicted in (7.13, 8.77, 9.31, 11.9, 14.2, 16.0):
        expected = sum(abs(predicted - 10) / 10 < 1 - t / 100 for t in range(50, 100, 5)) / 10
        assert accuracy("regression", str(predicted), "10") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [
        ("Yes", "yes", 1.0),
        ("true", "Yes", 1.0),
        ("No, it is not yes", "no", 1.0),
        ("Yes, there is no dog in the video", "yes", 1.0),
        ("Yes... no wait, no", "no", 0.0),
        ("It isn\u2019t true", "no", 1.0),
        ("not sure", "no", 0.0),
        ("maybe", "yes", 0.0),
    ],
)
def test_boolean(content: str, answer: str, expected: float) -> None:
    assert accuracy("boolean", content, answer) == expected
    assert accuracy("boolean", content, answer == "yes" or answer == "Yes") == expected


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [
        ('{"time": [0, 10]}', '{"time": [5, 15]}', 5 / 15),
        ('```json\n{"time": [5, 15]}\n```', '{"time": [5, 15]}', 1.0),
        ('It is {"time": [5, 15]} I think', '{"time": [5, 15]}', 1.0),
        ("[5, 15]", '{"time": [5, 15]}', 1.0),
        ('{"time": [15, 5]}', '{"time": [5, 15]}', 0.0),
        ('{"time": [5, 5]}', '{"time": [5, 15]}', 0.0),
        ('{"time": [0, 1000]}', '{"time": [5, 15]}', 0.01),
        ('{"time": [NaN, 15]}', '{"time": [5, 15]}', 0.0),
        ('{"time": ["5", "15"]}', '{"time": [5, 15]}', 0.0),
        ('{"time": [[20, 30], [0, 10]]}', '{"time": [[0, 10], [20, 30]]}', 1.0),
        ('{"time": [0, 10]}', '{"time": [[0, 10], [20, 30]]}', 0.5),
        ('{"time": [[0, 10], [0, 10]]}', '{"time": [0, 10]}', 0.5),
    ],
)
def test_temporal_grounding(content: str, answer: str, expected: float) -> None:
    assert accuracy("temporal", content, answer) == pytest.approx(expected)


def test_spatial_grounding() -> None:
    answer = '{"boxes": [0, 0, 100, 100]}'
    assert accuracy("spatial", '{"boxes": [0, 0, 50, 100]}', answer) == 0.5
    assert accuracy("spatial", '{"boxes": [100, 100, 0, 0]}', answer) == 0.0
    assert accuracy("spatial", '{"boxes": [5, 5, 5, 5]}', answer) == 0.0
    both = {"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]]}
    assert accuracy("spatial", '{"boxes": [[20, 20, 30, 30], [0, 0, 10, 5]]}', both) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("task", "content", "answer"),
    [
        ("spatial", {"boxes": [0.1, 0.1, 0.5, 0.5]}, {"boxes": [100, 100, 500, 500]}),
        ("spatial", {"boxes": [100, 100, 500, 500]}, {"boxes": [0.1, 0.1, 0.5, 0.5]}),
        ("tracking", {"boxes": {"1": [0.1, 0.1, 0.5, 0.5]}}, {"boxes": {"1": [100, 100, 500, 500]}}),
        (
            "stvg",
            {"time": [0, 1], "boxes": {"1": [0.1, 0.1, 0.5, 0.5]}},
            {"time": [0, 1], "boxes": {"1": [10, 10, 50, 50]}},
        ),
        ("segmentation", {"boxes": [0.1, 0.1, 0.5, 0.5]}, {"boxes": [100, 100, 500, 500]}),
    ],
)
def test_another_scale_is_reported_and_not_scored_or_worth_nothing(task: str, content: object, answer: object) -> None:
    masked = score(task, tagged(json.dumps(content)), answer)
    assert (masked.applicable, masked.accuracy, masked.total) == (False, 0.0, 0.0)
    assert masked.reason.startswith("scale mismatch")
    assert masked.parts == {"scale_mismatch": 1.0}
    zero = score(task, tagged(json.dumps(content)), answer, scale_mismatch="zero")
    assert (zero.applicable, zero.accuracy, zero.reason) == (True, 0.0, masked.reason)
    assert zero.total == pytest.approx(0.1)
    assert zero.parts == {"scale_mismatch": 1.0}


TUBE = {"time": [0, 10], "boxes": {"1": [0, 0, 10, 10], "2": [0, 0, 10, 10], "3": [0, 0, 10, 10]}}


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (TUBE["boxes"], 1.0),
        ({"1.0": [0, 0, 10, 10], "2": [0, 0, 10, 10], " 3 ": [0, 0, 10, 10]}, 1.0),
        ({"1": [0, 0, 10, 10]}, 1 / 3),
        ({"1": [0, 0, 10, 10], "2": "there", "3": [0, 0, 10, 10]}, 2 / 3),
        ({**TUBE["boxes"], "4": [0, 0, 10, 10]}, 3 / 4),  # type: ignore[dict-item]
        ({**TUBE["boxes"], "40": [0, 0, 10, 10]}, 1.0),  # type: ignore[dict-item]
        ({}, 0.0),
    ],
)
def test_missing_and_invented_boxes_of_a_tube_cost(boxes: Any, expected: float) -> None:
    result = score("stvg", tagged(json.dumps({"time": [0, 5], "boxes": boxes})), TUBE)
    assert result.parts["temporal_iou"] == 0.5
    assert result.parts["box_iou"] == pytest.approx(expected)
    assert result.accuracy == pytest.approx(0.25 + expected / 2)
    assert result.parts["box_iou_common"] == (1.0 if expected and "there" not in str(boxes) else expected)
    # Over the seconds that either side has: a box at second 40, outside the true span, costs here.
    assert result.parts["box_iou_union"] == pytest.approx(3 / 4 if "40" in boxes else expected)


def test_one_easy_frame_of_a_track_is_a_third() -> None:
    answer = {"boxes": TUBE["boxes"]}
    result = score("tracking", tagged('{"boxes": {"1": [0, 0, 10, 10], "77": [0, 0, 10, 10]}}'), answer)
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.parts["success_0.5"] == pytest.approx(1 / 3)


def test_segmentation_with_and_without_a_mask() -> None:
    answer = {"boxes": [0, 0, 30, 40], "positive_points": [[10, 10]], "negative_points": [[29, 39]]}
    near = json.dumps({"boxes": [0, 0, 30, 40], "positive_points": [[10, 15]], "negative_points": []})
    result = score("segmentation", tagged(near), answer)
    assert result.parts == pytest.approx({"box_iou": 1.0, "positive_points": 0.8, "negative_points": 0.0})
    assert result.accuracy == pytest.approx(0.6)

    small = {"boxes": [1, 1, 3, 3], "positive_points": [[1, 1], [2, 2]], "negative_points": [[0, 0], [3, 3]]}
    wrong = json.dumps({**small, "positive_points": [[0, 0], [2, 2]], "mask": {"size": [4, 4], "counts": [5, 2, 9]}})
    parts = score("segmentation", tagged(wrong), small, mask=SQUARE).parts
    assert parts == {"box_iou": 1.0, "positive_points": 0.5, "negative_points": 1.0, "mask_iou": 0.5}
    broken = score("segmentation", tagged(json.dumps(small)), small, mask={"size": [4, 4], "counts": [3]})
    assert not broken.applicable


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [
        ("EXIT 42", "exit  42", 1.0),
        ("EXIT 24", "EXIT 42", 0.5),
        ("a b c d e f", "x", 0.0),
        ("A / B", "A / B", 1.0),
        ("禁止吸烟", "禁止停车", 0.5),
    ],
)
def test_ocr(content: str, answer: str, expected: float) -> None:
    assert accuracy("ocr", content, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "answer", "expected"),
    [("1", "Response 1", 1.0), ("The second response", "2", 1.0), ("tie", "1", 0.0), ("1 or 2", "1", 0.0)],
)
def test_preference(content: str, answer: str, expected: float) -> None:
    assert accuracy("llava", content, answer) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<answer>B</answer>", 1.0),
        ("<think>x</think> <ANSWER> B </ANSWER>", 1.0),
        ("<answer>A</answer> no, <answer>B</answer>", 1.0),
        ("<answer>who knows</answer>", 0.5),
        ("<answer>Blue</answer>", 0.5),
        ("<answer>So \\boxed{B}</answer>", 0.5),
        ("<answer></answer>", 0.0),
        ("<answer>B", 0.0),
        ("B", 0.0),
        ("<think><answer>B</answer></think>", 0.0),
        ("", 0.0),
    ],
)
def test_format_of_a_choice(response: str, expected: float) -> None:
    result = score("mc", response, "B", options=OPTIONS)
    assert result.format == expected
    assert result.total == pytest.approx(0.9 * result.accuracy + 0.1 * expected)


def test_weights() -> None:
    result = score("mc", "B", "B", accuracy_weight=0.5, format_weight=0.5)
    assert (result.accuracy, result.format, result.total) == (1.0, 0.0, 0.5)


def test_an_unusable_reference_is_not_a_silent_zero() -> None:
    result = score("temporal grounding", tagged('{"time": [1, 2]}'), "somewhere")
    assert not result.applicable
    assert "not JSON" in result.reason
    assert result.total == 0.0


def test_an_unknown_task_type_is_an_error() -> None:
    with pytest.raises(DataError, match="numerical"):
        score("numerica", "1", "1")


# No program here ends up in the sandbox: it has tests of its own, and thousands of processes are not quick.
PIECES = st.sampled_from(
    [
        *("<answer>", "</answer>", "<think>", "</think>", "\\boxed{", "}", "{", "[", "]", '{"time": [', '"boxes": {'),
        *("the answer is ", "A", "B.", " and ", "50%", "not ", "yes", "\n", "```json\n", "```", "two hundred", ","),
        *("1", "-", ".", "1e9", "<svg>", "</svg>", "Response 1", "\u0661", "\u00bd", "\ud83d", "\x00", "\u4e2d"),
        *("9" * 400, "NaN", "/", "^", "=", "x", '"mask": ', "1 1/2", "twenty", "&#", "<p a='"),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=25).map("".join))


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_any_text_scores_between_zero_and_one(text: str) -> None:
    for task, (answer, row) in REFERENCES.items():
        if task in {"code", "math"}:
            continue
        for response in (text, tagged(text)):
            result = score(task, response, answer, **row)
            assert 0.0 <= result.accuracy <= 1.0, task
            assert result.format in (0.0, 0.5, 1.0)
            assert 0.0 <= result.total <= 1.0
            assert result.applicable or result.reason


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_any_text_as_a_reference_is_usable_or_named(text: str) -> None:
    for task in TASKS:
        try:
            check_answer(task, text)
        except DataError as error:
            assert "expected" in str(error)
