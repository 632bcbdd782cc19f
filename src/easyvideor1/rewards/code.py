"""Python programs: executed in the sandbox against the tests of the row, never compared by their names."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.answer import ColumnError, Reading, Rule, Verdict, cannot_judge, unread
from easyvideor1.rewards.code_names import containers, defined_names, library_imports, undefined_names
from easyvideor1.rewards.code_tests import TEST_COLUMNS, Tests, program_tree, read_tests
from easyvideor1.rewards.markup import without_fence
from easyvideor1.rewards.sandbox import Checked, Limits, Names, Run, run_checks, run_program

_LONGEST = 50_000
#: Seconds for all pairs of input and output of one program together; each has the limit of one program as well.
PAIRS_SECONDS = 30.0


def read_code(text: str, options: tuple[str, ...]) -> Reading | None:
    """A Python program that compiles: the last fenced block, or the whole text."""
    source = without_fence(text)
    if len(source) > _LONGEST:
        return unread("the program is too long")
    return Reading(source) if source and program_tree(source) else unread("no Python program that compiles")


def read_code_reply(text: str, options: tuple[str, ...]) -> Reading | None:
    """A fenced program, or a reply that is one as a whole: a word or a sum compiles as well and is none."""
    if "```" not in text:
        tree = program_tree(text.strip())
        if tree is None or all(isinstance(node, ast.Expr) and not _prints(node) for node in tree.body):
            return unread("no Python program that compiles")
    return read_code(text, options)


def _prints(node: ast.Expr) -> bool:
    return isinstance(node.value, ast.Call)


def _column_tests(row: Mapping[str, Any]) -> Tests | None:
    """The tests of the first column that holds any.

    Raises:
        ColumnError: the column cannot be used.
    """
    for column in TEST_COLUMNS:
        try:
            tests = read_tests(row.get(column))
        except ValueError as error:
            raise ColumnError(column, str(error)) from error
        if tests is not None:
            return tests
    return None


def _reference_tests(reference: str) -> Tests | None:
    """The tests of a reference that is JSON with ``tests``; ``None`` for a program."""
    if not reference.startswith("{"):
        return None
    try:
        data = json.loads(reference)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or "tests" not in data:
        return None
    try:
        tests = read_tests(data["tests"])
    except ValueError as error:
        raise ValueError(f'its "tests" cannot be used: {error}') from error
    if tests is None:
        raise ValueError('its "tests" are empty')
    return tests


def compare_code(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """The share of tests that pass; ``all_passed`` is 1 only if every one does.

    Tests are a string of Python (one test), a list of such strings (``assert add(1, 2) == 3``), ``{"input": ...,
    "output": ...}`` or a list of these for programs that read and print, or ``{"inputs": [...], "outputs": [...]}``;
    each also as JSON text. Outputs are compared line by line without trailing space. After a program that runs out of
    time the rest fail, and all together have ``PAIRS_SECONDS``. Without tests both programs run without input and must
    print the same; a reference that prints nothing judges nothing. Tests in Python run in another process than the
    program, see ``sandbox_calls``.
    """
    try:
        tests = _column_tests(row) or _reference_tests(reference)
    except ColumnError as error:
        return cannot_judge(error.cause)
    if tests is None:
        return _same_output(predicted, reference)
    if tests.checks:
        checked = run_checks(predicted, tests.checks, Limits(), names=_names(reference))
    else:
        checked = _run_pairs(predicted, tests.pairs)
    passed = checked.passed
    return Verdict(sum(passed) / len(passed), {"all_passed": float(all(passed))}, reason=checked.reason)


@lru_cache(maxsize=1000)
def _names(reference: str) -> Names:
    """What names mean in the tests, by the reference program; nothing in particular where it is tests alone."""
    tree = None if _reference_tests(reference) else program_tree(reference)
    return Names() if tree is None else Names(defined_names(tree), library_imports(tree), containers(tree))


def _run_pairs(program: str, pairs: Sequence[tuple[str, str]]) -> Checked:
    limits = Limits()
    passed: list[bool] = []
    reason = ""
    until = time.monotonic() + PAIRS_SECONDS
    for at, (given, wanted) in enumerate(pairs, 1):
        left = until - time.monotonic()
        if left <= 0:
            reason = reason or f"pair {at} of {len(pairs)}: the program ran out of time ({PAIRS_SECONDS:g} s for all)"
            break
        run = run_program(program, given, replace(limits, seconds=min(limits.seconds, left)))
        passed.append(run.ended and _lines(run.output) == _lines(wanted))
        if not passed[-1] and not reason:
            reason = f"pair {at} of {len(pairs)}: {run.reason or 'it printed something else'}"
        if run.timed_out:
            break  # one limit is all the time that a program gets to waste
    return Checked(passed + [False] * (len(pairs) - len(passed)), reason)


@lru_cache(maxsize=256)
def _reference_run(reference: str) -> Run:
    return run_program(reference, "", Limits())


def _same_output(predicted: str, reference: str) -> Verdict:
    truth = _reference_run(reference)
    if not truth.ended or not truth.output.strip():
        return cannot_judge("the row has no tests, and its reference program prints nothing to compare")
    run = run_program(predicted, "", Limits())
    same = run.ended and _lines(run.output) == _lines(truth.output)
    reason = "" if same else run.reason or "the program printed something else"
    return Verdict(float(same), {"all_passed": float(same)}, reason=reason)


def _lines(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().splitlines()]


def _reference(text: str, options: tuple[str, ...]) -> str:
    text = text.strip()
    if _reference_tests(text) is not None:
        return text
    reading = read_code(text, options)
    if reading is None or reading.value is None:
        raise ValueError("it is no Python program that compiles")
    return str(reading.value)


def _check_columns(row: Mapping[str, Any]) -> None:
    _column_tests(row)


def _fits(reference: str, row: Mapping[str, Any]) -> None:
    """Tests must not lean on what nobody but the program under test defines.

    Where the reference is tests without a program, its functions cannot be told from helpers.
    """
    tests = _column_tests(row)
    tree = program_tree(reference) if _reference_tests(reference) is None else None
    if tests is None or tree is None or not tests.checks:
        return
    if missing := undefined_names(tests.checks, tree):
        raise ValueError(
            f"the tests use {', '.join(missing)}, which neither the reference program nor the tests define or import, "
            "so that a program under test could define it as it likes; define or import it in the tests"
        )


CODE = Rule(
    read_code,
    _reference,
    compare_code,
    'a Python program, or JSON {"tests": [...]}',
    "block",
    columns=_check_columns,
    fits=_fits,
    read_reply=read_code_reply,
)
