"""Formulas by hand-computed numbers: named forms, columns that decide the score, and readings close to each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import ColumnError, Scorer, check_answer, parse, score
from easyvideor1.rewards.rules import RULES
from easyvideor1.types import ConfigError, DataError, Sample

OPTIONS = ("A. a red car", "B. Blue", "C. dark red", "D. no")


def tagged(content: object) -> str:
    return f"<answer>{content if isinstance(content, str) else json.dumps(content)}</answer>"


def square(left: float, side: float = 10.0) -> list[float]:
    return [left, 0.0, left + side, side]


TRUTH = {"time": [0, 4], "boxes": {"1": square(0), "2": square(0), "3": square(0), "4": square(0)}}


@pytest.mark.parametrize(
    ("content", "union", "common"),
    [
        (TRUTH, 1.0, 1.0),
        # One box of four, and half the time: (0.5 + 1/4) / 2 against (0.5 + 1) / 2.
        ({"time": [0, 2], "boxes": {"1": square(0)}}, 0.375, 0.75),
        # All boxes moved by half a side: IoU 1/3 each; and one more at 2.5 inside the span: (4 * 1/3) / 5.
        (
            {"time": [0, 4], "boxes": {**{k: square(5) for k in "1234"}, "2.5": square(5)}},
            (1 + 4 / 15) / 2,
            (1 + 1 / 3) / 2,
        ),
        # No box in common: half of the time's overlap is all.
        ({"time": [0, 4], "boxes": {"9": square(0)}}, 0.5, 0.5),
        # The time left out.
        ({"boxes": TRUTH["boxes"]}, 0.5, 0.5),
    ],
)
def test_tubes_by_the_union_and_by_the_published_intersection(content: Any, union: float, common: float) -> None:
    assert score("stvg", tagged(content), TRUTH).accuracy == pytest.approx(union)
    assert score("stvg", tagged(content), TRUTH, reward_form="union").accuracy == pytest.approx(union)
    assert score("stvg", tagged(content), TRUTH, reward_form="common").accuracy == pytest.approx(common)


def test_tracks_over_annotated_seconds_and_over_common_ones() -> None:
    # IoU 1 and 1/3 of three annotated seconds; the third is missing, the fourth was not asked for.
    content = {"boxes": {"1": square(0), "2": square(5), "4": square(0)}}
    answer = {"boxes": {"1": square(0), "2": square(0), "3": square(0)}}
    result = score("tracking", tagged(content), answer)
    assert result.accuracy == pytest.approx((1 + 1 / 3) / 3)
    assert result.parts == pytest.approx({"success_0.3": 2 / 3, "success_0.5": 1 / 3, "success_0.7": 1 / 3})
    assert score("tracking", tagged(content), answer, reward_form="common").accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("predicted", "reference", "mra", "relative"),
    [
        # Errors of 20%, 4%, 50%, 120%: thresholds passed are those with 1 - t above the error.
        ("8", "10", 0.6, 0.8),
        ("9.6", "10", 1.0, 0.96),
        ("5", "10", 0.0, 0.5),
        ("22", "10", 0.0, 0.0),
        ("-9", "-10", 0.8, 0.9),
        ("0.1", "0", 0.0, 0.0),
        ("55%", "0.5", 0.8, 0.9),
    ],
)
def test_regression_by_thresholds_and_by_relative_error(
    predicted: str, reference: str, mra: float, relative: float
) -> None:
    over_thresholds = score("regression", tagged(predicted), reference)
    assert over_thresholds.accuracy == pytest.approx(mra)
    assert over_thresholds.parts == {"relative_accuracy": pytest.approx(relative)}
    simple = score("regression", tagged(predicted), reference, reward_form="relative")
    assert simple.accuracy == pytest.approx(relative)
    assert simple.parts == {"mean_relative_accuracy": pytest.approx(mra)}


@pytest.mark.parametrize(
    ("predicted", "reference", "accuracy"),
    [
        # Errors on the thresholds: 5% meets 0.95, 10% meets 0.90, 50% meets 0.50 alone; 1 - 0.8 is a float below 0.2.
        ("19", "20", 1.0),
        ("21", "20", 1.0),
        ("0.95", "1", 1.0),
        ("9", "10", 0.9),
        ("17", "20", 0.8),
        ("8", "10", 0.6),
        ("3", "4", 0.6),
        ("5", "10", 0.1),
        ("15", "10", 0.1),
        ("4.9", "10", 0.0),
        ("1", "0", 0.0),
        ("0", "0", 1.0),
        ("no idea", "10", 0.0),
    ],
)
def test_regression_as_the_authors_of_vsi_bench_score_it(predicted: str, reference: str, accuracy: float) -> None:
    found = score("regression", tagged(predicted), reference, reward_form="vsi-bench")
    assert (found.accuracy, found.applicable) == (pytest.approx(accuracy), True)


@pytest.mark.parametrize(
    ("content", "answer", "subset", "exact"),
    [
        ("A, C", "A, C", 1.0, 1.0),
        ("C and A", ["A", "C"], 1.0, 1.0),
        ("A", ["A", "C", "D"], 1 / 3, 0.0),
        ("A, C", "A,C,D", 2 / 3, 0.0),
        ("A, B", "A, C", 0.0, 0.0),
        ("A, B, C, D", "A, C", 0.0, 0.0),
        ("both A and C", "AC", 1.0, 1.0),
        ("The answers are A and C.", "A, C", 1.0, 1.0),
        ("A. a red car\nC. dark red", ["a red car", "dark red"], 1.0, 1.0),
    ],
)
def test_questions_with_several_answers(content: str, answer: object, subset: float, exact: float) -> None:
    check_answer("mc", answer, OPTIONS)
    assert score("mc", tagged(content), answer, options=OPTIONS).accuracy == pytest.approx(subset)
    assert score("mc", tagged(content), answer, options=OPTIONS, reward_form="exact").accuracy == exact


@pytest.mark.parametrize("answer", [["a red car", "red"], ["A", 3], [], ["E"]])
def test_a_list_that_names_no_options_is_refused(answer: object) -> None:
    with pytest.raises(DataError, match="no letter"):
        check_answer("mc", answer, OPTIONS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("option b", ("B",)),
        ("I think B is right.", ("B",)),
        ("B is the best option", ("B",)),
        ("the answer is B or C", None),
        ("Answer: A, C", ("A", "C")),
        ("The answer is A. A cat sits there.", ("A",)),
        ("B. Blue\nC. dark red", ("B", "C")),
        ("B. Blue\nC. it is not", None),
        ("I do not think B is right", None),
        ("a", ("A",)),
        ("a car", None),
    ],
)
def test_letters_in_sentences(text: str, value: object) -> None:
    assert parse("mc", tagged(text), OPTIONS).value == value


@pytest.mark.parametrize("text", ["yes/no", "Yes or No", "true, or false", "yes and no", "Yes | No"])
def test_both_words_are_no_statement(text: str) -> None:
    assert parse("boolean", tagged(text)).value is None
    assert parse("boolean", tagged(f"{text}? It is yes.")).value is True


@pytest.mark.parametrize(
    ("content", "answer", "tolerance", "expected"),
    [
        ("10.4", "10", 0.5, 1.0),
        ("10.5", "10", 0.5, 1.0),
        ("10.6", "10", 0.5, 0.0),
        ("3.14", "3.14159", 0, 0.0),
        ("3.14159", "3.14159", 0, 1.0),
        ("60%", "0.5", 0.1, 1.0),
        ("12k", "12000", None, 1.0),
        ("1 000 000", "1000000", None, 1.0),
        ("twice", "2", None, 1.0),
        ("\\sqrt{2}", "2", None, 0.0),
        ("once upon a time", "1", None, 0.0),
    ],
)
def test_numbers_and_the_tolerance_of_the_row(content: str, answer: str, tolerance: Any, expected: float) -> None:
    check_answer("numerical", answer, row={"tolerance": tolerance})
    assert score("numerical", tagged(content), answer, tolerance=tolerance).accuracy == expected


@pytest.mark.parametrize("tolerance", ["0.1", -1, True, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_named(tolerance: object) -> None:
    with pytest.raises(ColumnError, match="tolerance"):
        check_answer("numerical", "3", row={"tolerance": tolerance})
    result = score("numerical", tagged("3"), "3", tolerance=tolerance)
    assert not result.applicable
    assert "tolerance" in result.reason


@pytest.mark.parametrize(
    ("span", "iou", "beyond"),
    [
        ([5, 15], 1.0, 0.0),
        ([0, 20], 0.5, 0.0),
        # Nothing is cut off at the end of the video: what lies beyond costs, and is reported.
        ([5, 35], 1 / 3, 0.5),
        ([-5, 15], 0.5, 0.25),
        ([30, 40], 0.0, 1.0),
        ([15, 5], 0.0, None),
    ],
)
def test_spans_beyond_the_video(span: list[float], iou: float, beyond: float | None) -> None:
    result = score("temporal", tagged({"time": span}), {"time": [5, 15]}, duration=20.0)
    assert result.accuracy == pytest.approx(iou)
    assert result.parts == ({} if beyond is None else {"beyond_video": pytest.approx(beyond)})
    assert score("temporal", tagged({"time": span}), {"time": [5, 15]}, duration="short").parts == {}


def test_a_reference_outside_the_video_is_named_when_loaded() -> None:
    check_answer("temporal", {"time": [15, 21]}, row={"duration": 20})  # annotations end a little late
    check_answer("temporal", {"time": [25, 30]}, row={"duration": "medium"})
    for task, answer in (("temporal", {"time": [25, 30]}), ("stvg", {**TRUTH, "time": [25, 30]})):
        with pytest.raises(DataError, match="outside the video of 20 s"):
            check_answer(task, answer, row={"duration": 20})


def test_several_spans_are_matched_for_the_best_sum() -> None:
    # Taking the best pair first would leave [10, 20] with [30, 40]; matched: 0.5 and 1/3 over two.
    answer = {"time": [[0, 10], [10, 20]]}
    content = {"time": [[5, 15], [0, 5]]}
    assert score("temporal", tagged(content), answer).accuracy == pytest.approx((1 / 3 + 0.5) / 2)
    assert score("temporal", tagged({"time": [0, 10]}), answer).accuracy == 0.5
    assert score("temporal", tagged({"time": [[0, 10], [10, 20], [50, 60]]}), answer).accuracy == pytest.approx(2 / 3)


def test_forms_come_from_the_row_before_the_configuration() -> None:
    scorer = Scorer(RewardConfig(forms={"regression": "relative", "mc": "exact"}))
    plain, own = (Sample("a", "?", "regression", "10", extra=row) for row in ({}, {"reward_form": "mra"}))
    assert scorer(plain, tagged("8")).accuracy == pytest.approx(0.8)
    assert scorer(own, tagged("8")).accuracy == pytest.approx(0.6)
    assert scorer(Sample("b", "?", "multiple_choice", "AC"), tagged("A")).accuracy == 0.0


def test_unknown_forms_are_named() -> None:
    for forms in ({"regression": "absolute"}, {"regresion": "relative"}, {"mc": "exact", "choice": "exact"}):
        with pytest.raises(ConfigError, match=r"rewards\.forms"):
            Scorer(RewardConfig(forms=forms))
    with pytest.raises(ColumnError, match="mra, relative"):
        check_answer("regression", "3", row={"reward_form": "absolute"})
    result = score("regression", tagged("3"), "3", reward_form="absolute")
    assert (result.applicable, "reward_form" in result.reason) == (False, True)


def test_every_form_scores_its_own_reference_with_one() -> None:
    references = {"multiple_choice": "AC", "regression": "4", "spatial_temporal_grounding": TRUTH, "tracking": TRUTH}
    named = {task for task, rule in RULES.items() if rule.forms}
    assert named == set(references)
    for task in named:
        answer = references[task] if task != "tracking" else {"boxes": TRUTH["boxes"]}
        for form in (RULES[task].form, *RULES[task].forms):
            assert score(task, tagged(answer), answer, reward_form=form).accuracy == 1.0


@pytest.mark.parametrize(
    ("task", "text", "words"),
    [
        ("mc", "<think>hm</think>\n<answer>\n B \n</answer>", "B"),
        ("mc", "So \\boxed{ B }.", "B"),
        ("mc", "Well.\nThe answer is: **C**", "C**"),
        ("mc", "I looked twice. " * 30 + "\nB", "B"),
        ("mc", "<answer>so \\boxed{B}</answer>", "B"),
        ("temporal", 'It is {"time": [1, 2]}', 'It is {"time": [1, 2]}'),
        ("open-ended", "<think>x</think> a dog ", "a dog"),
        ("math", "x\nfinal answer: 3 ", "3"),
    ],
)
def test_an_answer_says_where_it_stands(task: str, text: str, words: str) -> None:
    answer = parse(task, text)
    assert answer.text == words
    assert text[answer.start :].startswith(words)
