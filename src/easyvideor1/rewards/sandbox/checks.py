"""What a check of a program sees: the names that it may use, and guarded comparisons with numpy arrays.

numpy broadcasts a single value to the shape of the array beside it, and beside an empty array to an empty one. So
``np.allclose([], 4)`` is true, and so is ``(np.array([]) == 4).all()``: ``def f(x): return []`` would pass. Here such a
comparison is a failed assertion, but only in a check in which the program returned something empty and received nothing
empty. In other checks an empty array is the check's own (``np.diff`` of one number) or right (``f([])``).

Standard library only; ``runner.py`` loads this file by its path, in the process of the checks.
"""

from __future__ import annotations

import ast
import builtins
import operator
import sys
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Protocol


class Namespace(dict[str, Any]):
    """The names that a check sees: its own, those that are imported for it, Python's, and then the program's.

    ``names`` are the settings of ``processes.Names``.
    """

    def __init__(self, link: Any, names: dict[str, Any]) -> None:
        super().__init__(__name__="__main__")
        self._link = link
        self._names = names
        self._brought: dict[str, Any] | None = None
        link.classes |= set(names["classes"])
        link.containers |= set(names["containers"])

    def __missing__(self, name: str) -> Any:
        if name in self._names["own"]:
            return self._of_the_program(name)
        if name in self._names["imports"]:
            found: dict[str, Any] = {}
            exec(self._names["imports"][name], found)
            return self.setdefault(name, found[name])
        if name.startswith("__") or hasattr(builtins, name):
            raise KeyError(name)
        if self._brought is None:
            self._brought = {}
            exec("\n".join(self._names["stars"]), self._brought)
        if name in self._brought:
            return self._brought[name]
        if self._names["only"] or name in self._names["closed"]:
            raise KeyError(name)
        return self._of_the_program(name)

    def _of_the_program(self, name: str) -> Any:
        if name[:1].isupper():
            self._link.classes.add(name)  # a class by its spelling
            if not self._names["only"]:
                self._link.containers.add(name)
        try:
            return self._link.ask("name", name)
        except KeyError:
            # Where Python has such a name it must not stand in for what the program lacks.
            raise NameError(f"name {name!r} is not defined") from None


#: Functions of numpy that stretch the first two of their arguments to one shape and compare or subtract them.
_FUNCTIONS = {
    "numpy": (
        *("allclose", "isclose", "array_equiv", "equal", "not_equal"),
        *("less", "less_equal", "greater", "greater_equal", "subtract"),
    ),
    "numpy.testing": (
        *("assert_allclose", "assert_equal", "assert_almost_equal", "assert_array_equal", "assert_array_less"),
        *("assert_array_almost_equal", "assert_array_almost_equal_nulp", "assert_array_max_ulp"),
    ),
}
#: What those two are called where they are given by name.
_GIVEN = ("a", "b", "actual", "desired", "x", "y")
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Sub: "sub",
}
#: What a check calls in place of the operators of ``_OPERATORS``; no name of Python's has a blank.
_PREFIX = "guarded "


class Link(Protocol):
    """What is needed of ``calls.Link``."""

    said_nothing: bool


class Guard:
    """Watches the comparisons of the checks in this process.

    Args:
        link: knows whether the program returned something empty in this check and received nothing empty.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        sys.meta_path.insert(0, _Imports(self))

    def operators(self) -> dict[str, Callable[[Any, Any], Any]]:
        """What a compiled check calls, by name."""
        return {_PREFIX + name: self._operator(getattr(operator, name)) for name in _OPERATORS.values()}

    def _operator(self, operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        link = self._link

        def apply(left: Any, right: Any) -> Any:
            if link.said_nothing and (_is_array(left) or _is_array(right)):
                self.look(left, right)
            return operate(left, right)

        return apply

    def look(self, left: Any, right: Any) -> None:
        """Look at two values that numpy is about to compare.

        Raises:
            AssertionError: one of them is empty, the other is not, and the program returned something empty.
        """
        asked = self._link.said_nothing and left is not None and right is not None
        if asked and _has_elements(left) != _has_elements(right):
            raise AssertionError("an empty array is compared with a value")

    def function(self, done: Any) -> Any:
        """A function of numpy that first looks at its arguments."""
        return _Function(done, self)


class _Function:
    """A guarded function or ufunc, with all attributes of the one that it stands for."""

    def __init__(self, done: Any, guard: Guard) -> None:
        self._done = done
        self._guard = guard
        self.__doc__ = done.__doc__

    def __call__(self, *args: Any, **named: Any) -> Any:
        both = [*args, *(named[name] for name in _GIVEN if name in named)][:2]
        if len(both) == 2:
            self._guard.look(*both)
        return self._done(*args, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._done, name)


class _Imports:
    """Guards the functions of numpy when a check imports it, whichever way."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _FUNCTIONS:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute: Callable[[Any], None] = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                for function in _FUNCTIONS[name]:
                    if hasattr(module, function):
                        setattr(module, function, self._guard.function(getattr(module, function)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def compiled(check: str) -> CodeType:
    """A check whose comparisons and differences go through ``Guard.operators``.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(check, "check.py")
    try:
        tree = ast.fix_missing_locations(_Operators().visit(tree))
    except RecursionError:  # a sum of hundreds of terms; the compiler goes deeper
        tree = ast.parse(check, "check.py")
    return compile(tree, "check.py", "exec")


class _Operators(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, ast.pattern) else super().visit(node)  # patterns hold numbers and no operators

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) > 1:
            return node  # an array has no truth value that a chain could go on with
        return _through_guard(node, node.ops[0], node.left, node.comparators[0])

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return _through_guard(node, node.op, node.left, node.right)


def _through_guard(node: ast.expr, how: ast.AST, left: ast.expr, right: ast.expr) -> ast.expr:
    name = _OPERATORS.get(type(how))
    if name is None:
        return node
    call = ast.Call(ast.Name(_PREFIX + name, ast.Load()), [left, right], [])
    return ast.copy_location(call, node)


def _is_array(value: Any) -> bool:
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)
    return ndarray is not None and isinstance(value, ndarray)


def _has_elements(value: Any) -> bool:
    """Whether the array that numpy makes of a value has any elements."""
    if _is_array(value):
        return bool(value.size)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return any(map(_has_elements, value))
    return True
