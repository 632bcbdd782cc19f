"""Names in a config become objects here: a registered name, or ``module:attr`` from the user's own package."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from easyvideor1.types import ConfigError, EasyVideoError

T = TypeVar("T")

_PACKAGE = Path(__file__).parent
#: Lines of a user's code that a message shows.
_EXCERPT = 3


class ExitError(EasyVideoError):
    """A function of the user called ``sys.exit``."""


class Registry(Generic[T]):
    """A table of one kind of thing (``kind`` is the word used in messages). A clash of names is an error."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds its target under ``name``."""

        def add(item: T) -> T:
            if name in self._items:
                raise ConfigError(f"{self.kind} {name!r} is registered twice: {self._items[name]!r} and {item!r}")
            self._items[name] = item
            return item

        return add

    def names(self) -> list[str]:
        return sorted(self._items)

    def resolve(self, name: str) -> T:
        """The registered item, or the attribute that ``module:attr`` names.

        Raises:
            ConfigError: neither exists; the message lists the nearest names.
        """
        if name in self._items:
            return self._items[name]
        if ":" in name:
            found: T = load_attribute(name, self.kind)
            return found
        # Half a name is nearer to the whole one than what merely shares letters with it.
        begun = [known for known in self.names() if name and known.startswith(name)]
        alike = difflib.get_close_matches(name, self._items, n=3, cutoff=0.4)
        near = list(dict.fromkeys((*begun, *alike)))[:3]
        hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(self.names())}."
        raise ConfigError(f"unknown {self.kind} {name!r}: {hint} Your own goes in as 'module:attr'.")


def load_attribute(target: str, kind: str = "object") -> Any:
    """Import ``module:attr``; the working directory counts as a place to look, as it does for ``python -m``.

    A function that calls ``sys.exit`` raises ``ExitError`` in its place.

    Raises:
        ConfigError: ``target`` has another form, names a module or an attribute that does not exist, or the module
            fails or ends the process while it is imported; the message then shows where.
    """
    module_name, _, attribute = target.partition(":")
    if not all(module_name.split(".")) or not all(attribute.split(".")):
        raise ConfigError(f"{kind} {target!r}: write it as module:attr, for example my_package.my_module:my_function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except SystemExit as error:
        raise ConfigError(
            f"{kind} {target!r}: importing {module_name!r} ends the process (sys.exit({error.code!r})); move what it "
            "does as a script under `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        # Not found may be the module itself, or something that it imports.
        lacking = error.name if isinstance(error, ModuleNotFoundError) else None
        if lacking is not None and f"{module_name}.".startswith(f"{lacking}."):
            raise ConfigError(f"{kind} {target!r}: no module {module_name!r} on the path or in {here}") from error
        raise ConfigError(
            f"{kind} {target!r}: {module_name} cannot be imported: {error_words(error)}{code_excerpt(error)}"
        ) from error
    try:
        value: Any = module
        for part in attribute.split("."):
            value = getattr(value, part)
    except AttributeError as error:
        raise ConfigError(f"{kind} {target!r}: module {module_name!r} has no {attribute!r}") from error
    return value if inspect.isclass(value) or not callable(value) else _contained(kind, target, value)


def _contained(kind: str, target: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with an exit made an error: a run must not end, and with status 0, because a function says so."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except SystemExit as error:
            raise ExitError(
                f"the {kind} {target!r} asked to end the process (sys.exit({error.code!r})); raise an error that says "
                "what is wrong in its place"
            ) from error

    return call


def error_words(error: BaseException) -> str:
    """An exception in one line: its type and message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def code_excerpt(error: BaseException) -> str:
    """The last lines of a user's code that an exception came through, each on a line of its own; empty if none.

    Lines of this package and of Python's machinery of imports are left out: nobody can correct those.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not Path(frame.filename).is_relative_to(_PACKAGE)
    ]
    frames = [frame for frame in frames if Path(frame.filename) != Path(importlib.__file__)]
    lines = [f"{_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames[-_EXCERPT:]]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"{_short(error.filename)}:{error.lineno}: {(error.text or '').strip()}")
    return "".join(f"\n  {line}" for line in lines)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
