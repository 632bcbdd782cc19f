"""Whose names a test uses: those of the program under test, of the reference, of a library, or nobody's."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Sequence

from easyvideor1.rewards.code_tests import program_tree

_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: Libraries that tests may use beside the standard one.
_LIBRARIES = frozenset((*sys.stdlib_module_names, "numpy"))


def defined_names(tree: ast.Module) -> frozenset[str]:
    """Functions and classes at the top of a program: what a program under test is asked to define."""
    return frozenset(node.name for node in tree.body if isinstance(node, _DEFINING))


def containers(tree: ast.Module) -> frozenset[str]:
    """Classes of a program that say themselves what is in them."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return frozenset(
        node.name
        for node in classes
        if any(isinstance(part, ast.FunctionDef) and part.name == "__contains__" for part in node.body)
    )


def library_imports(tree: ast.Module) -> tuple[str, ...]:
    """The import statements at the top of a program, as far as they name the standard library or numpy."""
    return tuple(ast.unparse(node) for node in tree.body if _is_library(node))


def _is_library(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and (node.module or "").partition(".")[0] in _LIBRARIES
    return isinstance(node, ast.Import) and all(alias.name.partition(".")[0] in _LIBRARIES for alias in node.names)


def undefined_names(checks: Sequence[str], reference: ast.Module) -> list[str]:
    """Names that checks use and that neither they, nor Python, nor a reference program defines or imports.

    A name counts as defined by the checks if any of them binds it anywhere. After a star import nothing is missing, and
    neither where the reference defines nothing that the checks use: it is no solution then, and the functions that are
    asked for cannot be told from helpers.
    """
    trees = [tree for check in checks if (tree := program_tree(check)) is not None]
    if any(_has_star(tree) for tree in (reference, *trees)):
        return []
    defined = _bound(reference, top_only=True)
    known = defined | set(vars(builtins)) | {"__name__"}
    for tree in trees:
        known |= _bound(tree, top_only=False)
    used = {
        node.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return sorted(used - known) if used & defined else []


def _has_star(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.alias) and node.name == "*" for node in ast.walk(tree))


def _bound(tree: ast.Module, *, top_only: bool) -> set[str]:
    """Names that a program binds: at its top (in branches and loops too), or anywhere."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINING):
            found.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
        if not (top_only and isinstance(node, (*_DEFINING, ast.Lambda))):
            waiting += ast.iter_child_nodes(node)
    return found
