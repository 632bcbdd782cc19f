"""A pool of workers: engines in processes of this machine, or in actors of a Ray cluster."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from functools import partial
from operator import methodcaller
from typing import Any, Literal

import torch

from easyvideor1.engines.collective import CollectiveWeights
from easyvideor1.engines.pool import EnginePool
from easyvideor1.engines.process import ProcessChannel
from easyvideor1.engines.ray_channel import RayChannel, join_cluster, own_address, require_gpus
from easyvideor1.engines.weights import SharedWeights
from easyvideor1.engines.worker_engine import WorkerEngine
from easyvideor1.engines.worker_messages import Channel, Opening, WeightSource
from easyvideor1.types import ConfigError

Placement = Literal["process", "ray"]
WeightSync = Literal["auto", "shared_memory", "collective"]

#: Seconds after which ``results`` gives its caller control although nothing came.
_PAUSE = 0.05


class WorkerPool(EnginePool):
    """``EnginePool`` over workers, which start at the same time and share one copy of the weights.

    Args:
        opening: what each worker opens.
        workers: their number.
        deadline: of ``WorkerEngine``, in seconds.
        placement: processes of this machine, or actors that Ray places.
        gpus_per_worker: GPUs of an actor; may be a fraction.
        group: a placement group of Ray; actors go to its bundles in turn, and share what these have reserved.
        weight_sync: how weights reach the workers. ``auto`` is by shared memory where a worker can map memory of this
            process, and by collective elsewhere.

    Raises:
        ConfigError: the engine cannot be opened as configured, or there is no such cluster.
        EasyVideoError: a worker ended before it was ready.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        workers: int,
        deadline: float = 0.0,
        placement: Placement = "process",
        gpus_per_worker: float = 0.0,
        group: Any = None,
        weight_sync: WeightSync = "auto",
    ) -> None:
        self._placement = placement
        self._gpus = gpus_per_worker
        self._group = group
        self._weight_sync = weight_sync
        self._bell = threading.Event()
        self._weights = SharedWeights()
        self._broadcast: CollectiveWeights | None = None
        self._channels: dict[int, Channel] = {}
        engines: dict[str, WorkerEngine] = {}
        try:
            if placement == "ray":
                join_cluster()
                if group is None:
                    require_gpus(workers * gpus_per_worker)
            for number in range(workers):
                engines[f"worker {number}"] = WorkerEngine(
                    opening,
                    partial(self._start_worker, number),
                    deadline=deadline,
                    weights=self._weights,
                    source=partial(self._source, number),
                    pause=0.0,
                )
            for engine in engines.values():
                engine.ready()
            super().__init__(engines, batch_tokens=opening.batch_tokens)
        except BaseException:
            for engine in engines.values():
                engine.close()
            self._weights.close()
            raise

    def close(self) -> None:
        """End all workers."""
        super().close()
        if self._broadcast is not None:
            self._broadcast.close()
        self._weights.close()

    def _start_worker(self, number: int) -> Channel:
        """Start the worker of an engine, also one that takes the place of another."""
        channel: Channel
        if self._placement == "ray":
            channel = RayChannel(gpus=self._gpus, on_message=self._bell.set, group=self._group, number=number)
        else:
            channel = ProcessChannel(self._bell.set)
        self._channels[number] = channel
        return channel

    def _give_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        # A worker that has started again may be reading what is about to be overwritten; what it says is of no use now.
        self._finish_updates()
        if self._broadcast is not None:
            self._broadcast.wait()
        names: Collection[str] = self._weights.write(tensors)
        self._weights.require_all(version)
        if not all(getattr(member.engine, "trusted", True) for member in self._members.values()):
            names = self._weights.checksums.keys()
        channels = [self._channels[number] for number in self._members]
        if remote := [channel for channel in channels if self._by_collective(channel)]:
            self._collective().prepare(remote, names)
        self._begin_update()
        self._update_each(methodcaller("begin_update", version, names))
        if (refusal := self._finish_updates()) is not None:
            raise refusal

    def _finish_updates(self) -> ConfigError | None:
        """Wait for all workers together: one that died may be what the others of its group wait for.

        Returns:
            The first refusal, if there is any.
        """
        refusal: ConfigError | None = None
        while True:
            self._bell.clear()
            try:
                if not any(self._update_each(methodcaller("updating"))):
                    return refusal
            except ConfigError as error:
                refusal = refusal or error  # others may not have answered yet
            else:
                self._bell.wait(_PAUSE)

    def _source(self, number: int, names: Collection[str]) -> WeightSource:
        """How the present worker of an engine reads weights."""
        channel = self._channels[number]
        return (
            self._collective().source(channel, names) if self._by_collective(channel) else self._weights.source(names)
        )

    def _by_collective(self, channel: Channel) -> bool:
        return self._weight_sync == "collective" or (self._weight_sync == "auto" and not channel.shares_memory)

    def _collective(self) -> CollectiveWeights:
        if self._broadcast is None:
            host = "127.0.0.1"
            if self._placement == "ray":
                host = own_address()
            # NCCL needs a device for each member; workers with a share of one take their weights through the CPU.
            on_devices = self._gpus >= 1 and torch.cuda.is_available()
            self._broadcast = CollectiveWeights(self._weights, host, "nccl" if on_devices else "gloo")
        return self._broadcast

    def _before_round(self) -> None:
        self._bell.clear()

    def _after_nothing(self) -> None:
        self._bell.wait(_PAUSE)


def open_worker(opening: Opening, *, deadline: float = 0.0) -> WorkerEngine:
    """An engine in a process of its own, ready to generate; whoever opens it closes it.

    Raises:
        ConfigError: the engine cannot be opened as configured.
        EasyVideoError: its process ended before it was ready.
    """
    engine = WorkerEngine(opening, deadline=deadline)
    try:
        engine.ready()
    except BaseException:
        engine.close()
        raise
    return engine
