"""Calls between a check and the program that it checks, which run in processes of their own.

The program must not be near the checks: it could read them, write their verdict, or return an object that equals
everything. So a check runs in a process that the program never enters, and reaches the program's names through a pair
of pipes. Plain values (numbers, texts, containers, dates, arrays) travel as copies; anything else stays with the
program, and the check holds a ``Remote``. A ``Remote`` never equals a plain value, and none of its operators turns a
plain value into another. What an operator makes of an object and a plain value has seen that value, which may be the
expected result: it is ``tainted``, and no conversion (``float``, ``len``, ``str``) makes a plain value of it. So what
is compared with the expected result was said before the program could know it.

What is left: the methods and attributes of an object, and the comparison of two objects of the program, are the
program's own word; so is ``in``, for objects of classes that the reference program gives a ``__contains__``.

Standard library only; both sides of ``sandbox_runner.py`` load it by its path. Messages are lines of JSON.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import datetime
import decimal
import fractions
import importlib
import io
import json
import numbers
import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any

_EXACT = 1 << 53
_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
#: Plain values of other types: what they are made from, and how they are made again.
_MADE: dict[type, Callable[[Any], list[Any]]] = {
    fractions.Fraction: lambda v: [v.numerator, v.denominator],
    decimal.Decimal: lambda v: [str(v)],
    datetime.date: lambda v: [v.year, v.month, v.day],
    datetime.datetime: lambda v: [v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond],
    datetime.timedelta: lambda v: [v.days, v.seconds, v.microseconds],
    collections.deque: lambda v: [list(v)],
}
_MAKERS = {kind.__name__: kind for kind in _MADE}
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
_COMPARISONS = ("lt", "le", "gt", "ge")
_UNARY = ("neg", "pos", "invert", "abs")
_CONVERSIONS = ("len", "bool", "str", "repr", "int", "float", "round")
#: What a class made by ``namedtuple`` holds itself, but for its fields.
_OF_NAMEDTUPLES = frozenset(vars(collections.namedtuple("_Any", "")))
_OF_NAMEDTUPLES |= {"__orig_bases__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
_OF_NAMEDTUPLES |= {"__firstlineno__", "__static_attributes__", "__qualname__", "__replace__"}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in (*_BINARY, *_COMPARISONS, "eq")},
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in (*_UNARY, "contains")},
    **{f.__name__: f for f in (getattr, setattr, len, iter, next, bool, str, repr, int, float, round, isinstance)},
    **{f"__{name}__": getattr(operator, name) for name in ("getitem", "setitem", "delitem")},
}


class BrokenLinkError(Exception):
    """The other side has ended, or says what is no message."""


class Remote:
    """Something of the program's that is no plain value; what is done with it is done there."""

    __slots__ = ("_link", "_number", "_tainted")

    def __init__(self, link: Link, number: int, tainted: bool = False) -> None:
        self._link = link
        self._number = number
        self._tainted = tainted

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._link.call(self, args, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        return self._link.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Remote.__slots__:
            object.__setattr__(self, name, value)
        else:
            self._link.ask("setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Remote) and self._link.ask("__eq__", self, other) is True)

    __hash__ = object.__hash__

    def __instancecheck__(self, instance: object) -> bool:
        if type(instance) in self._link.namedtuples:
            return self._link.namedtuples[type(instance)] == self._number
        return isinstance(instance, Remote) and self._link.ask("isinstance", instance, self) is True

    def __contains__(self, value: object) -> bool:
        if self._link.holds(self):
            return self._link.ask("__contains__", self, value) is True
        return any(value is entry or value == entry for entry in self)

    def __iter__(self) -> Any:
        return self._link.ask("iter", self)

    def __next__(self) -> Any:
        return self._link.ask("next", self)


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._link.ask(name, self, *args)


def _forward_conversion(name: str) -> Callable[..., Any]:
    """A conversion to a plain value, of an object that has seen none of the check's values."""

    def convert(self: Remote, *args: Any) -> Any:
        if self._tainted:
            raise TypeError(f"{name}() of what an operator made of an object and a value of the test")
        return self._link.ask(name, self, *args)

    return convert


def _forward_unary(name: str) -> Callable[[Remote], Any]:
    def apply(self: Remote) -> Any:
        result = self._link.ask(name, self)
        if not self._tainted:
            return result
        if not isinstance(result, Remote):
            raise TypeError(f"{name} of what an operator made of an object and a value of the test")
        return Remote(self._link, result._number, tainted=True)

    return apply


def _forward_operator(name: str, *, reflected: bool = False) -> Callable[[Remote, Any], Any]:
    """An operator on two objects of the program, or one that makes an object of an object and a plain value."""

    def apply(self: Remote, other: Any) -> Any:
        plain = not isinstance(other, Remote)
        if plain and name.strip("_") in _COMPARISONS:
            return NotImplemented
        tainted = plain or self._tainted or other._tainted
        result = self._link.ask(name, *((other, self) if reflected else (self, other)))
        if not tainted or name.strip("_") in _COMPARISONS:
            return result
        return Remote(self._link, result._number, tainted=True) if isinstance(result, Remote) else NotImplemented

    return apply


for _name in (*_BINARY, *_COMPARISONS):
    setattr(Remote, f"__{_name}__", _forward_operator(f"__{_name}__"))
for _name in _BINARY:
    setattr(Remote, f"__r{_name}__", _forward_operator(f"__{_name}__", reflected=True))
for _name in _CONVERSIONS:
    setattr(Remote, f"__{_name}__", _forward_conversion(_name))
for _name in _UNARY:
    setattr(Remote, f"__{_name}__", _forward_unary(f"__{_name}__"))
for _name in ("getitem", "setitem", "delitem"):
    setattr(Remote, f"__{_name}__", _forward(f"__{_name}__"))


class Link:
    """One end of the pipes. ``names`` is the program's namespace at its end, ``None`` at the end of the checks."""

    def __init__(
        self, read: int, write: int, names: dict[str, Any] | None = None, containers: frozenset[str] = frozenset()
    ) -> None:
        self._in, self._out = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._names = names
        self._containers = containers
        #: Classes made for the program's named tuples -> the number of the program's own.
        self.namedtuples: dict[type, int] = {}
        self._kept: dict[int, Any] = {}
        self._remotes: dict[int, Any] = {}
        self.broken = False

    def ask(self, what: str, *args: Any) -> Any:
        """Have the other side do one of its operations, and return or raise what came of it."""
        return self._exchange([what, [self._pack(arg) for arg in args]])

    def call(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other side; lists, dicts and sets that it changes are changed here, too."""
        packed = [self._pack(arg) for arg in args]
        said = {name: self._pack(value) for name, value in named.items()}
        return self._exchange(["call", self._pack(function), packed, said], args)

    def holds(self, value: Remote) -> bool:
        """Whether an object is of a class that says itself what is in it, as the reference program's does."""
        return any(isinstance(value, self.ask("name", name)) for name in sorted(self._containers))

    def serve(self) -> None:
        """Do what the other side asks until it ends."""
        with contextlib.suppress(BrokenLinkError):
            while True:
                self._answer(self._receive())

    def _exchange(self, message: list[Any], args: tuple[Any, ...] = ()) -> Any:
        self._send(message)
        while (reply := self._receive())[0] not in ("value", "raised"):
            self._answer(reply)
        if reply[0] == "raised":
            raise self._unpack(reply[1])(*(self._unpack(arg) for arg in reply[2]))
        if len(reply) > 2:
            sys.stdout.write(str(reply[2]))
            for at, changed in reply[3]:
                _put_into(args[at], self._unpack(changed))
        return self._unpack(reply[1])

    def _send(self, message: list[Any]) -> None:
        try:
            self._out.write(json.dumps(message).encode() + b"\n")
            self._out.flush()
        except OSError as error:
            self.broken = True
            raise BrokenLinkError from error

    def _receive(self) -> list[Any]:
        line = self._in.readline()
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, list) or not message:
            self.broken = True
            raise BrokenLinkError
        return message

    def _answer(self, message: list[Any]) -> None:
        try:
            reply = self._done(message)
        except BrokenLinkError:
            raise
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where the call was made)
            reply = ["raised", self._pack(type(error)), [self._pack(arg) for arg in error.args]]
        self._send(reply)

    def _done(self, message: list[Any]) -> list[Any]:
        what, *rest = message
        if what == "call":
            args = [self._unpack(arg) for arg in rest[1]]
            named = {name: self._unpack(value) for name, value in rest[2].items()}
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                value = self._unpack(rest[0])(*args, **named)
            after = [(at, self._pack(arg)) for at, arg in enumerate(args) if type(arg) in (list, dict, set, bytearray)]
            changed = [(at, packed) for at, packed in after if packed != rest[1][at]]
            return ["value", self._pack(value), printed.getvalue(), changed]
        if self._names is None:
            raise BrokenLinkError  # a program may call the functions that it was given, and nothing else
        if what == "name":
            return ["value", self._pack(self._names[rest[0][0]])]
        return ["value", self._pack(_OPERATIONS[what](*(self._unpack(arg) for arg in rest[0])))]

    def _pack(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return ["yours", value._number]
        if value is None or type(value) in (bool, str, float):
            return value
        if type(value) in self.namedtuples:
            return ["own_namedtuple", self.namedtuples[type(value)], [self._pack(part) for part in value]]
        if _is_namedtuple(type(value)):
            kind = type(value)
            parts = [self._pack(part) for part in tuple.__iter__(value)]
            return ["namedtuple", self._keep(kind), kind.__name__, list(kind._fields), parts]
        if type(value) in _MADE and getattr(value, "tzinfo", None) is None:
            return [type(value).__name__, [self._pack(part) for part in _MADE[type(value)](value)]]
        if isinstance(value, type) and issubclass(value, BaseException):
            return self._packed_exception(value)
        if type(value).__module__ != "__main__":  # classes of the program stay what they are
            if isinstance(value, numbers.Integral):
                number = int(value)
                return number if abs(number) < _EXACT else ["int", hex(number)]
            if isinstance(value, bytes | bytearray):
                return [next(k.__name__ for k in (bytes, bytearray) if isinstance(value, k)), value.hex()]
            for name, kind in _CONTAINERS.items():
                if isinstance(value, kind):
                    return [name, [self._pack(entry) for entry in value]]
            if isinstance(value, dict):
                return ["dict", [[self._pack(key), self._pack(entry)] for key, entry in value.items()]]
            if isinstance(value, str | float):
                return str(value) if isinstance(value, str) else float(value)
            if isinstance(value, complex):
                return ["complex", [value.real, value.imag]]
            if hasattr(value, "dtype") and hasattr(value, "tolist"):
                plain = self._pack(value.tolist())
                return ["array", plain, str(value.dtype)] if getattr(value, "ndim", 0) else plain
        if isinstance(value, types.ModuleType):
            return ["module", self._keep(value), value.__name__]
        return ["object", self._keep(value)]

    def _packed_exception(self, kind: type[BaseException]) -> list[Any]:
        base = next(base for base in kind.__mro__ if getattr(builtins, base.__name__, None) is base)
        return ["exception", 0 if base is kind else self._keep(kind), kind.__name__, base.__name__]

    def _keep(self, value: Any) -> int:
        self._kept[id(value)] = value
        return id(value)

    def _unpack(self, packed: Any) -> Any:
        if not isinstance(packed, list):
            return packed
        what, *rest = packed
        if what in _CONTAINERS:
            return _CONTAINERS[what](self._unpack(entry) for entry in rest[0])
        if what in _MAKERS:
            return _MAKERS[what](*(self._unpack(part) for part in rest[0]))
        return _UNPACK[what](self, *rest)

    def _namedtuple(self, number: int, name: str, fields: list[str], parts: list[Any]) -> Any:
        """A copy of the program's named tuple, of a class made here once for each of its classes."""
        known = [mine for mine, theirs in self.namedtuples.items() if theirs == number]
        made: Any = collections.namedtuple
        kind: Any = known[0] if known else made(name, fields)
        self.namedtuples[kind] = number
        return kind._make(self._unpack(part) for part in parts)

    def _own_namedtuple(self, number: int, parts: list[Any]) -> Any:
        return tuple.__new__(self._kept[number], [self._unpack(part) for part in parts])

    def _yours(self, number: int) -> Any:
        return self._kept[number]

    def _object(self, number: int) -> Any:
        return self._remotes.setdefault(number, Remote(self, number))

    def _module(self, number: int, name: str) -> Any:
        """A check that uses a module which the program imported gets one that the program cannot have changed."""
        known = name.partition(".")[0] in {*sys.stdlib_module_names, "numpy"} and name != "__main__"
        return importlib.import_module(name) if known else self._object(number)

    def _exception(self, number: int, name: str, base: str) -> type[BaseException]:
        kind: type[BaseException] = getattr(builtins, base)
        if not issubclass(kind, BaseException):
            raise BrokenLinkError
        if not number:
            return kind
        if number not in self._remotes:
            self._remotes[number] = type(name, (kind,), {"__module__": "program"})
            self._kept[id(self._remotes[number])] = self._remotes[number]
        return self._remotes[number]  # type: ignore[no-any-return]


def _array(link: Link, values: Any, dtype: str) -> Any:
    return importlib.import_module("numpy").array(link._unpack(values), dtype=dtype)


_UNPACK: dict[str, Callable[..., Any]] = {
    "int": lambda link, digits: int(digits, 16),
    "bytes": lambda link, digits: bytes.fromhex(digits),
    "bytearray": lambda link, digits: bytearray.fromhex(digits),
    "complex": lambda link, parts: complex(*parts),
    "dict": lambda link, items: {link._unpack(key): link._unpack(value) for key, value in items},
    "array": _array,
    "namedtuple": Link._namedtuple,
    "own_namedtuple": Link._own_namedtuple,
    "yours": Link._yours,
    "object": Link._object,
    "module": Link._module,
    "exception": Link._exception,
}


def _put_into(mine: Any, changed: Any) -> None:
    if isinstance(mine, list | bytearray):
        mine[:] = changed
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(changed)


def _is_namedtuple(kind: type) -> bool:
    """Whether a class is what ``namedtuple`` makes and nothing more: its instances are their contents."""
    fields = vars(kind).get("_fields")
    if kind.__mro__ != (kind, tuple, object) or not isinstance(fields, tuple):
        return False
    return all(isinstance(name, str) for name in fields) and set(vars(kind)) <= _OF_NAMEDTUPLES | set(fields)
