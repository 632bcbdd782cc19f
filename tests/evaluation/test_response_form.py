"""How many responses were cut off, gave no answer, or gave it in another form than asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.evaluation import Evaluation, form_words, write_summary
from easyvideor1.evaluation.result import summarise
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.rewards import score
from easyvideor1.types import FinishReason, Score

OPTIONS = ("A. up", "B. down")


def record(number: int, text: str, finish: FinishReason = "stop", judged: Score | None = None) -> SampleRecord:
    said = judged or score("multiple_choice", text, "B", options=OPTIONS, finish=finish)
    return SampleRecord(
        f"s{number}", "multiple_choice", "?", "B", OPTIONS, greedy=TrajectoryRecord(text, 5, finish, said)
    )


RECORDS = [
    record(0, "<think>x</think><answer>B</answer>"),
    record(1, "<think>x</think><answer>down</answer>"),
    record(2, "<think>It goes down, C</answer>C</answer>", "length"),
    record(3, "The answer is B"),
    record(4, "I cannot tell."),
]


def test_shares_of_greedy_responses() -> None:
    result = summarise("x", RECORDS, seed=0, confidence=0.95)
    assert result.greedy is not None
    assert result.greedy.mean == pytest.approx(3 / 5)
    assert result.overall.form == pytest.approx({"cut_off": 1 / 5, "no_answer": 2 / 5, "without_form": 2 / 3})
    assert result.overall.format == pytest.approx((1 + 0.5) / 5)


def test_of_rewards_of_the_user_only_the_ends_are_known() -> None:
    own = record(0, "anything", "length", Score(1.0, 1.0, 1.0))
    assert summarise("x", [own], seed=0, confidence=0.95).overall.form == {"cut_off": 1.0}


def test_they_are_written_read_back_and_summed_up(tmp_path: Path) -> None:
    summarise("before", RECORDS[:3], seed=0, confidence=0.95).write(tmp_path / "evaluations")
    summarise("after", RECORDS[3:], seed=0, confidence=0.95).write(tmp_path / "evaluations")
    assert Evaluation.load(tmp_path / "evaluations", "after").overall.form["no_answer"] == pytest.approx(0.5)
    summary = write_summary(tmp_path, seed=0, steps=1, seconds=1.0)
    assert summary["form_before"]["cut_off"] == pytest.approx(1 / 3)
    assert form_words(summary["form_after"]) == (
        "format reward 0.00, 0.0% cut off at the length limit, 50.0% without an answer, 100.0% of the answers not in "
        "the requested format"
    )
