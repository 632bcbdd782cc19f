"""The trainer of a simulated step: what its ranks compute together, and in which order."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scaling_cluster import Cluster, forward_operations
from benchmarks.scaling_costs import Model, Workload
from benchmarks.scaling_events import Clock, Event, Reader

#: What an update costs in forward passes: one, one again for checkpointed layers, and two for the backward pass.
UPDATE = 4.0


@dataclass(frozen=True, slots=True)
class Unit:
    """A prompt and some responses to it, which the trainer computes together."""

    tokens: float
    forward: float
    size: float


def units(model: Model, workload: Workload, video: np.ndarray, lengths: np.ndarray, ranks: int) -> list[Unit]:
    """What the trainer computes together: responses of a prompt, in as many pieces as give every rank one."""
    pieces = workload.group if not workload.shared else min(max(ranks // len(video), 1), workload.group)
    found = []
    for tokens, group in zip(video, lengths, strict=True):
        for part in np.array_split(group, pieces):
            own = [float(length) for length in part]
            forward = forward_operations(model, workload, float(tokens), own, logits=True)
            size = float(tokens) * workload.bytes_per_token
            found.append(Unit(float(tokens) + workload.text_tokens + sum(own), forward, size))
    return found


def shares(found: Sequence[Unit], ranks: int) -> list[list[Unit]]:
    """Units by rank: the dearest first, each to the rank that has least (Graham 1969); passes of like cost together."""
    heap = [(0.0, rank) for rank in range(ranks)]
    parts: list[list[Unit]] = [[] for _ in range(ranks)]
    for unit in sorted(found, key=lambda one: -one.forward):
        load, rank = heapq.heappop(heap)
        parts[rank].append(unit)
        heapq.heappush(heap, (load + unit.forward, rank))
    return parts


class Passes:
    """Scoring passes and the update of one step. All ranks pass together, and read the frames of a pass during the one
    before. ``seconds`` are sums by what they were spent on; their sum is that of the step."""

    def __init__(
        self, clock: Clock, cluster: Cluster, readers: Sequence[Reader], parts: Sequence[Sequence[Unit]], done: Event
    ) -> None:
        self._clock, self._cluster, self._readers, self._parts, self._done = clock, cluster, readers, parts, done
        rounds = [1.0] * cluster.workload.scoring + [UPDATE]
        self._plan = [(factor, number) for factor in rounds for number in range(max(map(len, parts)))]
        self._ready: set[int] = set()
        self._waiting: tuple[int, float] | None = None
        self.seconds = dict.fromkeys(("calls", "passes", "uneven", "network", "frames"), 0.0)
        self.busy = 0.0

    def begin(self) -> None:
        """Have the events of the whole step."""
        self._read(0)
        self._go(0)

    def _read(self, place: int) -> None:
        """The frames of a pass, on every rank by itself."""
        if place == len(self._plan):
            return
        number = self._plan[place][1]
        reads = [
            (reader, part[number].size)
            for reader, part in zip(self._readers, self._parts, strict=True)
            if number < len(part)
        ]
        left = len(reads)

        def arrived() -> None:
            nonlocal left
            left -= 1
            if not left:
                self._ready.add(place)
                if self._waiting is not None and self._waiting[0] == place:
                    self._go(place)

        for reader, size in reads:
            reader.read(size, arrived)

    def _go(self, place: int) -> None:
        cluster, seconds = self._cluster, self.seconds
        if place == len(self._plan):
            last = cluster.optimizer()
            seconds["network"] += last
            self._clock.after(last, self._done)
            return
        if place not in self._ready:
            self._waiting = (place, self._clock.now)
            return
        if self._waiting is not None:
            seconds["frames"] += self._clock.now - self._waiting[1]
            self._waiting = None
        factor, number = self._plan[place]
        samples = cluster.workload.prompts * cluster.workload.group
        call = cluster.call(samples, first=place == 0) if number == 0 else 0.0
        works = [
            factor * part[number].forward / cluster.hardware.arithmetic * float(slow)
            for part, slow in zip(self._parts, cluster.rank_slowness, strict=True)
            if number < len(part)
        ]
        mean, longest = sum(works) / len(self._parts), max(works)
        whole = max(longest, cluster.pass_gathers(backward=factor > 1))  # layers are gathered beside the arithmetic
        seconds["calls"] += call
        seconds["passes"] += mean
        seconds["uneven"] += longest - mean
        seconds["network"] += whole - longest
        self.busy += sum(works)
        self._read(place + 1)
        self._clock.after(call + whole, lambda: self._go(place + 1))
