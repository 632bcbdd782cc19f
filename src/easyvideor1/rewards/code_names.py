"""Whose the names are that tests use: the program's, or those of the side that checks.

What the tests ask for is the program's to define: what the reference program defines. What tests lean on is not: what
the tests define, and what they or the reference import from the standard library or numpy, is looked up where the
program never is. A helper that nobody but the program defines would let it judge itself, so such tests are refused.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyvideor1.rewards.code_tests import executed, is_assertion_name, program_tree, symbol_table

_IMPORTABLE = frozenset((*sys.stdlib_module_names, "numpy")) - {"__main__", "__future__"}
_BUILTIN = frozenset(dir(builtins)) | {"__file__", "__builtins__"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of tests are looked up.

    Attributes:
        own: names that are the program's, also where Python has one of that name.
        classes: names of classes that the program is asked for.
        containers: those among them that say themselves what is in them.
        imports: names that are imported on the side of the checks, with the statement that does it.
        stars: ``from module import *``, of which nobody knows what it brings.
        closed: names of the tests, which are never the program's.
        only: whether the names in ``own`` are all that is the program's.
    """

    own: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()
    imports: tuple[tuple[str, str], ...] = ()
    stars: tuple[str, ...] = ()
    closed: frozenset[str] = frozenset()
    only: bool = False

    def settings(self) -> dict[str, Any]:
        """The same as JSON values, for the process of the checks."""
        return {
            "own": sorted(self.own),
            "classes": sorted(self.classes),
            "containers": sorted(self.containers),
            "imports": dict(self.imports),
            "stars": list(self.stars),
            "closed": sorted(self.closed),
            "only": self.only,
        }


@dataclass(slots=True)
class _Scope:
    """What the top level of a source binds, imports (name -> statement) and uses without binding it."""

    bound: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    foreign_star: bool = False


def names_of(reference: str, checks: Sequence[str]) -> Names:
    """The names that checks use, sorted by whose they are.

    A ``reference`` that defines no function, no class and no name of the checks says nothing about what they ask for
    (``pass``, or JSON with tests). Then every name is the program's that the checks neither define nor import, and only
    what cannot be meant is refused; see ``_refuse_judges``.

    Raises:
        ValueError: the checks lean on a helper that nobody but the program defines.
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
            continue  # it is refused, or fails, for what it is
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
    """Without a reference program, refuse what is plainly no function under test.

    That is a module that nobody imports (``math.isclose``), what asserts by its name alone (``check(add(1, 2), 3)``),
    and a function that is only asked whether another one's result is right (``assert close(area(2), 12.57)``).

    Raises:
        ValueError: the checks hold one; its name is told.
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
    """The parts of a condition of which nothing but the truth is looked at."""
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
