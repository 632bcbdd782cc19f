"""Tests that lean on what nobody but the program under test defines are refused, and failures say why."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import check_answer, score
from easyvideor1.types import DataError

ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("tests", "reference"),
    [
        (["assert close(add(1, 2), 3)"], ADD),
        (["def check(f): assert near(f(1, 2), 3)\ncheck(add)"], ADD),
        (["assert math.isclose(add(1, 2), 3)"], ADD),
    ],
)
def test_a_helper_that_nobody_defines_is_named(tests: list[str], reference: str) -> None:
    with pytest.raises(DataError, match=r"the tests use (close|near|math), which neither the reference"):
        check_answer("code", reference, row={"tests": tests})


@pytest.mark.parametrize(
    ("tests", "reference"),
    [
        (["def close(a, b): return abs(a - b) < 1\nassert close(add(1, 2), 3)"], ADD),
        (["import math; assert math.isclose(add(1, 2), 3)"], ADD),
        (["assert math.isclose(add(1, 2), 3)"], f"import math\n{ADD}"),
        (["assert all(add(x, 1) == x + 1 for x in range(3))"], ADD),
        (["for a, b in [(1, 2)]:\n    assert add(a, b) == 3"], ADD),
        (["try:\n    add()\nexcept TypeError as error:\n    assert error.args"], ADD),
        (["assert (lambda x, *rest, **named: add(x, 1))(1) == 2"], ADD),
        (["assert isclose(add(1, 2), 3)"], f"from math import *\n{ADD}"),
        (["assert minus(1, 2) == -1 and ONE == 1"], "ONE = 1\nminus = lambda a, b: a - b"),
        (["assert anything(1) == close(2)"], "pass"),
        (["assert anything(1) == close(2)"], '{"tests": ["assert anything(1) == close(2)"]}'),
    ],
)
def test_honest_rows_load(tests: list[str], reference: str) -> None:
    check_answer("code", reference, row={"tests": tests})


@pytest.mark.parametrize(
    ("program", "row", "reason"),
    [
        (
            "def add(a, b): return 3",
            {"tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]},
            "test 2 of 2: AssertionError",
        ),
        ("def add(a): return 3", {"tests": ["assert add(1, 2) == 3"]}, "test 1 of 1: TypeError"),
        (
            "class Own(Exception): pass\ndef add(a, b): raise Own()",
            {"tests": ["add(1, 2); assert add"]},
            "test 1 of 1: an exception of its own",
        ),
        ("1 / 0", {"tests": ["assert add(1, 2) == 3"]}, "test 1 of 1: the program ended with ZeroDivisionError"),
        (
            "def add(a, b):\n    import os\n    os._exit(0)",
            {"tests": ["assert add(1, 2) == 3"]},
            "test 1 of 1: the program ended before it",
        ),
        (
            "def add(a, b):\n    while True: pass",
            {"tests": ["assert add(1, 2) == 3"]},
            "test 1 of 1: the program ran out of time (5 s)",
        ),
        ("print(4)", {"tests": [{"input": "", "output": "3"}]}, "pair 1 of 1: it printed something else"),
        (
            "print(int(input()) / 0)",
            {"tests": [{"input": "1", "output": "3"}]},
            "pair 1 of 1: the program ended with ZeroDivisionError",
        ),
        (
            "import sys\nsys.stderr.write('Own: x'); sys.exit(3)",
            {"tests": [{"input": "1", "output": "3"}]},
            "pair 1 of 1: the program ended with an error",
        ),
        ("def add(a, b)", {"tests": ["assert add(1, 2) == 3"]}, "no Python program that compiles"),
        ("def add(a, b): return a + b", {"tests": ["assert add(1, 2) == 3"]}, ""),
    ],
)
def test_a_program_that_fails_says_at_which_test_and_why(program: str, row: dict[str, object], reason: str) -> None:
    said = score("code", f"<answer>{program}</answer>", ADD, **row)  # type: ignore[arg-type]
    assert said.reason == reason
    assert said.applicable


@pytest.mark.parametrize(
    ("reply", "accuracy"),
    [
        (f"```python\n{ADD}\n```", 1.0),
        (f"Here is the program:\n```python\n{ADD}\n```\nIt adds.", 1.0),
        (ADD, 1.0),
        ("add", 0.0),
        ("yes", 0.0),
        (f"I would write {ADD}", 0.0),
    ],
)
def test_replies_without_a_tag_count_if_they_are_programs(reply: str, accuracy: float) -> None:
    assert score("code", reply, ADD, tests=["assert add(1, 2) == 3"]).accuracy == accuracy
