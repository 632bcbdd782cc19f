"""Tests of programs: how a row gives them, and which of their names the program under test has to define.

A test that every program passes is refused, because it would pay every response. The program defines the names that the
tests ask for: those that the reference program defines. It does not define what the tests only use: what the tests
define, and what they or the reference import from the standard library or numpy, is looked up where the program never
is. A helper that only the program defines would let the program judge itself, so such tests are refused.
"""

from __future__ import annotations

import ast
import builtins
import json
import symtable
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from easyvideor1.rewards.readers.plain_text import piles_marks
from easyvideor1.rewards.sandbox import Names

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
    """The syntax tree of a Python program; ``None`` for a text that does not compile."""
    if piles_marks(source):
        return None  # Python normalises its identifiers, in quadratic time
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "1if" and the like: the text of a response is no reason to warn
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def symbol_table(source: str) -> symtable.SymbolTable | None:
    """The names of a program by scope; ``None`` for a text that does not compile."""
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

    A text that begins with ``[`` or ``{`` is JSON and never Python: as Python it would be an expression that always
    passes.

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


@lru_cache(maxsize=1024)  # called twice for one row: for the column by itself, and with the reference
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


_IMPORTABLE = frozenset((*sys.stdlib_module_names, "numpy")) - {"__main__", "__future__"}
_BUILTIN = frozenset(dir(builtins)) | {"__file__", "__builtins__"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(slots=True)
class _Scope:
    """The names that the top level of a source binds, imports (name -> statement) and uses without binding them."""

    bound: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    foreign_star: bool = False


def names_of(reference: str, checks: Sequence[str]) -> Names:
    """The names that checks use, by where they are looked up.

    A ``reference`` that defines no function, no class and no name of the checks does not tell what they ask for
    (``pass``, or JSON with tests). Then the program has to define every name that the checks neither define nor import,
    and only what is plainly not under test is refused; see ``_refuse_judges``.

    Raises:
        ValueError: the checks use a helper that only the program defines.
    """
    tests = _scope(checks)
    tree = program_tree(reference)
    theirs = _scope([reference])
    defined = {node.name for node in tree.body if isinstance(node, _DEFINITIONS)} if tree else set()
    imports = {name: how for name, how in theirs.imports.items() if name not in defined} | tests.imports
    own = (theirs.bound - set(imports)) | defined
    free = tests.used - tests.bound - set(imports) - _BUILTIN
    stars = tuple(dict.fromkeys((*theirs.stars, *tests.stars)))
    known = bool(defined or (own & free))
    if not known:
        own = set()
        _refuse_judges(checks, free)
    elif not stars and not theirs.foreign_star and (missing := sorted(free - own)):
        raise ValueError(
            f"the tests use {', '.join(missing)}, which neither the reference program nor the tests define or import, "
            "so that a program under test could define it as it likes; define or import it in the tests"
        )
    written = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] if tree else []
    classes = frozenset((*(node.name for node in written), *(name for name in own if name[:1].isupper())))
    containers = frozenset(node.name for node in written if node.bases or _says_what_is_in_it(node))
    closed = frozenset(tests.bound - own)
    only = known and not theirs.foreign_star
    return Names(frozenset(own), classes, containers, tuple(imports.items()), stars, closed, only)


def asked_names(reference: str, checks: Sequence[str]) -> frozenset[str]:
    """The names that checks use and a program under test has to define."""
    names, used = names_of(reference, checks), _scope(checks).used
    if names.only:
        return names.own & used
    return frozenset(used - names.closed - {name for name, _ in names.imports} - (_BUILTIN - names.own))


def _says_what_is_in_it(node: ast.ClassDef) -> bool:
    return any(isinstance(part, ast.FunctionDef) and part.name == "__contains__" for part in node.body)


def _scope(sources: Sequence[str]) -> _Scope:
    scope = _Scope()
    for source in sources:
        tree, table = program_tree(source), symbol_table(source)
        if tree is None or table is None:
            continue  # it is refused, or fails, elsewhere
        for symbol in table.get_symbols():
            if symbol.is_assigned() or symbol.is_imported():
                scope.bound.add(symbol.get_name())
            if symbol.is_referenced():
                scope.used.add(symbol.get_name())
        for inner in _inner(table):
            for symbol in inner.get_symbols():
                if symbol.is_global():
                    (scope.bound if symbol.is_assigned() else scope.used).add(symbol.get_name())
        for node in executed(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                _note_imports(node, scope)
    return scope


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    waiting = list(table.get_children())
    while waiting:
        inner = waiting.pop()
        yield inner
        waiting += inner.get_children()


def _note_imports(node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
    """Note what a statement imports from the standard library or numpy; other modules stay with the program."""
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        known = module.partition(".")[0] in _IMPORTABLE and not getattr(node, "level", 0)
        if alias.name == "*":
            if known:
                scope.stars.append(f"from {module} import *")
            scope.foreign_star = scope.foreign_star or not known
        elif known:
            name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
            single = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(module, [alias], 0)
            scope.imports[name] = ast.unparse(single)


def _refuse_judges(checks: Sequence[str], free: set[str]) -> None:
    """Without a reference program, refuse what is plainly not under test.

    That is a module that is not imported (``math.isclose``), a function that asserts by its name alone
    (``check(add(1, 2), 3)``), and one that only checks another one's result (``assert close(area(2), 12.57)``).

    Raises:
        ValueError: the checks hold one; the message names it.
    """
    remedy = "define or import it in the tests, or give a reference program that defines it"
    for check in checks:
        tree = program_tree(check)
        asserted: set[int] = set()
        alone: set[int] = set()
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in free:
                name = node.value.id
                if name in _IMPORTABLE or name == "np":
                    raise ValueError(f"the tests use {name}, and nobody but the program imports it; {remedy}")
            if isinstance(node, ast.Assert):
                asserted |= {id(part) for part in _truths(node.test)}
            elif isinstance(node, ast.Expr):
                alone.add(id(node.value))
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in free:
                continue
            name = node.func.id
            others = _called([*node.args, *node.keywords], free) - {name}
            judges = is_assertion_name(name) and (others or id(node) in alone)
            if judges or (others and id(node) in asserted):
                raise ValueError(f"the tests ask {name} about a result, and nobody else defines it; {remedy}")


def _truths(test: ast.expr) -> Iterator[ast.expr]:
    """The parts of a condition that are only tested for truth."""
    waiting = [test]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, ast.BoolOp):
            waiting += part.values
        elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not):
            waiting.append(part.operand)


def _called(nodes: Sequence[ast.AST], free: set[str]) -> set[str]:
    """Names among ``free`` that are called somewhere below."""
    return {
        part.func.id
        for node in nodes
        for part in ast.walk(node)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in free
    }
