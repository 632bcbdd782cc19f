"""pass@k and the majority's answer, against enumeration and numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from easyvideor1.evaluation.sampled import majority_accuracy, pass_at, sampled_numbers
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.types import Score


def record(number: int, *answers: tuple[str, float]) -> SampleRecord:
    responses = tuple(
        TrajectoryRecord(parsed, 1, "stop", Score(accuracy, 1.0, accuracy, parsed=parsed, applicable=parsed != "!"))
        for parsed, accuracy in answers
    )
    return SampleRecord(f"q{number}", "multiple_choice", "?", "A", (), trajectories=responses)


@pytest.mark.parametrize(("drawn", "right"), [(1, 0), (1, 1), (5, 0), (5, 2), (5, 5), (8, 3)])
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(drawn: int, right: int) -> None:
    for k in range(1, drawn + 1):
        chosen = list(combinations([number < right for number in range(drawn)], k))
        assert pass_at(k, drawn, right) == pytest.approx(sum(map(any, chosen)) / len(chosen))


@pytest.mark.parametrize("k", [0, 4])
def test_more_responses_than_were_drawn_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} needs"):
        pass_at(k, 3, 1)


def test_the_majority_votes_with_answers_alone() -> None:
    assert majority_accuracy(record(0, ("B", 0.0), ("A", 1.0), ("A", 1.0))) == 1.0
    assert majority_accuracy(record(0, ("B", 0.0), ("A", 1.0), ("B", 0.0), ("A", 1.0))) == 0.0  # the first drawn
    assert majority_accuracy(record(0, ("", 0.0), ("", 0.0), ("A", 1.0))) == 1.0
    assert majority_accuracy(record(0, ("!", 0.0), ("!", 0.0), ("A", 1.0))) == 1.0  # not scored
    assert majority_accuracy(record(0, ("", 0.0))) == majority_accuracy(record(0)) == 0.0


def test_numbers_of_equal_value_vote_together() -> None:
    answers = (("3", 0.0), ("3", 0.0), ("1/2", 1.0), ("0.5", 1.0), ("0.50", 1.0))
    assert majority_accuracy(replace(record(0, *answers), task="math")) == 1.0
    assert majority_accuracy(record(0, *answers)) == 0.0  # options of a choice are no numbers
    odd = (("1/0", 1.0), ("1e999999999", 0.0), ("1/0", 1.0), ("x", 0.0))
    assert majority_accuracy(replace(record(0, *odd), task="math")) == 1.0


def test_failed_questions_stay_in_the_mean() -> None:
    records = [record(0, ("A", 1.0), ("B", 0.0), ("A", 1.0)), record(1, *[("B", 0.0)] * 3), record(2)]
    found = sampled_numbers(records, 3, confidence=0.95, seed=0)
    means = {name: interval.mean for name, interval in found.items()}
    expected = {"pass@1": 2 / 9, "pass@2": 1 / 3, "pass@3": 1 / 3, "majority@3": 1 / 3}
    assert means == pytest.approx(expected)
    assert sampled_numbers(records, 0, confidence=0.95, seed=0) == {}
