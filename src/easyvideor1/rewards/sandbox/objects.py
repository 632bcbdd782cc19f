"""Objects of a program as a check holds them, and what can be done with them; see ``calls``.

Standard library only; ``runner.py`` loads it by its path.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

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
    """What an object needs of ``calls.Link``."""

    classes: set[str]
    containers: set[str]

    def ask(self, what: str, *args: Any) -> Any:
        """Have the other side do one of ``OPERATIONS``."""

    def call(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other side."""


class Held(NamedTuple):
    """What a check knows of an object of the program.

    Attributes:
        link: the way to the program.
        number: the object's number there.
        kind: the name of its class.
        extends: whether that class extends a plain value and compares like it.
        joined: whether an operator made the object of a plain value.
    """  # no dataclass: those look their module up, and this one is loaded by its path

    link: Link
    number: int
    kind: str = ""
    extends: bool = False
    joined: bool = False


class Remote:
    # Something of the program's that is no plain value; what is done with it is done there. It has no docstring,
    # because ``f.__doc__`` is the program's, and no name of its own but those with underscores on both sides: every
    # other one, ``_number`` included, is the program's.

    __slots__ = ("held",)

    def __init__(self, held: Held) -> None:
        _HELD.__set__(self, held)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return held_of(self).link.call(self, args, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _READABLE:
            raise AttributeError(name)
        return _ask(self, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "setattr", name, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return self is other or _ask(self, "__eq__", other) is True
        contents = contents_of(self)
        return not isinstance(contents, Remote) and bool(contents == other)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Remote) and _ask(instance, "isinstance", self) is True

    def __subclasscheck__(self, subclass: object) -> bool:
        return isinstance(subclass, Remote) and _ask(subclass, "issubclass", self) is True

    def __iter__(self) -> Any:
        return _ask(self, "iter")

    def __next__(self) -> Any:
        return _ask(self, "next")

    def __contains__(self, item: Any) -> bool:
        held = held_of(self)
        if held.kind in held.link.containers:
            return _ask(self, "contains", item) is True
        return any(entry is item or entry == item for entry in iter(self))

    def __enter__(self) -> Any:
        return _ask(self, "enter")

    def __exit__(self, kind: Any, *_: object) -> None:
        # What it returns is not looked at: it would hide a failed assertion.
        _ask(self, "exit", kind)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        # To numpy it is what it holds, said without a look at what it is compared with. One that holds nothing is one
        # object and no empty array, which would equal every number.
        numpy: Any = importlib.import_module("numpy")
        entries = contents_of(self)
        array = numpy.array(_entries(self) if isinstance(entries, Remote) else entries, dtype=dtype)
        if array.size:
            return array
        whole = numpy.empty((), dtype=object)
        whole[()] = self
        return whole if dtype is None else whole.astype(dtype)


_HELD: Any = Remote.__dict__["held"]
del Remote.held  # type: ignore[attr-defined]


def held_of(remote: Remote) -> Held:
    """What is known of an object; kept where no attribute of the object's can hide it."""
    held: Held = _HELD.__get__(remote)
    return held


def contents_of(remote: Remote) -> Any:
    """The contents of what extends a plain value, said without a look at what they are compared with.

    Of anything else it is the object itself.
    """
    held = held_of(remote)
    return held.link.ask("contents", remote) if held.extends and not held.joined else remote


def _ask(remote: Remote, what: str, *args: Any) -> Any:
    return held_of(remote).link.ask(what, remote, *args)


def _entries(remote: Remote) -> list[Any]:
    """What an object holds; nothing where it has no length."""
    try:
        len(remote)
    except TypeError:
        return []
    return list(remote)


def _asked_for(remote: Remote) -> bool:
    held = held_of(remote)
    return held.kind in held.link.classes


def _as_joined(remote: Remote) -> Remote:
    return Remote(held_of(remote)._replace(joined=True))


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *args: _ask(self, name, *args)


def _forward_number(name: str) -> Callable[[Remote], Any]:
    def apply(self: Remote) -> Any:
        if held_of(self).joined:
            raise TypeError("an operator made this of a plain value")
        return _ask(self, name)

    return apply


def _forward_unary(name: str) -> Callable[..., Any]:
    def apply(self: Remote, *args: Any) -> Any:
        result = _ask(self, name, *args)
        return _joined(result) if held_of(self).joined else result

    return apply


def _joined(result: Any) -> Remote:
    if not isinstance(result, Remote):
        raise TypeError("an operator made this of a plain value")
    return _as_joined(result)


def _forward_operator(name: str, *, reflected: bool = False) -> Callable[[Remote, Any], Any]:
    """An operator on two objects of the program, or one that makes an object of an object and a plain value."""

    def apply(self: Remote, other: Any) -> Any:
        pair = (other, self) if reflected else (self, other)
        if isinstance(other, Remote):
            result = held_of(self).link.ask(name, *pair)
            return _joined(result) if held_of(self).joined or held_of(other).joined else result
        if not _asked_for(self):
            return NotImplemented
        result = held_of(self).link.ask(name, *pair)
        if not isinstance(result, Remote):
            return NotImplemented
        # ``sum`` begins with a zero, which tells the program nothing.
        begins = reflected and name == "__add__" and type(other) is int and other == 0 and not held_of(self).joined
        return result if begins else _as_joined(result)

    return apply


def _forward_comparison(name: str) -> Callable[[Remote, Any], Any]:
    def apply(self: Remote, other: Any) -> Any:
        if isinstance(other, Remote):
            both = held_of(self).joined and held_of(other).joined
            return NotImplemented if both else _ask(self, name, other)
        contents = contents_of(self)
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
Remote.__doc__ = property(lambda self: _ask(self, "getattr", "__doc__"))  # type: ignore[assignment]
