"""What is said of rows before training: constants, length, references against themselves, by hand-computed figures."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards.audit import audit, reference_scorer
from easyvideor1.rewards.audit.constant_baselines import best_constant
from easyvideor1.rewards.audit.length_bias import joined_answers, length_bias
from easyvideor1.rewards.references import plain_reference
from easyvideor1.rewards.tags import full_response, grammar_of, is_well_formed
from easyvideor1.types import Sample, Score


def samples(task: str, *answers: object, **extra: Any) -> list[Sample]:
    texts = [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]
    return [Sample(f"s{at}", "?", task, text, extra=extra) for at, text in enumerate(texts)]


def scored(sample: Sample, answer: str) -> Score:
    return reference_scorer(RewardConfig())(sample, full_response(answer))


@pytest.mark.parametrize(
    ("answer", "plain"),
    [("B", "B"), ("<answer> B </answer>", "B"), ('"EXIT"', "EXIT"), ('"a" or "b"', '"a" or "b"'), ("[1, 2]", "[1, 2]")],
)
def test_the_words_of_a_reference(answer: str, plain: str) -> None:
    assert plain_reference(answer) == plain


def test_the_constant_may_be_better_than_every_reference() -> None:
    # [0, 10] overlaps both by half; each of them overlaps itself by 1 and the other not at all: a tie at 0.5. With a
    # third in the middle, [2.5, 7.5] has 1 with itself and 1/3 with each of the others: 5/9. So has [0, 10]: 0.5.
    rows = samples("temporal_grounding", {"time": [0, 5]}, {"time": [5, 10]}, {"time": [2.5, 7.5]})
    best = best_constant("temporal_grounding", rows, scored)
    assert json.loads(best.answer) == {"time": [2.5, 7.5]}
    assert best.accuracy == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert best.total == pytest.approx(0.9 * best.accuracy + 0.1)


def test_the_whole_picture_is_tried() -> None:
    rows = samples("spatial_grounding", {"boxes": [0, 0, 1000, 500]}, {"boxes": [0, 500, 1000, 1000]})
    assert best_constant("spatial_grounding", rows, scored).accuracy == pytest.approx(0.5)
    rows = samples("tracking", {"boxes": {"0": [0, 0, 9, 9]}}, {"boxes": {"1": [0, 0, 9, 9]}})
    # One box for every second that any row annotates is right everywhere, but half of the boxes are invented.
    assert best_constant("tracking", rows, scored).accuracy == pytest.approx(0.5)


def test_the_median_is_tried() -> None:
    best = best_constant("regression", samples("regression", 8, 10, 12, 10.5, 9.5), scored)
    # Errors of 10 are 25%, 0, 1/6, 4.8% and 5.3%: 0.5, 1, 0.7, 1 and 0.9 of the thresholds.
    assert best.accuracy >= (0.5 + 1 + 0.7 + 1 + 0.9) / 5 - 1e-9


def test_rows_that_cannot_be_judged_do_not_count() -> None:
    def half(sample: Sample, answer: str) -> Score:
        return Score(1.0, 1.0, 1.0) if sample.id == "s0" else Score(0.0, 0.0, 0.0, applicable=False, reason="x")

    assert best_constant("numerical", samples("numerical", 1, 2), half).accuracy == 1.0

    def never(sample: Sample, answer: str) -> Score:
        return Score(0.0, 0.0, 0.0, applicable=False, reason="x")

    assert best_constant("numerical", samples("numerical", 1, 2), never).accuracy == 0.0


@pytest.mark.parametrize(
    ("task", "answers", "together"),
    [
        ("open_ended", ["a b", "c"], "a b c"),
        ("multiple_choice", ["A", "C"], "A, C"),
        ("temporal_grounding", ['{"time": [1, 2]}', '{"time": [[3, 4], [5, 6]]}'], {"time": [[1, 2], [3, 4], [5, 6]]}),
        (
            "spatial_temporal_grounding",
            ['{"time": [1, 2], "boxes": {"1": [1, 2, 3, 4]}}', '{"time": [5, 9], "boxes": {"5": [5, 6, 7, 8]}}'],
            {"time": [1, 9], "boxes": {"1": [1, 2, 3, 4], "5": [5, 6, 7, 8]}},
        ),
        ("temporal_grounding", ["[1, 2]", "[3, 4]"], {"time": [[1, 2], [3, 4]]}),
        ("spatial_grounding", ["[1, 2, 3, 4]", '{"boxes": [5, 6, 7, 8]}'], {"boxes": [[1, 2, 3, 4], [5, 6, 7, 8]]}),
        (
            "tracking",
            ['{"boxes": {"1": [1, 2, 3, 4]}}', '{"boxes": {"2": [5, 6, 7, 8]}}'],
            {"boxes": {"1": [1, 2, 3, 4], "2": [5, 6, 7, 8]}},
        ),
    ],
)
def test_several_references_as_one_answer(task: str, answers: list[str], together: object) -> None:
    made = joined_answers(task, answers)
    assert (made if isinstance(together, str) else json.loads(made)) == together


WORDS = [f"word{at} thing{at} place{at}" for at in range(20)]


def test_a_reward_that_pays_for_length_is_seen() -> None:
    def longer_is_better(sample: Sample, answer: str) -> Score:
        return Score(min(1.0, math.log(len(answer)) / 10), 1.0, 1.0)

    bias = length_bias("open_ended", samples("open_ended", *WORDS), longer_is_better)
    assert bias.correlation == pytest.approx(1.0)
    assert bias.padding is not None and bias.padding > 0

    def shorter_is_better(sample: Sample, answer: str) -> Score:
        return Score(1 / len(answer), 1.0, 1.0)

    assert (length_bias("open_ended", samples("open_ended", *WORDS), shorter_is_better).correlation or 0) < -0.8


def test_rouge_is_not_paid_for_length_nor_forgiving_to_padding() -> None:
    bias = length_bias("open_ended", samples("open_ended", *WORDS), scored)
    assert bias.correlation == 0.0  # nothing of the others is right, however much of it is said
    # Three right words of six said: unigrams 2*3/9, bigrams 2*2/7, subsequence 2*3/9.
    assert bias.padding == pytest.approx((2 / 3 + 4 / 7 + 2 / 3) / 3 - 1)


def test_a_single_reference_has_no_length_to_compare() -> None:
    bias = length_bias("boolean", samples("boolean", "yes", "yes"), scored)
    assert (bias.correlation, bias.padding) == (None, None)


def test_a_preference_for_a_judge_is_not_asked_of_the_formula() -> None:
    rows = samples("preference", "1", "A long response that somebody wrote about the clip.")
    (task,) = audit(rows, reference_scorer(RewardConfig()))
    assert (task.rows, task.checked, task.imperfect) == (2, 1, ())
    assert task.unchecked == {"the reference is a response for a judge to compare with": 1}


def test_rows_on_another_scale_than_the_prompt_are_asked_on_their_own() -> None:
    rows = samples("spatial_grounding", {"boxes": [100, 100, 300, 300]}, coordinates="thousand")
    (task,) = audit(rows, reference_scorer(RewardConfig(coordinates="normalized")), coordinates="normalized")
    assert task.imperfect == ()
    assert task.scales is not None
    assert task.scales.declared == {"thousand (row)": 1}


@pytest.mark.parametrize(
    "form",
    [
        "answer",
        "think-answer",
        ("time", "caption", "think"),
        (("time", "caption"), "think"),
        ("think/plan", "think/check", "answer"),
        ("a", "a", ("b/c", "b/d", "e")),
    ],
    ids=str,
)
def test_full_responses_are_well_formed(form: Any) -> None:
    response = full_response("3", form)
    assert is_well_formed(response, grammar_of(form))
    assert response.endswith("<answer>3</answer>")
    if form not in ("answer",):
        assert not is_well_formed("<answer>3</answer>", grammar_of(form))
