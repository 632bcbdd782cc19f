"""Spans of time: who worked on what, from when to when. The trace of a run and its idle shares are made of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

#: Spans that a recorder keeps until they are taken; older ones are dropped.
_KEPT = 4096
#: Seconds between two spans of one name that are shown as one.
_GAP = 0.001
#: Adds up with ``time.monotonic``, which never jumps, to seconds since the epoch, which all processes share.
_EPOCH = time.time() - time.monotonic()


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work; ``begun`` and ``ended`` are seconds since the epoch. Can be pickled."""

    name: str
    begun: float
    ended: float
    args: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun


def now() -> float:
    """Seconds since the epoch by a clock that never goes back within a process."""
    return _EPOCH + time.monotonic()


class SpanRecorder:
    """``with spans("prefill", prompts=8): ...`` records the block, in any thread, until ``take`` is called."""

    def __init__(self) -> None:
        self._done: deque[Span] = deque(maxlen=_KEPT)
        self._open: dict[object, Span] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, name: str, **args: float | str) -> Iterator[None]:
        key, begun = object(), now()
        with self._lock:
            self._open[key] = Span(name, begun, begun, args)
        try:
            yield
        finally:
            with self._lock:
                self._add(replace(self._open.pop(key), ended=now()))

    def add(self, spans: Iterable[Span]) -> None:
        """Keep spans that were recorded elsewhere, as in another process."""
        with self._lock:
            for span in spans:
                self._add(span)

    def _add(self, span: Span) -> None:
        """Keep a span; one that goes on with the last one becomes a part of it, so that steps of decoding stay few."""
        if self._done and follows(self._done[-1], span):
            self._done[-1] = replace(self._done[-1], ended=span.ended)
        else:
            self._done.append(span)

    def take(self) -> list[Span]:
        """What was recorded since the last call. A block under way is cut: the rest of it comes with a later call."""
        with self._lock:
            cut = now()
            found = [*self._done, *(replace(span, ended=cut) for span in self._open.values())]
            self._done.clear()
            self._open = {key: replace(span, begun=cut, ended=cut) for key, span in self._open.items()}
        return found


def follows(before: Span, span: Span) -> bool:
    """Whether a span goes on at once with what the one before did."""
    return (before.name, before.args) == (span.name, span.args) and 0 <= span.begun - before.ended <= _GAP


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order of their beginning; those that follow each other at once with one name and ``args`` are one."""
    found: list[Span] = []
    last: dict[str, int] = {}  # the place of the last span of each name
    for span in sorted(spans, key=lambda one: (one.begun, -one.ended)):
        place = last.get(span.name)
        if place is not None and follows(found[place], span):
            found[place] = replace(found[place], ended=span.ended)
            continue
        last[span.name] = len(found)
        found.append(span)
    return found


def busy_seconds(spans: Iterable[Span]) -> float:
    """Seconds that are covered by at least one span."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans, key=lambda one: one.begun):
        total += max(0.0, span.ended - max(span.begun, until))
        until = max(until, span.ended)
    return total


def lanes(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans in as few lanes as it takes that two of a lane lie one within the other, or one after the other."""
    found: list[list[Span]] = []
    open_: list[list[float]] = []  # of each lane the ends of the spans under way, the innermost last
    for span in sorted(spans, key=lambda one: (one.begun, -one.ended)):
        for lane, ends in zip(found, open_, strict=True):
            while ends and ends[-1] <= span.begun:
                ends.pop()
            if not ends or span.ended <= ends[-1]:
                lane.append(span)
                ends.append(span.ended)
                break
        else:
            found.append([span])
            open_.append([span.ended])
    return found
