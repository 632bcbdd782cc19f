"""The names that checks of a program see, and the names of exceptions that may be told of them.

Standard library only; ``sandbox_runner.py`` loads it by its path, in the process of the checks.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Sequence
from typing import Any


def public_name(error: BaseException) -> str:
    """The name of an exception, if it is one of Python's own: other names are the program's to choose."""
    name = type(error).__name__
    return name if getattr(builtins, name, None) is type(error) else "an exception of its own"


class Namespace(dict[str, Any]):
    """The names that a check sees: its own, those that the reference imports, Python's built-in ones, the program's.

    ``own`` are built-in names that the program is asked to define (``sum``), so that its own is meant. ``imports`` are
    import statements: what they name is the library's here, whatever the program calls so.
    """

    def __init__(self, link: Any, own: frozenset[str] = frozenset(), imports: Sequence[str] = ()) -> None:
        super().__init__(__name__="__main__")
        self._link = link
        self._own = own
        for statement in imports:
            with contextlib.suppress(ImportError):  # not on this machine: the name stays the program's
                exec(statement, self)
        for name in own:
            self.pop(name, None)

    def __missing__(self, name: str) -> Any:
        if name.startswith("__") or (hasattr(builtins, name) and name not in self._own):
            raise KeyError(name)
        return self._link.ask("name", name)
