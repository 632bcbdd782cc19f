"""Python programs: executed in the sandbox against the tests of the row, never compared by their names."""

from __future__ import annotations

import ast
import json
import threading
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from easyvideor1.rewards import geometry
from easyvideor1.rewards.answer import Reading, Rule, Verdict, cannot_judge
from easyvideor1.rewards.markup import without_fence
from easyvideor1.rewards.sandbox import Limits, Run, run_checks, run_program

#: Columns that may hold tests, in the order they are looked for.
TEST_COLUMNS = ("tests", "test_cases")
_LONGEST = 50_000
_MOST_TESTS = 64
#: The filters of warnings belong to the whole process.
_FILTERS = threading.Lock()


def compiles(source: str) -> bool:
    """Whether a text is a Python program; code that the compiler cannot stomach is none."""
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1if" and the like: what a response looks like is no news
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def read_code(text: str, options: tuple[str, ...]) -> Reading | None:
    """A Python program that compiles: the last fenced block, or the whole text."""
    source = without_fence(text)
    return Reading(source) if source and len(source) <= _LONGEST and compiles(source) else None


def _tests(reference: str, row: Mapping[str, Any]) -> Any:
    """The tests of a row: one of its columns, or the reference itself if that is JSON with ``tests``."""
    for column in TEST_COLUMNS:
        tests = row.get(column)
        if isinstance(tests, str) and tests.lstrip().startswith("["):
            # A list kept as text: as Python it would be an expression that always passes.
            return geometry.load_json(tests) or [{}]
        if tests is not None and len(tests):
            return tests
    if reference.startswith("{"):
        return json.loads(reference)["tests"]
    return None


def _well_formed(tests: Any) -> bool:
    if isinstance(tests, str):
        return compiles(tests)
    if not isinstance(tests, list | tuple) or not 0 < len(tests) <= _MOST_TESTS:
        return False
    if all(isinstance(test, str) for test in tests):
        return all(map(compiles, tests))
    return all(isinstance(t, Mapping) and isinstance(t.get("output"), str) for t in tests)


def compare_code(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """The share of tests that pass; ``all_passed`` is 1 only if every one does.

    Tests are a string of Python (one test), a list of such strings (``assert add(1, 2) == 3``), or a list of
    ``{"input": ..., "output": ...}`` for programs that read and print, whose outputs are compared line by line without
    trailing space; after one that runs out of time the rest fail. Without tests both programs run without input and
    must print the same; a reference that prints nothing judges nothing. Tests in Python share the process with the
    program, which could cheat them on purpose; input and output do not.
    """
    tests = _tests(reference, row)
    if tests is None:
        return _same_output(predicted, reference)
    if isinstance(tests, str):
        tests = [tests]
    if not _well_formed(tests):
        return cannot_judge("the tests of the row are neither Python nor {input, output} pairs")
    if isinstance(tests[0], str):
        passed = run_checks(predicted, list(tests), Limits())
    else:
        passed = []
        for test in tests:
            run = run_program(predicted, str(test.get("input") or ""), Limits())
            passed.append(run.ended and _lines(run.output) == _lines(test["output"]))
            if run.timed_out:
                break  # one limit is all the time that a program gets to waste
        passed += [False] * (len(tests) - len(passed))
    share = sum(passed) / len(passed)
    return Verdict(share, {"all_passed": float(all(passed))})


@lru_cache(maxsize=256)
def _reference_run(reference: str) -> Run:
    return run_program(reference, "", Limits())


def _same_output(predicted: str, reference: str) -> Verdict:
    truth = _reference_run(reference)
    if not truth.ended or not truth.output.strip():
        return cannot_judge("the row has no tests, and its reference program prints nothing to compare")
    run = run_program(predicted, "", Limits())
    same = run.ended and _lines(run.output) == _lines(truth.output)
    return Verdict(float(same), {"all_passed": float(same)})


def _lines(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().splitlines()]


def _reference(text: str, options: tuple[str, ...]) -> str:
    text = text.strip()
    if text.startswith("{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict) and "tests" in data:
            if not _well_formed(data["tests"]):
                raise ValueError('its "tests" are neither Python nor {"input", "output"} pairs')
            return text
    reading = read_code(text, options)
    if reading is None:
        raise ValueError("it is no Python program that compiles")
    return str(reading.value)


CODE = Rule(read_code, _reference, compare_code, 'a Python program, or JSON {"tests": [...]}', "block")
