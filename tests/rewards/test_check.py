"""References: unusable ones are named, real ones are usable and perfect against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from easyvideor1.rewards import check_answer, score
from easyvideor1.types import DataError

ROWS = Path(__file__).parents[3] / "shared" / "reference" / "benchmark_rows"
#: Types of those files that have no name of their own in the task table.
STAND_INS = {"REC": "numerical", "SSR": "boolean", "CRR": "boolean"}


@pytest.mark.parametrize(
    ("task", "answer", "why"),
    [
        ("multiple_choice", "", "empty"),
        ("multiple_choice", "E", "no letter"),
        ("multiple_choice", "a purple car", "no letter"),
        ("numerical", "many", "not one number"),
        ("numerical", "1 or 2", "not one number"),
        ("boolean", "perhaps", "neither yes nor no"),
        ("temporal_grounding", '{"time": [9, 3]}', "start before end"),
        ("temporal_grounding", '{"time": [3, 3]}', "no length"),
        ("temporal_grounding", '<think>{"time": [1, 2]}</think>', "no <answer>"),
        ("temporal_grounding", 'see {"time": [1, 2]}', "not JSON"),
        ("spatial_grounding", '{"boxes": [1, 2, 3]}', "boxes"),
        ("spatial_grounding", '{"boxes": [1, 2, 1, 2]}', "no area"),
        ("spatial_temporal_grounding", '{"time": [1, 2], "boxes": {}}', "missing"),
        ("tracking", '{"boxes": {"1": [1, 2]}}', "malformed"),
        ("segmentation", '{"boxes": [0, 0, 2, 2], "positive_points": [[1]]}', "malformed"),
        ("open_ended", "  ", "empty"),
        ("svg_code", "<svg><g></svg>", "well-formed"),
        ("html_code", "plain", "no HTML"),
        ("preference", "good", "neither response"),
    ],
)
def test_what_is_wrong_is_said(task: str, answer: str, why: str) -> None:
    options = ("A. red", "B. blue") if task == "multiple_choice" else ()
    with pytest.raises(DataError, match=why) as caught:
        check_answer(task, answer, options)
    assert "expected" in str(caught.value)
    assert task in str(caught.value)


@pytest.mark.parametrize(
    ("task", "answer"),
    [("numerical", 3), ("numerical", 2.5), ("boolean", True), ("temporal", {"time": [1, 2]}), ("mc", ["A", "C"])],
)
def test_values_of_json_columns_are_references_too(task: str, answer: object) -> None:
    check_answer(task, answer)


def test_more_options_than_letters() -> None:
    with pytest.raises(DataError, match="27 options"):
        check_answer("mc", "A", [str(n) for n in range(27)])


@pytest.mark.skipif(not ROWS.is_dir(), reason="the real rows (../shared/reference/benchmark_rows) are not here")
@pytest.mark.parametrize("path", sorted(ROWS.glob("*.json")), ids=lambda path: path.stem)
def test_real_rows(path: Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        task = STAND_INS.get(row["problem_type"], row["problem_type"])
        options = tuple(row.get("options") or ())
        if path.stem == "charades_sta":
            with pytest.raises(DataError, match="no <answer>"):
                check_answer(task, row["solution"], options)
            continue
        check_answer(task, row["solution"], options)
        response = row["solution"] if "<answer>" in row["solution"] else f"<answer>{row['solution']}</answer>"
        result = score(task, response, row["solution"], options=options)
        assert result.applicable, result.reason
        assert (result.accuracy, result.format) == (1.0, 1.0), row
