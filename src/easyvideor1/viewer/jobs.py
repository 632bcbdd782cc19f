"""Work that takes longer than a page may: in a thread of its own, with its progress, so that no page waits for it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from easyvideor1.types import EasyVideoError

T = TypeVar("T")
#: Called with what is done, what there is to do, and words for it.
Advance = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a piece of work was at one moment. What is read after it is at least as new."""

    running: bool
    done: int
    total: int
    words: str
    error: str
    state: str


class Job(Generic[T]):
    """One piece of work. ``result`` is ``None`` until it is done; ``error`` says why it failed."""

    def __init__(self, work: Callable[[Advance], T], version: str = "") -> None:
        self.version = version
        self.done = 0
        self.total = 0
        self.words = "starting"
        self.result: T | None = None
        self.error = ""
        self.begun = time.monotonic()
        self._work = work
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="viewer job", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work(self._advance)
        except (EasyVideoError, OSError) as error:  # the page shows it
            self.error = str(error)
        except BaseException as error:
            self.error = f"{error!r}: a fault of the viewer; please report it"
            raise  # the thread prints its traceback
        finally:
            self._ended.set()

    def _advance(self, done: int, total: int, words: str = "") -> None:
        self.done, self.total = done, total
        self.words = words or self.words

    @property
    def running(self) -> bool:
        """Whether it is still under way."""
        return not self._ended.is_set()

    @property
    def state(self) -> str:
        """Changes whenever there is something new to show."""
        return f"{self.version} {self.words} {self.done}/{self.total} {self.running}"

    def progress(self) -> Progress:
        """How far it is now."""
        running, state = self.running, self.state
        return Progress(running, self.done, self.total, self.words, self.error, state)

    def wait(self, seconds: float | None = None) -> Job[T]:
        """Wait until it has ended, or for so many seconds."""
        self._ended.wait(seconds)
        return self


#: Jobs that are kept; of more, those that were asked for longest ago are forgotten with their results.
_KEPT = 24


class Jobs:
    """The jobs of a site by name. Thread-safe."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, version: str, work: Callable[[Advance], T]) -> Job[T]:
        """The job of this name, begun if there is none for this version.

        While an earlier version is under way it stays: files that change all the time would never be read to the end.
        """
        with self._lock:
            job = self._jobs.get(name)
            if job is None or (job.version != version and not job.running):
                job = self._jobs[name] = Job(work, version)
            self._jobs.move_to_end(name)
            for old in [key for key, other in self._jobs.items() if not other.running][
                : max(0, len(self._jobs) - _KEPT)
            ]:
                del self._jobs[old]
        return job

    def known(self, name: str) -> Job[Any] | None:
        """The job of this name, if it was ever begun."""
        with self._lock:
            return self._jobs.get(name)
