"""``trace.json``: the last steps of a stage as a Chrome trace, to be opened in Perfetto (ui.perfetto.dev).

The format is the JSON of the "Trace Event Format" (Google, 2016): complete events (``ph`` is ``X``) with ``ts`` and
``dur`` in microseconds. Events of one thread lie one within the other, or one after the other. Every event names its
step, so that a resumed run can remove those of the steps that it repeats.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.files import json_bytes, write_atomic
from easyvideor1.spans import Span, joined, lanes

#: Processes of a trace, from top to bottom.
PROCESSES = ("trainer", "engine", "rewards")
#: Events that are kept of one thread in one step: the longest ones.
_EVENTS = 500
#: Seconds between two writes of the file.
_PACE = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """A span as the file has it; ``ts`` and ``dur`` in whole microseconds."""

    process: str
    thread: str
    name: str
    ts: int
    dur: int
    args: Mapping[str, Any]


class Trace:
    """The trace of a stage.

    It is written every few seconds and when it is closed, whole or not at all. A kill costs the last seconds of it. A
    file that cannot be read, or written, stops no run: a trace is for looking at.

    Args:
        file: where it is kept.
        steps: of how many steps events are kept, the last ones.
        done: steps that are not repeated; events of later ones, which an earlier start has left, are removed.
    """

    def __init__(self, file: Path, steps: int, done: int) -> None:
        self.file = file
        self._steps = steps
        self._events = {step: events for step, events in read_trace(file).items() if step <= done}
        self._written = time.monotonic()

    def add(self, step: int, process: str, thread: str, spans: Iterable[Span]) -> None:
        """Add what one thread of a process did in a step; spans that overlap get threads of their own."""
        kept = sorted(joined(spans), key=lambda span: -span.seconds)[:_EVENTS]
        for number, lane in enumerate(lanes(kept), 1):
            name = thread if number == 1 else f"{thread} ({number})"
            self._events.setdefault(step, []).extend(_event(process, name, span, step) for span in lane)
        for old in sorted(self._events)[: -self._steps]:
            del self._events[old]

    def write_in_time(self) -> None:
        """Write the file if the last write lies some seconds back."""
        if time.monotonic() - self._written >= _PACE:
            self.write()

    def write(self) -> None:
        """Write the file; on a full disk the one that is there stays."""
        events = [event for step in sorted(self._events) for event in self._events[step]]
        threads = {(event.process, event.thread): 0 for event in events}
        order = sorted(threads, key=lambda one: (PROCESSES.index(one[0]), one[1]))
        threads = {one: number for number, one in enumerate(order, 1)}
        rows = [*_names(threads), *(_row(event, threads[event.process, event.thread]) for event in events)]
        with suppress(OSError):  # what else is written to this disk says so
            content = json_bytes({"displayTimeUnit": "ms", "traceEvents": rows})
            write_atomic(self.file, content, durable=False)  # steps do not wait for the disk because of it
        self._written = time.monotonic()


def _event(process: str, thread: str, span: Span, step: int) -> Event:
    # Both ends are cut alike: what lies one within the other in seconds does so in microseconds, too.
    begun, ended = int(span.begun * 1e6), int(span.ended * 1e6)
    return Event(process, thread, span.name, begun, ended - begun, {"step": step, **span.args})


def _names(threads: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Metadata events: what processes and threads are called, and in which order they are shown."""
    found: list[dict[str, Any]] = []
    for process in dict.fromkeys(process for process, _ in threads):
        pid = PROCESSES.index(process) + 1
        found.append({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": process}})
        found.append({"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}})
    for (process, thread), tid in threads.items():
        pid = PROCESSES.index(process) + 1
        found.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": thread}})
    return found


def _row(event: Event, tid: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": event.name,
        "cat": event.process,
        "pid": PROCESSES.index(event.process) + 1,
        "tid": tid,
        "ts": event.ts,
        "dur": event.dur,
        "args": dict(event.args),
    }


def read_trace(file: Path) -> dict[int, list[Event]]:
    """The events of a file by step; none if there is no file, or one that this class has not written."""
    try:
        rows = json.loads(file.read_bytes())["traceEvents"]
        threads = {row["tid"]: row["args"]["name"] for row in rows if row["name"] == "thread_name"}
        found: dict[int, list[Event]] = {}
        for row in rows:
            if row["ph"] == "X":
                process, times = PROCESSES[int(row["pid"]) - 1], (int(row["ts"]), int(row["dur"]))
                event = Event(process, threads[row["tid"]], str(row["name"]), *times, dict(row["args"]))
                found.setdefault(int(event.args["step"]), []).append(event)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}
    return found
