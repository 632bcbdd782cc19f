"""Objects of a program as a check holds them, and what can be done with them; see ``sandbox_calls``.

Standard library only; ``sandbox_runner.py`` loads it by its path.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

#: Plain types that a class of a program may extend, and how their contents are taken whatever that class overrides.
_CONTENTS: dict[type, Callable[[Any], Any]] = {
    tuple: tuple.__iter__,
    list: list.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    dict: dict.items,
    str: str.__str__,
    int: int.__index__,
    float: float.__float__,
}
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_COMPARISONS = ("lt", "le", "gt", "ge")
_NUMBERS = ("bool", "int", "float", "complex", "index")
_UNARY = ("neg", "pos", "invert", "abs", "round", "floor", "ceil", "trunc")
_READ = ("len", "str", "repr", "hash", "format")
_ITEMS = ("getitem", "setitem", "delitem")
#: Names with underscores on both sides that a check may read.
_READABLE = frozenset(("__name__", "__qualname__", "__doc__", "__dict__", "__members__"))


def extended(value: Any) -> type | None:
    """The plain type that the class of a value extends without another comparison."""
    kinds = (kind for kind in _CONTENTS if isinstance(value, kind))
    return next((kind for kind in kinds if type(value).__eq__ is kind.__eq__), None)


def _contents(value: Any) -> Any:
    kind = extended(value)
    return value if kind is None else kind(_CONTENTS[kind](value))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in (*_BINARY, *_COMPARISONS, "eq")},
    **{f"__i{name}__": getattr(operator, f"__i{name}__") for name in _BINARY},
    **{f.__name__: f for f in (getattr, setattr, iter, next, isinstance, issubclass)},
    **{f.__name__: f for f in (len, str, repr, hash, format, bool, int, float, complex)},
    **{f.__name__: f for f in (operator.neg, operator.pos, operator.invert, operator.index, operator.contains)},
    **{f.__name__: f for f in (abs, round, math.floor, math.ceil, math.trunc)},
    **{name: getattr(operator, name) for name in _ITEMS},
    "contents": _contents,
    "enter": lambda manager: type(manager).__enter__(manager),
    "exit": lambda manager, kind: type(manager).__exit__(manager, kind, kind and kind(), None),
}


class Link(Protocol):
    """What an object needs of ``sandbox_calls.Link``."""

    classes: set[str]
    containers: set[str]

    def ask(self, what: str, *args: Any) -> Any:
        """Have the other side do one of ``OPERATIONS``."""

    def call(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other side."""


class Remote:
    # Something of the program's that is no plain value; what is done with it is done there. It has no docstring,
    # because ``f.__doc__`` is the program's.

    __slots__ = ("_extends", "_joined", "_kind", "_link", "_number")

    def __init__(self, link: Link, number: int, kind: str = "", extends: bool = False, joined: bool = False) -> None:
        self._link = link
        self._number = number
        self._kind = kind
        self._extends = extends
        self._joined = joined

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._link.call(self, args, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _READABLE:
            raise AttributeError(name)
        return self._link.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Remote.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._link.ask("setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return self is other or self._link.ask("__eq__", self, other) is True
        contents = self._contents()
        return not isinstance(contents, Remote) and bool(contents == other)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Remote) and self._link.ask("isinstance", instance, self) is True

    def __subclasscheck__(self, subclass: object) -> bool:
        return isinstance(subclass, Remote) and self._link.ask("issubclass", subclass, self) is True

    def __iter__(self) -> Any:
        return self._link.ask("iter", self)

    def __next__(self) -> Any:
        return self._link.ask("next", self)

    def __contains__(self, item: Any) -> bool:
        if self._kind in self._link.containers:
            return self._link.ask("contains", self, item) is True
        return any(entry is item or entry == item for entry in iter(self))

    def __enter__(self) -> Any:
        return self._link.ask("enter", self)

    def __exit__(self, kind: Any, *_: object) -> None:
        # What it returns is not looked at: it would hide a failed assertion.
        self._link.ask("exit", self, kind)

    def _asked_for(self) -> bool:
        return self._kind in self._link.classes

    def _contents(self) -> Any:
        """The contents of what extends a plain value, said without a look at what they are compared with."""
        return self._link.ask("contents", self) if self._extends and not self._joined else self

    def _as_joined(self) -> Remote:
        return Remote(self._link, self._number, self._kind, self._extends, joined=True)


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._link.ask(name, self, *args)


def _forward_number(name: str) -> Callable[[Remote], Any]:
    def apply(self: Remote) -> Any:
        if self._joined:
            raise TypeError("an operator made this of a plain value")
        return self._link.ask(name, self)

    return apply


def _forward_unary(name: str) -> Callable[..., Any]:
    def apply(self: Remote, *args: Any) -> Any:
        result = self._link.ask(name, self, *args)
        return _joined(result) if self._joined else result

    return apply


def _joined(result: Any) -> Remote:
    if not isinstance(result, Remote):
        raise TypeError("an operator made this of a plain value")
    return result._as_joined()


def _forward_operator(name: str, *, reflected: bool = False) -> Callable[[Remote, Any], Any]:
    """An operator on two objects of the program, or one that makes an object of an object and a plain value."""

    def apply(self: Remote, other: Any) -> Any:
        pair = (other, self) if reflected else (self, other)
        if isinstance(other, Remote):
            result = self._link.ask(name, *pair)
            return _joined(result) if self._joined or other._joined else result
        if not self._asked_for():
            return NotImplemented
        result = self._link.ask(name, *pair)
        if not isinstance(result, Remote):
            return NotImplemented
        # ``sum`` begins with a zero, which tells the program nothing.
        begins = reflected and name == "__add__" and type(other) is int and other == 0 and not self._joined
        return result if begins else result._as_joined()

    return apply


def _forward_comparison(name: str) -> Callable[[Remote, Any], Any]:
    def apply(self: Remote, other: Any) -> Any:
        if isinstance(other, Remote):
            return NotImplemented if self._joined and other._joined else self._link.ask(name, self, other)
        contents = self._contents()
        return NotImplemented if isinstance(contents, Remote) else OPERATIONS[name](contents, other)

    return apply


for _name in _BINARY:
    setattr(Remote, f"__{_name}__", _forward_operator(f"__{_name}__"))
    setattr(Remote, f"__i{_name}__", _forward_operator(f"__i{_name}__"))
    setattr(Remote, f"__r{_name}__", _forward_operator(f"__{_name}__", reflected=True))
for _name in _COMPARISONS:
    setattr(Remote, f"__{_name}__", _forward_comparison(f"__{_name}__"))
for _names, _how in ((_READ, _forward), (_ITEMS, _forward), (_NUMBERS, _forward_number), (_UNARY, _forward_unary)):
    for _name in _names:
        setattr(Remote, f"__{_name}__", _how(_name))
Remote.__doc__ = property(lambda self: self._link.ask("getattr", self, "__doc__"))  # type: ignore[assignment]
