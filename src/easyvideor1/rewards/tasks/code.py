"""Python programs: run in the sandbox against the tests of the row."""

from __future__ import annotations

import ast
import builtins
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from textwrap import dedent
from typing import Any

from easyvideor1.rewards.readers.plain_text import Block, fenced_blocks, is_displayed
from easyvideor1.rewards.sandbox import Checked, Limits, Names, ProgramRun, run_checks, run_program
from easyvideor1.rewards.tasks.code_tests import TEST_COLUMNS, Tests, asked_names, names_of, program_tree, read_tests
from easyvideor1.rewards.types import ColumnError, Reading, Rule, Verdict, cannot_judge, unread

_LONGEST = 50_000
NO_PROGRAM = "no Python program that compiles"
TOO_LONG = "the program is too long"
#: What the fence of a Python program may say.
_LANGUAGES = frozenset(("", "python", "python3", "py", "py3", "code", "tool_code", "{python}"))
_BUILTINS = frozenset(dir(builtins))
_STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.For,
    ast.While,
    ast.If,
    ast.With,
    ast.Try,
)
_EMPTY_FUNCTION = "def %s(*args, **named): return []"
_EMPTY_CLASS = """class %s:
    def __init__(self, *args, **named): pass
    def __getattr__(self, name): return lambda *args, **named: []"""
#: Seconds for all pairs of input and output of one program together; each has the limit of one program as well.
PAIRS_SECONDS = 30.0


def read_code(text: str, options: tuple[str, ...]) -> Reading:
    """A Python program that compiles: the last fenced block that holds one, or the whole text."""
    blocks = [block for block in fenced_blocks(text) if block.language in _LANGUAGES]
    for block in reversed(blocks):
        source = _program(block)
        if source is not None:
            as_asked = block.closed and block is blocks[-1] and source == block.content.strip()
            return Reading(source, canonical=as_asked)
    return _read_bare(text)


def read_code_reply(text: str, options: tuple[str, ...]) -> Reading:
    """A reply that shows a program in a fence of its own, or that is a program as a whole; the last one counts.

    Words compile, too ("yes" is an expression), so text without a fence must do something.
    """
    for block in reversed(fenced_blocks(text)):
        if block.closed and block.language in _LANGUAGES and is_displayed(text, block):
            source = _program(block)
            if source is not None:
                return Reading(source, canonical=False)
    reading = _read_bare(text)
    tree = program_tree(reading.value) if reading.value is not None else None
    if tree is None or any(map(_acts, tree.body)):
        return reading
    return unread(NO_PROGRAM)


def _read_bare(text: str) -> Reading:
    source = text.strip()
    if len(source) > _LONGEST:
        return unread(TOO_LONG)
    return Reading(source) if source and program_tree(source) else unread(NO_PROGRAM)


def _program(block: Block) -> str | None:
    """The program in a fenced block; ``None`` if there is none, or if the block is printed output."""
    source = block.content.strip()
    if not source or len(source) > _LONGEST:
        return None
    tree = program_tree(source)
    if tree is None and block.content[:1] in " \t":
        source = dedent(block.content).strip()  # a block within a list
        tree = program_tree(source)
    if tree is None or not (block.language or any(not isinstance(node, ast.Expr) or _acts(node) for node in tree.body)):
        return None
    return source


def _acts(node: ast.stmt) -> bool:
    """Whether a statement cannot be mistaken for words and numbers."""
    if isinstance(node, ast.Expr | ast.Assign):
        value = node.value
        if isinstance(value, ast.Call) and isinstance(node, ast.Expr):
            return isinstance(value.func, ast.Attribute) or getattr(value.func, "id", "") in _BUILTINS
        return isinstance(node, ast.Assign) and isinstance(value, ast.Call | ast.Lambda | ast.ListComp | ast.DictComp)
    return isinstance(node, _STATEMENTS)


def _column_tests(row: Mapping[str, Any]) -> tuple[str, Tests] | None:
    """The first column that holds any tests, and these.

    Raises:
        ColumnError: the column cannot be used.
    """
    for column in TEST_COLUMNS:
        try:
            tests = read_tests(row.get(column))
        except ValueError as error:
            raise ColumnError(column, str(error)) from error
        if tests is not None:
            return column, tests
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


@lru_cache(maxsize=1000)
def _names(reference: str, tests: Tests) -> Names:
    """The names that the program under test has to define, and those that it must not.

    Raises:
        ValueError: the tests use a helper that only the program defines.
    """
    return names_of(reference, tests.checks)


def _tests_of(reference: str, row: Mapping[str, Any]) -> tuple[Tests, Names] | None:
    """The tests of a row and their names; ``None`` where only two outputs are compared.

    Raises:
        ColumnError: a column cannot be used.
    """
    found = _column_tests(row)
    if found is None:
        tests = _reference_tests(reference)
        return None if tests is None else (tests, _names(reference, tests))
    column, tests = found
    try:
        return tests, _names(reference, tests)
    except ValueError as error:
        raise ColumnError(column, str(error)) from error


def compare_code(predicted: str, reference: str, row: Mapping[str, Any]) -> Verdict:
    """The share of tests that pass; ``all_passed`` is 1 only if every one does.

    Tests are a string of Python (one test), a list of such strings (``assert add(1, 2) == 3``), ``{"input": ...,
    "output": ...}`` or a list of these for programs that read and print, or ``{"inputs": [...], "outputs": [...]}``;
    each also as JSON text. Outputs are compared line by line without trailing space. After a program that runs out of
    time the rest fail, and all together have 30 seconds. Without tests both programs run without input and must
    print the same; a reference that prints nothing cannot be used. Tests in Python run in another process than the
    program, see ``sandbox.calls``.
    """
    try:
        found = _tests_of(reference, row)
    except ColumnError as error:
        return cannot_judge(error.cause)
    if found is None:
        return _same_output(predicted, reference)
    tests, names = found
    if tests.checks:
        checked = run_checks(predicted, tests.checks, Limits(), names=names)
    else:
        checked = _run_pairs(predicted, tests.pairs)
    passed = checked.passed
    return Verdict(sum(passed) / len(passed), {"all_passed": float(all(passed))}, reason=checked.reason)


def empty_program(reference: str, row: Mapping[str, Any]) -> str | None:
    """A program that answers every call of a row's tests with an empty list; ``None`` for a row without such tests.

    Tests that it passes check nothing.
    """
    found = _tests_of(reference, row)
    if found is None or not found[0].checks:
        return None
    names = sorted(asked_names(reference, found[0].checks))
    return "\n".join(_EMPTY_CLASS if name[:1].isupper() else _EMPTY_FUNCTION for name in names) % tuple(names)


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
        if not passed[-1]:
            reason = reason or f"pair {at} of {len(pairs)}: {_told(run)}"
        if run.timed_out:
            break  # a program may use up one limit only
    return Checked(passed + [False] * (len(pairs) - len(passed)), reason)


def _told(run: ProgramRun) -> str:
    if run.timed_out:
        return "the program ran out of time"  # what was left of it differs from run to run
    return run.reason or "it printed something else"


@lru_cache(maxsize=256)
def _reference_run(reference: str) -> ProgramRun:
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
    tests = _reference_tests(text)
    if tests is not None:
        _names(text, tests)
        return text
    reading = read_code(text, options)
    if reading.value is None:
        raise ValueError("it is no Python program that compiles")
    return str(reading.value)


def _check_columns(row: Mapping[str, Any]) -> None:
    _column_tests(row)


def _fits(reference: str, row: Mapping[str, Any]) -> None:
    _tests_of(reference, row)


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
