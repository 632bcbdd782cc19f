"""Answers that were read wrongly once, as they were reported; the kinds behind them are in the certificates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.rewards import score

FOLDER = Path(__file__).parents[3] / "shared" / "cases"
FILES = ("unfinished_answers", "native_answers", "answers_from_reports", "unearned", "real_model_answers")


def cases() -> list[Any]:
    found = [(name, FOLDER / f"{name}.json") for name in FILES]
    return [
        pytest.param(entry, id=f"{name} {number}")
        for name, path in found
        if path.is_file()
        for number, entry in enumerate(json.loads(path.read_text(encoding="utf-8")))
    ]


CASES = cases()


@pytest.mark.skipif(not CASES, reason="no case files at ../shared/cases")
@pytest.mark.parametrize("entry", CASES)
def test_a_reported_answer_gets_what_it_deserves(entry: dict[str, Any]) -> None:
    said = score(
        entry["problem_type"], entry["response"], entry["answer"], options=entry["options"], **entry.get("row", {})
    )
    low, high = entry.get("low", entry.get("accuracy")), entry.get("high", entry.get("accuracy"))
    assert low - 1e-6 <= said.accuracy <= high + 1e-6
    assert said.parsed or said.reason
