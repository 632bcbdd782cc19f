"""What tests lean on is never the program's, and what they ask for is."""

from __future__ import annotations

import json

import pytest

from easyvideor1.rewards import check_answer, score
from easyvideor1.rewards.sandbox import Limits, run_checks
from easyvideor1.rewards.tasks.code_tests import names_of
from easyvideor1.rewards.types import ColumnError
from easyvideor1.types import DataError

LIMITS = Limits(seconds=5.0)
AREA = "import math\nfrom collections import Counter\ndef area(r): return math.pi * r * r\nclass Shape: pass\nlimit = 3"
TAKEN = {
    "what the reference defines": ["assert area(1) < limit + 1 and isinstance(Shape(), Shape)"],
    "what it imports": ["assert math.isclose(area(0), 0) and Counter([area(0)])"],
    "what a test imports": ["import numpy as np\nassert np.allclose(area(0), 0)", "assert np.ones(1).sum() > area(0)"],
    "what a test defines": [
        "def near(a, b): return abs(a - b) < 1e-6\nassert near(area(0), 0)",
        "assert near(0, area(0))",
    ],
    "names of its own": [
        "for r in (0, 1):\n    assert all(area(r) >= x for x in [0])",
        "assert (lambda q: q)(area(0)) == 0",
    ],
    "a function of the test that uses the program": ["def run():\n    got = area(0)\n    assert got == 0\nrun()"],
    "python's own": ["assert abs(area(0)) == 0 and __name__"],
}
REFUSED_TESTS = {
    "a helper": (["assert close(area(2), 12.57)"], r"\bclose\b"),
    "a helper in the second test": (["assert area(0) == 0", "assert near(area(2), 12.57)"], r"\bnear\b"),
    "a helper inside a function": (["def run():\n    assert close(area(0), 0)\nrun()"], r"\bclose\b"),
    "a checker": (["check(area)"], r"\bcheck\b"),
    "a module": (["assert area(0) == 0", "assert np.allclose(area(0), 0)"], r"\bnp\b"),
    "a constant": (["assert abs(area(0)) < TOLERANCE"], r"\bTOLERANCE\b"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_tests_whose_helpers_are_their_own_are_taken(name: str) -> None:
    check_answer("code", AREA, row={"tests": TAKEN[name]})
    result = score("code", f"<answer>{AREA}</answer>", AREA, tests=TAKEN[name])
    assert (result.accuracy, result.reason) == (1.0, "")


@pytest.mark.parametrize("name", REFUSED_TESTS)
def test_tests_whose_helpers_only_the_program_defines_are_refused(name: str) -> None:
    tests, helper = REFUSED_TESTS[name]
    with pytest.raises(ColumnError, match=helper) as caught:
        check_answer("code", AREA, row={"tests": tests})
    assert caught.value.column == "tests"
    assert "define or import it in the tests" in str(caught.value)
    result = score("code", "<answer>def close(*_): return True\ndef area(r): return 0</answer>", AREA, tests=tests)
    assert (result.accuracy, result.applicable) == (0.0, False)
    assert "tests" in result.reason


@pytest.mark.parametrize(
    ("test", "helper"),
    [
        ("assert close(area(2), 12.57)", r"\bclose\b"),
        ("assert area(0) == 0 and not far(area(2), 12.57)", r"\bfar\b"),
        ("check(area(2), 12.57)", r"\bcheck\b"),
        ("check(area)", r"\bcheck\b"),
        ("assert math.isclose(area(2), 12.57)", r"\bmath\b"),
        ("assert np.allclose(area(2), 12.57)", r"\bnp\b"),
    ],
)
def test_tests_without_a_program_may_not_ask_it_for_its_own_judgement(test: str, helper: str) -> None:
    for answer, row in ((json.dumps({"tests": [test]}), {}), ("pass", {"tests": [test]})):
        with pytest.raises(DataError, match=helper):
            check_answer("code", answer, row=row)
        assert not score("code", "<answer>x = 1</answer>", answer, **row).applicable


def test_tests_without_a_program_may_name_anything_that_is_tested() -> None:
    for test in ("assert add(add(1, 2), 3) == 6", "s = Stack()\ns.push(1)\nassert s.pop() == 1", "assert is_odd(3)"):
        check_answer("code", json.dumps({"tests": [test]}))


REFERENCE = "import math\nimport numpy as np\nfrom collections import Counter\nfrom heapq import *\ndef f(x): return 0"
HELPERS = {
    "a module": ("class math: isclose = staticmethod(lambda *_: True)", "assert math.isclose(f(1), 2)"),
    "a module by another name": ("class np: allclose = staticmethod(lambda *_: True)", "assert np.allclose(f(1), 2)"),
    "a class": ("def Counter(x): return 0", "assert Counter([f(1)]) == Counter([2])"),
    "a star": ("def nlargest(*_): return [2]", "assert nlargest(1, [f(1)]) == [2]"),
    "a module that the test imports": ("class cmath: sqrt = abs", "import cmath\nassert cmath.sqrt(f(1)) == 2"),
    "what nobody defines": ("def near(*_): return True", "assert near(f(1), 2)"),
}


@pytest.mark.parametrize("name", HELPERS)
def test_what_tests_lean_on_is_not_the_programs(name: str) -> None:
    helper, test = HELPERS[name]
    program = f"{helper}\ndef f(x): return 0"
    names = names_of(REFERENCE, [test])
    assert run_checks(program, [test], LIMITS, names=names).passed == [False]
    right = test.replace("f(1)", "f(1) + 2")
    if name != "what nobody defines":
        assert run_checks(
            "def f(x): return 0", [right.replace("sqrt(f(1) + 2)", "sqrt(f(1) + 4)")], LIMITS, names=names
        ).passed == [True]


def test_a_test_that_fails_before_its_import_leaves_no_room_for_another_module() -> None:
    checks = ["assert f(1) == 1\nimport math", "assert math.isclose(f(1), 5)"]
    program = "class math: isclose = staticmethod(lambda *_: True)\ndef f(x): return 2"
    assert run_checks(program, checks, LIMITS, names=names_of("def f(x): return 5", checks)).passed == [False, False]


def test_a_function_that_the_program_lacks_is_not_pythons() -> None:
    reference, test = "def sum(numbers): return 3", "assert sum([1, 2]) == 3"
    assert score("code", "<answer>x = 1</answer>", reference, tests=[test]).accuracy == 0.0
    assert score("code", f"<answer>{reference}</answer>", reference, tests=[test]).accuracy == 1.0


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
