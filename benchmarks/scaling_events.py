"""The parts of a simulated training step: a clock with events, a shared link, servers, and engines that decode."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Event = Callable[[], None]

#: Steps of decoding after which an engine looks for prompts that have become ready.
_LOOK = 32


class Clock:
    """Events in the order of their times; those of one time in the order in which they were made."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._count = 0

    def after(self, seconds: float, event: Event) -> None:
        """Have ``event`` happen in so many seconds."""
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, event))

    def run(self) -> None:
        """All events, until none is left."""
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


class Link:
    """A store that many read at the same time: flows share its rate evenly, and none gets more than ``most``."""

    def __init__(self, clock: Clock, rate: float, most: float) -> None:
        self._clock, self._rate, self._most = clock, rate, most
        self._served = 0.0  # bytes that a flow would have had since the beginning
        self._at = 0.0
        self._flows: list[tuple[float, int, Event]] = []
        self._count = self._turn = 0
        self.bytes = 0.0

    def read(self, size: float, done: Event) -> None:
        """Read ``size`` bytes, then ``done``."""
        self._advance()
        self.bytes += size
        self._count += 1
        heapq.heappush(self._flows, (self._served + size, self._count, done))
        self._schedule()

    def _speed(self) -> float:
        return min(self._most, self._rate / max(len(self._flows), 1))

    def _advance(self) -> None:
        passed = self._clock.now - self._at
        if passed:
            self._served += passed * self._speed()
        self._at = self._clock.now

    def _schedule(self) -> None:
        self._turn += 1
        turn = self._turn
        if self._flows:
            left = max(self._flows[0][0] - self._served, 0.0)
            self._clock.after(left / self._speed() if left else 0.0, lambda: self._finish(turn))

    def _finish(self, turn: int) -> None:
        if turn != self._turn:  # flows came or went since
            return
        self._advance()
        end, _, done = heapq.heappop(self._flows)
        self._served = max(self._served, end)
        self._schedule()
        done()


class Reader:
    """A process that reads from a store: one thing after the other."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queue: deque[tuple[float, Event]] = deque()
        self._reading = False

    def read(self, size: float, done: Event) -> None:
        """Read ``size`` bytes behind all that was asked for before, then ``done``."""
        self._queue.append((size, done))
        if not self._reading:
            self._next()

    def _next(self) -> None:
        self._reading = bool(self._queue)
        if self._reading:
            size, done = self._queue.popleft()
            self._link.read(size, lambda: self._end(done))

    def _end(self, done: Event) -> None:
        self._next()
        done()


class Servers:
    """Like servers with one queue."""

    def __init__(self, clock: Clock, count: int) -> None:
        self._clock = clock
        self._free = [0.0] * count
        self.busy = 0.0

    def take(self, seconds: float, done: Event) -> None:
        """Work of so many seconds on the server that is free first, then ``done``."""
        begin = max(heapq.heappop(self._free), self._clock.now)
        self.busy += seconds
        heapq.heappush(self._free, begin + seconds)
        self._clock.after(begin + seconds - self._clock.now, done)


@dataclass(slots=True)
class Job:
    """A prompt and responses to it, as an engine has them; tokens and seconds."""

    step: int
    context: float
    size: float
    prefill: float
    lengths: list[int]
    #: Tokens that it takes of the cache of an engine: its prompt once, and its responses.
    room: float = 0.0


@dataclass(slots=True)
class Decoding:
    """What a step of decoding takes: seconds for the weights, per cached token, and of arithmetic per response.

    Keys of a prompt are read once for each of its responses, as paged attention does.
    """

    weights: float
    per_token: float
    per_response: float
    #: What every step takes beside: scheduling, launches of kernels.
    overhead: float = 0.0

    def steps(self, count: int, cached: float, responses: int) -> float:
        """Seconds of ``count`` steps with ``cached`` tokens at their beginning; each adds one per response."""
        read = count * self.weights + self.per_token * (count * cached + responses * count * (count - 1) / 2)
        return count * self.overhead + max(read, count * responses * self.per_response)


class Engine:
    """Continuous batching on one GPU (or several that share each layer): a prefill goes before decoding.

    ``seconds`` of a unit of its work are multiplied by ``slowness``.
    """

    def __init__(self, clock: Clock, decoding: Decoding, slowness: float, room: float, finished: Callable[[Job], None]):
        self._clock, self._decoding, self._slowness, self._room = clock, decoding, slowness, room
        self._finished = finished
        self._ready: deque[Job] = deque()
        self._active: list[tuple[int, int, Job, int]] = []  # by the step of the engine at which they end
        self._steps = self._count = 0
        self._held: dict[int, tuple[Job, int]] = {}
        self._cached = self._taken = 0.0
        self._working = False
        self._paused_until = 0.0
        self.waiting = 0  # responses that were sent here and have not ended
        self.tokens = 0
        self.busy = 0.0

    def add(self, job: Job) -> None:
        """A prompt whose frames are here."""
        self._ready.append(job)
        self._go()

    def update(self, seconds: float) -> None:
        """New weights: pause for them, and compute the keys of what is running anew."""
        again = sum(job.prefill for job, _ in self._held.values()) * self._slowness
        self._paused_until = max(self._paused_until, self._clock.now) + seconds + again

    def _go(self) -> None:
        if not self._working:
            self._working = True
            self._clock.after(0.0, self._work)

    def _spend(self, seconds: float, then: Event) -> None:
        self.busy += seconds * self._slowness
        self._clock.after(seconds * self._slowness, then)

    def _work(self) -> None:
        if self._clock.now < self._paused_until:
            self._clock.after(self._paused_until - self._clock.now, self._work)
        elif self._ready and (self._admits(self._ready[0]) or not self._active):
            job = self._ready.popleft()
            self._spend(job.prefill, lambda: self._prefilled(job))
        elif self._active:
            count = min(_LOOK, self._active[0][0] - self._steps)
            self._spend(self._decoding.steps(count, self._cached, len(self._active)), lambda: self._decoded(count))
        else:
            self._working = False

    def _admits(self, job: Job) -> bool:
        return self._taken + job.room <= self._room

    def _prefilled(self, job: Job) -> None:
        self._held[id(job)] = (job, len(job.lengths))
        self._taken += job.room
        self._cached += job.context * len(job.lengths)
        for length in job.lengths:
            self._count += 1
            heapq.heappush(self._active, (self._steps + length, self._count, job, length))
        self._work()

    def _decoded(self, count: int) -> None:
        self._steps += count
        self._cached += count * len(self._active)
        self.tokens += count * len(self._active)
        while self._active and self._active[0][0] == self._steps:
            _, _, job, length = heapq.heappop(self._active)
            self._cached -= job.context + length
            self.waiting -= 1
            _, left = self._held.pop(id(job))
            if left > 1:
                self._held[id(job)] = (job, left - 1)
            else:
                self._taken -= job.room
            self._finished(job)
        self._work()
