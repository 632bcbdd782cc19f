"""Wall-clock seconds of the phases of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Timings:
    """``with clock("rollout"): ...`` adds the block's seconds to ``seconds["rollout"]``.

    ``on_phase`` is told the name of each phase as it begins, and ``None`` as it ends.
    """

    def __init__(self, on_phase: Callable[[str | None], None] = lambda phase: None) -> None:
        self.seconds: dict[str, float] = {}
        self._on_phase = on_phase
        self._begun = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begun = time.perf_counter()
        self._on_phase(phase)
        try:
            yield
        finally:
            self._on_phase(None)
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - begun

    def total(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._begun
