"""Training steps on N GPUs as events: reading frames, generation, rewards, scoring, update, new weights."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.scaling_cluster import Cluster, Setting, draw, forward_operations
from benchmarks.scaling_costs import Controller, Hardware, Model, Workload
from benchmarks.scaling_events import Clock, Engine, Job, Link, Reader, Servers
from benchmarks.scaling_trainer import Passes, shares, units


@dataclass(slots=True)
class Outcome:
    """Of a step in steady state: seconds, and what they were spent on; work of all steps, which must be conserved."""

    seconds: float
    phases: dict[str, float]
    tokens: int
    scored: int
    read_bytes: float
    engines_busy: float
    ranks_busy: float
    ranks_seconds: float


def simulate(model: Model, hardware: Hardware, workload: Workload, controller: Controller, setting: Setting) -> Outcome:
    """Several steps; seconds, phases and busy shares are means of ``setting.counted``, the rest is of all of them."""
    return _Run(Cluster(model, hardware, workload, controller, setting)).outcome()


class _Run:
    """The state of a simulated run."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.clock = cluster, Clock()
        hardware, workload, setting = cluster.hardware, cluster.workload, cluster.setting
        each = hardware.store_per_node / min(hardware.per_node, hardware.gpus)
        self.link = Link(self.clock, hardware.store, min(each, cluster.controller.read))
        # Engines and ranks are processes, and each reads one video at a time: no node has more flows than GPUs.
        self.engine_readers = [Reader(self.link) for _ in range(cluster.engines)]
        self.rank_readers = [Reader(self.link) for _ in range(cluster.ranks)]
        self.driver = Servers(self.clock, 1)
        self.scorers = Servers(self.clock, hardware.scorers * cluster.nodes)
        room = hardware.cache / cluster.model.key_values
        decoding = cluster.decoding()
        self.engines = [
            Engine(self.clock, decoding, float(slow), room, self._finished) for slow in cluster.engine_slowness
        ]
        self.work = [draw(workload, setting.seed, step) for step in range(setting.steps)]
        self.scored = [0] * setting.steps
        self.opened = self.version = 0
        self.training = False
        self.ends: list[float] = []
        self.begun: list[float] = []
        self.phases: dict[str, list[float]] = {}
        self.ranks_busy = 0.0
        self.busy: list[tuple[float, float]] = []  # seconds of all engines and of all ranks, at the ends of steps

    def outcome(self) -> Outcome:
        """All events, and what they come to."""
        self._open()
        self.clock.run()
        counted = self.cluster.setting.counted
        begin, end = ([0.0, *self.ends][place] for place in (counted.start, counted.stop))
        before, after = ([(0.0, 0.0), *self.busy][place] for place in (counted.start, counted.stop))
        engines, ranks = ((late - early) / (end - begin) for early, late in zip(before, after, strict=True))
        return Outcome(
            (end - begin) / (counted.stop - counted.start),
            {name: float(np.mean(found[counted])) for name, found in self.phases.items()},
            sum(engine.tokens for engine in self.engines),
            sum(self.scored),
            self.link.bytes,
            engines / self.cluster.engines,
            ranks / self.cluster.ranks,
            self.ranks_busy,
        )

    def _open(self) -> None:
        """Submit the prompts of all steps that the weights are new enough for."""
        setting = self.cluster.setting
        while self.opened < min(self.version + setting.staleness + 1, setting.steps):
            self.begun.append(self.clock.now)
            self._submit(self.opened)
            self.opened += 1

    def _submit(self, step: int) -> None:
        """Each prompt to the engine with least to do, the longest first; its frames are read at once."""
        (video, lengths), engines = self.work[step], self.engines
        pieces = min(max(len(engines) // len(video), 1), lengths.shape[1]) if self.cluster.setting.split else 1
        least = [(engine.waiting, number) for number, engine in enumerate(engines)]
        heapq.heapify(least)
        for prompt in np.argsort(-video, kind="stable"):
            for part in np.array_split(lengths[prompt], pieces):
                waiting, number = heapq.heappop(least)
                heapq.heappush(least, (waiting + len(part), number))
                engine = engines[number]
                engine.waiting += len(part)
                job = self._job(step, float(video[prompt]), [int(length) for length in part])
                self.engine_readers[number].read(job.size, lambda job=job, engine=engine: engine.add(job))  # type: ignore[misc]

    def _job(self, step: int, video: float, lengths: list[int]) -> Job:
        cluster, workload = self.cluster, self.cluster.workload
        alone = replace(workload, shared=True)
        prefill = forward_operations(cluster.model, alone, video, (), logits=False) / cluster.hardware.arithmetic
        context = video + workload.text_tokens
        room = context + 2 * workload.median * len(lengths)
        return Job(step, context, video * workload.bytes_per_token, prefill, lengths, room)

    def _finished(self, job: Job) -> None:
        """A response has ended: the trainer's process takes it, and a scorer scores it."""
        cost = self.cluster.controller
        self.driver.take(cost.result, lambda: self.scorers.take(cost.score, lambda: self._scored(job.step)))

    def _scored(self, step: int) -> None:
        self.scored[step] += 1
        self._train()

    def _train(self) -> None:
        step, cluster = self.version, self.cluster
        workload = cluster.workload
        if self.training or step == len(self.work) or self.scored[step] < workload.prompts * workload.group:
            return
        self.training = True
        waited = self.clock.now - max(self.begun[step], self.ends[-1] if self.ends else 0.0)
        parts = shares(units(cluster.model, workload, *self.work[step], cluster.ranks), cluster.ranks)
        passes = Passes(self.clock, cluster, self.rank_readers, parts, lambda: self._updated(passes, waited))
        passes.begin()

    def _updated(self, passes: Passes, waited: float) -> None:
        pause = self.cluster.new_weights()
        for name, seconds in {"generation": waited, **passes.seconds, "weights": pause}.items():
            self.phases.setdefault(name, []).append(seconds)
        self.ranks_busy += passes.busy
        if self.cluster.setting.staleness:
            for engine in self.engines:
                engine.update(pause)
        self.clock.after(pause, self._next)

    def _next(self) -> None:
        self.ends.append(self.clock.now)
        self.busy.append((sum(engine.busy for engine in self.engines), self.ranks_busy))
        self.version += 1
        self.training = False
        self._open()
        self._train()
