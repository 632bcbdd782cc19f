from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from easyvideor1.evaluation import Evaluation, print_summary, write_summary

from .runs import TASKS, write_evaluations


def printed(summary: dict[str, object], width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=width))
    return stream.getvalue()


def test_summary_compares_before_and_after(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before", "after")
    summary = write_summary(tmp_path, seed=3, steps=100, seconds=61.23456)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    before, after = (Evaluation.load(tmp_path / "evaluations", name) for name in ("before", "after"))
    assert before.greedy and after.greedy and after.sampled
    assert summary["accuracy_before"] == before.greedy.mean
    assert summary["accuracy_after_interval"] == [after.greedy.low, after.greedy.high]
    assert summary["sampled_accuracy_after"] == after.sampled.mean
    assert summary["accuracy_gain"] == pytest.approx(after.greedy.mean - before.greedy.mean)
    assert summary["accuracy_gain_interval"][0] > 0
    assert (summary["seed"], summary["steps"], summary["seconds"], summary["confidence"]) == (3, 100, 61.235, 0.95)
    assert set(summary["per_task"]) == set(TASKS)
    assert summary["per_task"]["boolean"]["count"] == 12
    text = printed(summary)
    assert f"{100 * after.greedy.mean:.1f}" in text and "temporal" in text
    assert "100 steps in 61 s, seed 3" in text
    assert max(map(len, text.splitlines())) <= 80


def test_other_names(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before", "warm")
    summary = write_summary(tmp_path, seed=0, steps=1, seconds=1, before="warm", after="before")
    assert summary["accuracy_before"] > summary["accuracy_after"]


def test_absent_evaluations_are_null(tmp_path: Path) -> None:
    write_evaluations(tmp_path, "before")
    summary = write_summary(tmp_path, seed=0, steps=0, seconds=0)
    assert summary["accuracy_before"] is not None
    assert summary["accuracy_after"] is summary["accuracy_after_interval"] is summary["accuracy_gain"] is None
    assert "0 steps" in printed(summary)
    nothing = write_summary(tmp_path / "empty", seed=0, steps=0, seconds=0)
    assert nothing["accuracy_before"] is None and nothing["per_task"] == {}
    assert "all" in printed(nothing)
