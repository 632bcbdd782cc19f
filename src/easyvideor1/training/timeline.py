"""What trainer, engine and rewards do in the steps of a stage: idle shares, counters of the engine, and the trace."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from easyvideor1.engines.engine import Engine
from easyvideor1.spans import Span, SpanRecorder, busy_seconds
from easyvideor1.training.run_directory.trace import Trace
from easyvideor1.training.timings import Timings

#: Phases in which the trainer computes with the policy; in all others it waits for somebody else.
TRAINER_PHASES = ("advantages", "update", "sync")
#: Phases in which an engine works that has no spans of its own: such an engine works only while somebody waits for it.
ENGINE_PHASES = ("rollout", "evaluate")
#: Values among the counters of an engine that do not count up.
GAUGES = frozenset({"engines"})


class Timeline:
    """Watches the steps of a stage.

    Args:
        engine: whose ``stats`` and ``spans`` are read, where it has them.
        rewards: records scoring.
        trace: takes what was done; ``None``: nobody wants to look at it.
        begin: makes the timings of a step.
        sent_bytes: counts what the other ranks are sent (``training/ranks``); without ranks it stays 0.
    """

    def __init__(
        self,
        engine: Engine,
        rewards: SpanRecorder,
        trace: Trace | None,
        begin: Callable[[int], Timings],
        sent_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._engine = engine
        self._rewards = rewards
        self._trace = trace
        self._begin = begin
        self._sent_bytes = sent_bytes
        self._sent = sent_bytes()
        self._under_way: tuple[int, Timings] | None = None
        self._counted = _stats(engine)
        self._tracks: set[str] = set()
        rewards.take()
        _spans(engine)  # what was done before belongs to no step

    def timings(self, step: int) -> Timings:
        """The timings of a step that begins."""
        self._end_step()
        timings = self._begin(step)
        self._under_way = step, timings
        return timings

    def figures(self, step: int, timings: Timings, samples: int = 0) -> dict[str, float]:
        """Figures of a step whose work is done, by name.

        ``idle/trainer``, ``idle/engine`` and ``idle/rewards`` are shares of the time since the step began. With several
        engines the share is the mean of theirs. What an engine in another process has done is counted in the step that
        learns of it. ``engine/NAME`` is the increase of a counter of the engine during the step; its evaluations count.
        On several ranks, ``ranks/driver_bytes`` is what the first rank sent to all others in the step's calls, and
        ``ranks/driver_bytes_per_sample`` the same by the ``samples`` that are trained on, with all their responses.
        ``memory/...`` is what this process has needed at most until now.
        """
        total = max(timings.total(), 1e-9)
        engine, rewards = _spans(self._engine), self._rewards.take()
        self._tracks |= engine.keys()
        if self._tracks:
            busy = sum(busy_seconds(spans) for spans in engine.values()) / len(self._tracks)
        else:
            busy = busy_seconds(span for span in timings.spans if span.name in ENGINE_PHASES)
        shares = {
            "trainer": busy_seconds(span for span in timings.spans if span.name in TRAINER_PHASES),
            "engine": busy,
            "rewards": busy_seconds(rewards),
        }
        if self._trace is not None:
            for track, spans in engine.items():
                self._trace.add(step, "engine", track, spans)
            self._trace.add(step, "rewards", "scoring", rewards)
        before, self._counted = self._counted, _stats(self._engine)
        counted = {
            f"engine/{name}": value - (0.0 if name in GAUGES else before.get(name, 0.0))
            for name, value in self._counted.items()
        }
        found = {f"idle/{name}": 1 - min(1.0, seconds / total) for name, seconds in shares.items()} | counted
        found |= memory_figures()
        sent, self._sent = self._sent_bytes() - self._sent, self._sent_bytes()
        if sent:
            found |= {"ranks/driver_bytes": sent, "ranks/driver_bytes_per_sample": sent / max(samples, 1)}
        return found

    def close(self) -> None:
        """End the step that is under way, also one that has failed, and write the trace."""
        self._end_step()
        if self._trace is not None:
            self._trace.write()

    def _end_step(self) -> None:
        """Add the last step to the trace: only now it is known how long it took to save it."""
        if self._under_way is None or self._trace is None:
            return
        (step, timings), self._under_way = self._under_way, None
        whole = Span(f"step {step}", timings.begun, max([timings.begun, *(span.ended for span in timings.spans)]))
        self._trace.add(step, "trainer", "steps", [whole, *timings.spans])
        self._trace.write_in_time()


def memory_figures() -> dict[str, float]:
    """The most memory that this process has had until now, in GiB: resident on the host, and of tensors on its GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"memory/host_peak_gib": round(peak / 2**30, 4)}
    if torch.cuda.is_available() and (held := torch.cuda.max_memory_allocated()):  # 0 while nothing is on it
        found["memory/device_peak_gib"] = round(held / 2**30, 4)
    return found


def perf_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """A row of ``timings.jsonl`` as metrics for loggers: ``perf/...``, with seconds under ``perf/seconds/...``."""
    figures = ("idle/", "engine/", "ranks/", "memory/", "new_tokens", "tokens_per_second")
    return {
        f"perf/{name}" if name.startswith(figures) else f"perf/seconds/{name}": float(value)
        for name, value in row.items()
        if name != "step"
    }


def _stats(engine: Any) -> dict[str, float]:
    stats = getattr(engine, "stats", None)
    return dict(stats()) if callable(stats) else {}


def _spans(engine: Any) -> Mapping[str, Sequence[Span]]:
    spans = getattr(engine, "spans", None)
    found: Mapping[str, Sequence[Span]] = spans() if callable(spans) else {}
    return found
