"""Seconds of each phase of a step, and reports on a step that takes long: a slow reward is not a run that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from easyvideor1.spans import Span, now

#: Seconds between two looks at the phase under way.
TICK = 1.0
#: Phases of a step in words. An evaluation tells how far it is by itself.
PHASES = {
    "sample": "loading frames",
    "rollout": "generating",
    "score": "scoring",
    "advantages": "computing advantages",
    "update": "updating",
    "sync": "syncing weights",
    "save": "saving",
}

#: Called as ``(step, what is going on, seconds that it has taken)``.
OnWaiting = Callable[[int, str, float], None]


class Timings:
    """``with timings("rollout"): ...`` adds the block's seconds to ``seconds["rollout"]``, and a span to ``spans``.

    ``on_phase`` is called with the name of each phase when it begins, and with ``None`` when it ends.
    """

    def __init__(self, on_phase: Callable[[str | None], None] = lambda phase: None) -> None:
        self.seconds: dict[str, float] = {}
        self.spans: list[Span] = []
        self.begun = now()
        self._on_phase = on_phase

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begun = now()
        self._on_phase(phase)
        try:
            yield
        finally:
            self._on_phase(None)
            self.spans.append(Span(phase, begun, now()))
            self.seconds[phase] = self.seconds.get(phase, 0.0) + self.spans[-1].seconds

    def total(self) -> float:
        """Seconds since this object was made."""
        return now() - self.begun


class Waiting:
    """Reports, once a second, the current phase of a step, and what it waits for.

    Args:
        tell: called in a separate thread.
        scoring: returns what scoring waits for; may be empty.
    """

    def __init__(self, tell: OnWaiting, scoring: Callable[[], str]) -> None:
        self._tell = tell
        self._scoring = scoring
        self._phase: tuple[int, str, float] | None = None
        self._lock = threading.Lock()  # a phase that has ended is not reported any more

    def timings(self, step: int) -> Timings:
        """Timings of a step, whose phases are watched."""
        return Timings(lambda phase: self._enter(step, phase))

    def _enter(self, step: int, phase: str | None) -> None:
        with self._lock:
            self._phase = None if phase is None else (step, phase, time.monotonic())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Tell for the length of the block."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(TICK):
                with self._lock:
                    if self._phase is not None and self._phase[1] in PHASES:
                        step, name, since = self._phase
                        self._tell(step, self._words(name), time.monotonic() - since)

        thread = threading.Thread(target=look, name="waiting", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _words(self, phase: str) -> str:
        detail = self._scoring() if phase == "score" else ""
        return f"{PHASES[phase]}, waiting for {detail}" if detail else PHASES[phase]
