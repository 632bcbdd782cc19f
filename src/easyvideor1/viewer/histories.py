"""Run directories as they were read last: read again only when their files have changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from easyvideor1.evaluation.history import RunHistory, read_history
from easyvideor1.locks import is_locked
from easyvideor1.viewer.library import Entry, run_fingerprint

T = TypeVar("T")
#: What is made of a run, small and needed for all runs at once, so that it is kept of every one.
_LIGHT = frozenset({"row", "cache"})
#: Histories that are kept in memory.
_KEPT = 64


def run_version(run: Path) -> str:
    """Changes when a run has made a step, an evaluation or a warning, and when its process begins or ends."""
    return f"{run_fingerprint(run)}{'+' if is_locked(run / '.lock') else '-'}"


@dataclass(slots=True)
class _Known:
    version: str
    history: RunHistory
    made: dict[str, Any] = field(default_factory=dict)


class Histories:
    """The histories of runs, and what pages made of them, as long as the runs do not change. Thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _Known] = OrderedDict()
        self._light: dict[tuple[Path, str], tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def read(self, entry: Entry) -> RunHistory:
        """The history of a run.

        Raises:
            DataError: it is gone.
        """
        return self._of(entry).history

    def made(self, entry: Entry, name: str, make: Callable[[RunHistory], T]) -> T:
        """What ``make`` makes of a run's history, made once for each version of it."""
        light = self._light.get((entry.path, name))
        if light is not None and light[0] == run_version(entry.path):
            kept: T = light[1]
            return kept
        known = self._of(entry)
        if name not in known.made:
            known.made[name] = make(known.history)
        found: T = known.made[name]
        if name in _LIGHT:
            self._light[entry.path, name] = (known.version, found)
        return found

    def _of(self, entry: Entry) -> _Known:
        version = run_version(entry.path)  # before it is read: what changes meanwhile is read once more
        with self._lock:
            known = self._known.get(entry.path)
        if known is None or known.version != version:
            known = _Known(version, read_history(entry.path))
        with self._lock:
            self._known[entry.path] = known
            self._known.move_to_end(entry.path)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known
