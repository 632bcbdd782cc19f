"""A program that fails leaves a reason: which test, which exception, which limit."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.sandbox import Limits, run_checks

ADD = "def add(a, b):\n    return a + b"
#: What a program fails with, and how the reason says it.
REASONS = {
    "def add(a, b): return a - b": "test 2 of 3: AssertionError",
    "def add(a, b):\n    if b: raise OSError('text')\n    return a": "test 1 of 3: OSError",
    "def add(a, b, c): return 0": "test 1 of 3: TypeError",
    "raise ZeroDivisionError": "test 1 of 3: the program ended with ZeroDivisionError",
    "import os; os._exit(0)": "test 1 of 3: the program ended before it",
    "def add(a, b): return a + b": "",
}


@pytest.mark.parametrize("program", REASONS)
def test_the_reason_says_which_test_failed_and_of_what(program: str) -> None:
    tests = ["assert add(0, 0) == add(0, -0)", "assert add(1, 2) == 3", "assert add(2, 2) == 4"]
    if REASONS[program].startswith("test 1") and "add" in program:
        tests[0] = "assert add(0, 1) == 1"
    result = score("code", f"<answer>{program}</answer>", "def add(a, b): return a + b", tests=tests)
    assert (result.reason, result.applicable) == (REASONS[program], True)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(1)", "it printed something else"),
        ("raise KeyError('x')", "the program ended with KeyError"),
        ("class E(Exception): pass\nraise E", "the program ended with an exception of its own"),
        ("import sys; sys.exit('no')", "the program ended with an error"),
        ("import os; os.abort()", "the program crashed"),
        ("print('x' * (2 << 20))", "the program wrote more than it may"),
        ("x = input(); x = input()", "the program ended with EOFError"),
        ("x = bytearray(4 << 30)", "the program ended with MemoryError"),
        ("return 3", "the program ended with SyntaxError"),
    ],
)
def test_a_program_that_prints_says_why(program: str, reason: str) -> None:
    pairs = [{"input": "3", "output": "3"}]
    result = score("code", f"<answer>{program}</answer>", "print(input())", tests=pairs)
    assert (result.accuracy, result.reason) == (0.0, f"pair 1 of 1: {reason}")
    if "input" not in program:
        result = score("code", f"<answer>{program}</answer>", "print(3)")
        assert (result.accuracy, result.reason) == (0.0, reason.replace("it printed", "the program printed"))


FAILURES = {
    "def f(): return 2": "AssertionError",
    "def f(): raise ValueError('a text of its own')": "ValueError",
    "class Mine(ValueError): pass\ndef f(): raise Mine": "an exception of its own",
    "raise KeyError": "the program ended with KeyError",
    "class Mine(ValueError): pass\nraise Mine": "the program ended with an exception of its own",
    "x = bytearray(4 << 30)": "the program ended with MemoryError",
    "def f(): return [0] * (1 << 40)": "MemoryError",
    "def f(): return f()": "RecursionError",
    "def f(:": "the program ended with SyntaxError",
    "import os; os._exit(0)": "the program ended before it",
    "def f(): import os; os._exit(3)": "the program ended with an error",
    "import os; os.abort()": "the program crashed",
    "def f():\n    while True: pass": "the program ran out of time (1 s)",
    "while True: pass": "the program ran out of time (1 s)",
}


@pytest.mark.parametrize("program", FAILURES)
def test_the_first_failed_check_says_why(program: str) -> None:
    checked = run_checks(program, ["assert True or f()", "assert f() == 1"], Limits(seconds=1.0))
    assert checked.passed[1] is False
    assert checked.reason.partition(": ")[2] == FAILURES[program]


def test_a_program_that_passes_has_no_reason() -> None:
    assert run_checks("def f(): return 1", ["assert f() == 1"], Limits()).reason == ""


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
