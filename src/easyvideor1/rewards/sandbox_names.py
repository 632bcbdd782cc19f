"""The names that checks of a program see.

Standard library only; ``sandbox_runner.py`` loads it by its path, in the process of the checks.
"""

from __future__ import annotations

import builtins
from typing import Any


class Namespace(dict[str, Any]):
    """The names that a check sees: its own, those that are imported for it, Python's, and then the program's.

    ``names`` are the settings of ``code_names.Names``.
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
