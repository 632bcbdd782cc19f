"""Tests for programs, read from the columns of a row: what tests nothing is refused, because it would pay everybody."""

from __future__ import annotations

import ast
import json
import symtable
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.characters import piles_marks

#: Columns that may hold tests, in the order they are looked for.
TEST_COLUMNS = ("tests", "test_cases")
_MOST_TESTS = 64
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
#: The filters of warnings belong to the whole process.
_FILTERS = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tests:
    """Either ``checks``, Python that raises when a program is wrong, or ``pairs`` of what it reads and must print."""

    checks: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


def program_tree(source: str) -> ast.Module | None:
    """The syntax tree of a Python program; ``None`` for a text that the compiler cannot stomach."""
    if piles_marks(source):
        return None  # Python normalises its identifiers, in quadratic time
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1if" and the like: what a response looks like is no news
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def symbol_table(source: str) -> symtable.SymbolTable | None:
    """The names of a program by scope; ``None`` for a text that the compiler cannot stomach."""
    if piles_marks(source):
        return None
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return symtable.symtable(source, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_tests(value: Any) -> Tests | None:
    """Tests in one of the forms of ``compare_code``, as values or as JSON text; ``None`` for null and empty ones.

    A text that begins with ``[`` or ``{`` is JSON and never Python: as Python it would be an expression that nothing
    can fail.

    Raises:
        ValueError: the value is in none of the forms, or holds a test that every program passes.
    """
    if isinstance(value, str):
        value = value.strip()
        if value[:1] in ("[", "{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError("it begins like JSON and is none") from None
        elif value:
            value = [value]
    if value is None or (isinstance(value, str | Sequence | Mapping) and not value):
        return None
    entries: Any = _pairs_of(value) if isinstance(value, Mapping) else value
    if not isinstance(entries, list | tuple):
        raise ValueError(f"it is {type(value).__name__}, neither Python nor input and output")
    if len(entries) > _MOST_TESTS:
        raise ValueError(f"it has {len(entries)} tests, more than {_MOST_TESTS}")
    if all(isinstance(entry, str) for entry in entries):
        for entry in entries:
            _require_assertion(entry)
        return Tests(checks=tuple(entries))
    if not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError("its entries are neither all Python nor all input and output")
    pairs = tuple((_text(entry, "input"), _text(entry, "output")) for entry in entries)
    if not any(output.strip() for _, output in pairs):
        raise ValueError("every output is blank, so a program that does nothing would pass")
    return Tests(pairs=pairs)


def _pairs_of(value: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """One ``{"input", "output"}``, or the parallel lists ``{"inputs", "outputs"}``."""
    if value.get("fn_name") is not None:
        raise ValueError('it calls a function by "fn_name"; write such tests as Python, "assert add(1, 2) == 3"')
    if "inputs" not in value and "outputs" not in value:
        return [value]
    inputs, outputs = value.get("inputs"), value.get("outputs")
    if not isinstance(inputs, list | tuple) or not isinstance(outputs, list | tuple) or not outputs:
        raise ValueError('"inputs" and "outputs" must be lists that are not empty')
    if len(inputs) != len(outputs):
        raise ValueError(f"it has {len(inputs)} inputs for {len(outputs)} outputs")
    return [{"input": given, "output": wanted} for given, wanted in zip(inputs, outputs, strict=True)]


def _text(entry: Mapping[Any, Any], name: str) -> str:
    value = entry.get(name)
    if value is None and name == "input":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        shown = f"is {type(value).__name__}" if name in entry else "is missing"
        raise ValueError(f'the "{name}" of a test {shown}; it must be text or a number')
    return str(value)


@lru_cache(maxsize=1024)  # of one row it is asked twice: of the column by itself, and with the reference
def _require_assertion(check: str) -> None:
    tree = program_tree(check)
    shown = check if len(check) <= 60 else check[:60] + "..."
    if tree is None:
        raise ValueError(f"the test {shown!r} is no Python that compiles")
    if not _can_fail(tree):
        raise ValueError(f'the test {shown!r} asserts nothing; write it as "assert add(1, 2) == 3"')


def _can_fail(tree: ast.Module) -> bool:
    """Whether running a check reaches an ``assert`` or ``raise``, by itself or in a function that it calls.

    Functions count when the check defines them with an assertion inside, or by a name such as ``assert_allclose`` or
    ``check``. An ``assert`` of a constant or of a tuple never fails.
    """
    asserting = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_asserts, ast.walk(node)))
    }
    for node in executed(tree):
        if _asserts(node):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in asserting or is_assertion_name(name):
                return True
    return False


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return not isinstance(node.test, ast.Constant | ast.Tuple)
    return isinstance(node, ast.Raise)


def is_assertion_name(name: str) -> bool:
    """Whether a function of this name is taken to raise when something is wrong."""
    return name.lower().startswith(("assert", "check"))


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes outside the bodies of functions."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, _FUNCTIONS)]
