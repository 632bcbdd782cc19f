"""Where the time of an evaluation goes: what its engine waited for, and how long the stages beside it worked."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from easyvideor1.engines.engine import Engine
from easyvideor1.spans import SpanRecorder, busy_seconds

#: Name of the file in a result's directory.
TIMINGS = "timings.json"
#: Seconds between two looks at what was recorded: a recorder keeps a few thousand spans.
_EVERY = 0.5


class Timings:
    """Watches an evaluation.

    ``spans`` records ``frames`` (frames are read or decoded), ``wait for frames`` (the engine has nothing else to do),
    ``keep`` and ``score``. What the engine did is in its own spans; of one that has none, it is taken to work whenever
    it does not wait for frames.
    """

    def __init__(self) -> None:
        self.spans = SpanRecorder()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._engine: defaultdict[str, float] = defaultdict(float)
        self._begun = self._looked = time.monotonic()
        self._asking = 0.0
        self._asked = 0

    def begin(self, engine: Engine) -> None:
        """Questions are put to an engine from now on; what it did before does not count."""
        _spans(engine)
        self._asking = -time.monotonic()

    def answered(self, engine: Engine, *, again: bool = False) -> None:
        """A question was answered, or failed; ``again`` if it has been counted before."""
        self._asked += not again
        if time.monotonic() - self._looked > _EVERY:
            self._look(engine)

    def end(self, engine: Engine) -> None:
        """The last question was answered."""
        self._asking += time.monotonic()
        self._look(engine)

    def report(self) -> dict[str, Any]:
        """Seconds and shares, once everything is scored.

        ``engine.idle_share`` is the share of the time between the first question and the last answer in which the
        engine did nothing; with several engines the mean of theirs.
        """
        self._look(None)
        waited, asking = self._busy["wait for frames"], max(self._asking, 1e-9)
        busy = sum(self._engine.values()) / len(self._engine) if self._engine else asking - waited
        total = time.monotonic() - self._begun
        return {
            "questions": self._asked,
            "seconds": total,
            "engine": {
                "seconds": self._asking,
                "busy": busy,
                "idle_share": min(max(1.0 - busy / asking, 0.0), 1.0),
                "waited_for_frames": waited,
            },
            "frames": {"busy": self._busy["frames"]},
            "scoring": {"busy": self._busy["score"]},
            "keeping": {"busy": self._busy["keep"]},
        }

    def _look(self, engine: Engine | None) -> None:
        self._looked = time.monotonic()
        found = self.spans.take()
        for name in {span.name for span in found}:
            self._busy[name] += busy_seconds(span for span in found if span.name == name)
        for worker, spans in (_spans(engine) if engine is not None else {}).items():
            self._engine[worker] += busy_seconds(spans)


def _spans(engine: Engine) -> dict[str, Any]:
    take = getattr(engine, "spans", None)
    return {} if take is None else take()
