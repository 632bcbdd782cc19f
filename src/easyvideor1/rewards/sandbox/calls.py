"""Calls between a check and the program that it checks, which run in processes of their own.

A program in the process of its checks could read them, write their verdict, or return an object that equals everything.
So a check runs in a process that the program never enters, and reaches the program's names through a pair of pipes.
Plain values (numbers, texts, containers, dates, arrays) travel as copies; anything else stays with the program, and the
check holds a ``Remote``. What is compared with the expected result was said before the program could know it:

- A ``Remote`` never equals a plain value, but by its contents if its class extends that of a plain value and compares
  like it (a named tuple, a member of an IntEnum).
- An operator that joins a ``Remote`` with a plain value is done for classes that the tests ask for alone; what comes of
  it is ``joined``: no number, no truth value and equal to nothing plain, nor is what further operators make of it.
- An empty answer is compared with no array and no number (``checks.py``): ``Link`` notes where the program said
  one.

Not protected: the methods of an object, what objects of the classes asked for hold (``in``), and the comparison of two
objects of the program are the program's own word.

Standard library only; both sides of ``runner.py`` load it by its path, and ``objects.py`` beside it.
Messages are lines of JSON.
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
import os
import sys
import types
from collections.abc import Callable
from typing import Any

_EXACT = 1 << 53
#: Modules that do something when they are imported.
_EVENTFUL = frozenset(("__main__", "__phello__", "antigravity", "idlelib", "test", "this", "turtle", "turtledemo"))
_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
#: Plain values of other types: what they are made from, and how they are made again.
_MADE: dict[type, Callable[[Any], list[Any]]] = {
    fractions.Fraction: lambda v: [v.numerator, v.denominator],
    decimal.Decimal: lambda v: [str(v)],
    datetime.date: lambda v: [v.year, v.month, v.day],
    datetime.datetime: lambda v: [v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond],
    datetime.timedelta: lambda v: [v.days, v.seconds, v.microseconds],
    datetime.time: lambda v: [v.hour, v.minute, v.second, v.microsecond],
    collections.deque: lambda v: [list(v)],
    range: lambda v: [v.start, v.stop, v.step],
}
_MAKERS = {kind.__name__: kind for kind in _MADE}


#: Plain values that cannot be empty.
_WITHOUT_ENTRIES = frozenset((int, float, bool, complex, type(None)))


class BrokenLinkError(Exception):
    """The other side has ended, or sent something that is not a message."""


class Link:
    """One end of the pipes. ``names`` is the program's namespace at its end, ``None`` at the end of the checks.

    ``objects`` is the module ``objects``.
    """

    def __init__(self, read: int, write: int, objects: Any, names: dict[str, Any] | None = None) -> None:
        self._objects = objects
        self._in, self._out = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._names = names
        self._kept: dict[int, Any] = {}
        self._remotes: dict[int, Any] = {}
        #: Names of the classes that the tests ask for, and of those among them that say what is in them.
        self.classes: set[str] = set()
        self.containers: set[str] = set()
        #: Whether the check knows that a call may raise StopIteration; elsewhere that would end a loop over calls.
        self._stops = False
        #: Whether the program has said something empty in this check, and was given neither that nor a lone zero.
        self.said_nothing = False
        self._given_nothing = False
        #: The iterator that last yielded something.
        self._yielding: list[Any] = []
        self.broken = False

    def begin(self, check: str) -> None:
        """Begin with a check, given as its text."""
        self._stops = "StopIteration" in check
        self._given_nothing = self.said_nothing = False

    def ask(self, what: str, *args: Any) -> Any:
        """Have the other side do one of its operations, and return or raise what came of it."""
        return self._exchange([what, [self._pack(arg) for arg in args]])

    def call(self, function: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the other side; lists, dicts and sets that it changes are changed here, too."""
        packed = [self._pack(arg) for arg in args]
        said = {name: self._pack(value) for name, value in named.items()}
        if self._names is None:
            given = [*args, *named.values()]
            zero = len(given) == 1 and type(given[0]) is int and given[0] == 0
            if zero or any(map(_is_empty, given)):
                self._given_nothing, self.said_nothing = True, False
        return self._exchange(["call", self._pack(function), packed, said], args)

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
            raise self._raised(message, self._unpack(reply[1]), [self._unpack(arg) for arg in reply[2]])
        if message[0] == "next":
            self._yielding = message[1]
        if len(reply) > 2:
            sys.stdout.write(str(reply[2]))
            for at, changed in reply[3]:
                _put_into(args[at], self._hear(changed))
        return self._hear(reply[1])

    def _hear(self, packed: Any) -> Any:
        value = self._unpack(packed)
        if self._names is None and not self._given_nothing and not self.said_nothing:
            self.said_nothing = _is_empty(value)
        return value

    def _raised(self, message: list[Any], kind: Any, args: list[Any]) -> BaseException:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            self.broken = True
            raise BrokenLinkError
        if issubclass(kind, StopIteration) and self._names is None:
            if message[0] == "next":
                # The end of an iterator that yielded nothing.
                self.said_nothing |= self._yielding != message[1] and not self._given_nothing
            elif not self._stops:
                return RuntimeError("a call raised StopIteration")
        raised: BaseException = kind(*args)
        return raised

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
        return ["value", self._pack(self._objects.OPERATIONS[what](*(self._unpack(arg) for arg in rest[0])))]

    def _pack(self, value: Any) -> Any:
        if isinstance(value, self._objects.Remote):
            return ["yours", self._objects.held_of(value).number]
        if value is None or type(value) in (bool, str, float):
            return value
        if type(value) in _MADE and getattr(value, "tzinfo", None) is None:
            return [type(value).__name__, [self._pack(part) for part in _MADE[type(value)](value)]]
        if type(value) is datetime.datetime and type(value.tzinfo) is datetime.timezone:
            return ["aware", value.isoformat()]
        if isinstance(value, type) and issubclass(value, BaseException):
            return self._packed_exception(value)
        # Classes of the program stay what they are; those of a check are of no use there.
        if type(value).__module__ != "__main__" or self._names is None:
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
        kind = value if isinstance(value, type) else type(value)
        extends = kind is not value and self._objects.extended(value) is not None
        return ["object", self._keep(value), kind.__name__, extends]

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

    def _yours(self, number: int) -> Any:
        return self._kept[number]

    def _object(self, number: int, kind: str = "", extends: bool = False) -> Any:
        if number not in self._remotes:
            self._remotes[number] = self._objects.Remote(self._objects.Held(self, number, kind, extends))
        return self._remotes[number]

    def _module(self, number: int, name: str) -> Any:
        """A check that uses a module which the program imported gets one that the program cannot have changed."""
        top, *below = name.split(".")
        known = top in {*sys.stdlib_module_names, "numpy"} - _EVENTFUL and not any(part[:2] == "__" for part in below)
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
    "aware": lambda link, text: datetime.datetime.fromisoformat(text),
    "yours": Link._yours,
    "object": Link._object,
    "module": Link._module,
    "exception": Link._exception,
}


def _is_empty(value: Any) -> bool:
    """Whether a plain value is empty, or holds something that is."""
    if isinstance(value, dict):
        return _is_empty(list(value.values()))
    if isinstance(value, list | tuple | set | frozenset | collections.deque):
        return not value or any(type(entry) not in _WITHOUT_ENTRIES and _is_empty(entry) for entry in value)
    if isinstance(value, str | bytes | bytearray | range):
        return not value
    return getattr(value, "size", 1) == 0 if type(value).__module__ == "numpy" else False


def _put_into(mine: Any, changed: Any) -> None:
    if isinstance(mine, list | bytearray):
        mine[:] = changed
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(changed)
