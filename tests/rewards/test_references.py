"""References: unusable ones are named, real ones are usable and perfect against themselves."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from easyvideor1.rewards import ColumnError, check_answer, score
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


PAIRS = {"inputs": ["3\n4", "1\n1"], "outputs": ["7", 2]}


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        (5, "int"),
        (True, "bool"),
        ("f(", "compiles"),
        ("[broken", "like JSON"),
        ("{broken", "like JSON"),
        ("total(1) == 5", "asserts nothing"),
        (["add(1,2) == 3"], "asserts nothing"),
        (["import math", "assert f() == 1"], "asserts nothing"),
        (["assert True"], "asserts nothing"),
        (["assert (f() == 1, 'why')"], "asserts nothing"),
        (["def check(f):\n    assert f(1) == 1"], "asserts nothing"),
        ([[1, 2]], "neither all"),
        (["assert f()", {"input": "", "output": "1"}], "neither all"),
        ([{"input": "1"}], '"output" of a test is missing'),
        ([{"input": "1", "output": None}], "is NoneType"),
        ([{"input": [1], "output": "1"}], '"input" of a test is list'),
        ([{"input": "1", "output": ""}], "every output is blank"),
        ({"inputs": ["1"], "outputs": []}, "not empty"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "1 inputs for 2 outputs"),
        ({"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}, "fn_name"),
        (["assert f()"] * 65, "65 tests"),
    ],
)
def test_tests_that_test_nothing_are_refused_when_loaded_and_never_paid(tests: object, why: str) -> None:
    for column in ("tests", "test_cases"):
        for value in (tests, json.dumps(tests)) if isinstance(tests, list | dict) else (tests,):
            with pytest.raises(ColumnError, match=why) as caught:
                check_answer("code", "pass", row={column: value})
            assert caught.value.column == column
            assert column in str(caught.value)
            result = score("code", "<answer>x = 1</answer>", "pass", **{column: value})
            assert (result.applicable, result.accuracy) == (False, 0.0)
            assert column in result.reason
    with pytest.raises(DataError, match=why):
        check_answer("code", json.dumps({"tests": tests}))


@pytest.mark.parametrize(
    "tests",
    [
        None,
        "",
        [],
        "assert add(1, 2) == 3",
        "(a, b) = f()\nassert a < b",
        ["def check(f):\n    assert f(1) == 1\ncheck(add)"],
        ["def run():\n    assert add(1, 2) == 3\nrun()"],
        ["for n in range(3):\n    if add(n, n) != 2 * n:\n        raise ValueError(n)"],
        ["import numpy as np\nnp.testing.assert_allclose(add(1, 2), 3)"],
        {"input": 1, "output": 2.5},
        [{"output": "1"}],
        PAIRS,
    ],
)
def test_tests_of_every_form_are_taken(tests: object) -> None:
    check_answer("code", "pass", row={"tests": tests})
    if isinstance(tests, list | dict):
        check_answer("code", "pass", row={"tests": json.dumps(tests)})


def test_a_mask_is_checked_when_loaded() -> None:
    answer = {"boxes": [0, 0, 2, 2], "positive_points": [[1, 1]]}
    good = {"size": [2, 2], "counts": [1, 3]}
    for mask in (None, good, json.dumps(good)):
        check_answer("segmentation", answer, row={"mask": mask})
    for mask in (5, "x", {"size": [2, 2], "counts": [9]}, {"counts": [4]}):
        with pytest.raises(ColumnError, match="RLE") as caught:
            check_answer("segmentation", answer, row={"mask": mask})
        assert caught.value.column == "mask"
        assert not score("segmentation", f"<answer>{json.dumps(answer)}</answer>", answer, mask=mask).applicable
    check_answer("boolean", "yes", row={"mask": 5, "tests": 5})  # what no rule reads is nobody's business


def test_a_column_error_survives_another_process() -> None:
    error = copy.copy(ColumnError("tests", "it is int"))
    assert (error.column, error.problem, str(error)) == ("tests", "it is int", str(ColumnError("tests", "it is int")))


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
