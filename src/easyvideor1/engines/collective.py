"""Weights on their way from the trainer to engines that cannot map its memory: on other machines, or other devices.

Trainer and engines form a group of ``torch.distributed`` beside any other that they may have, and the trainer, rank 0,
broadcasts its weights in buckets. The group has gloo for tensors on the CPU and NCCL for those on a GPU (not run yet:
no machine with several GPUs was at hand). It stays as long as its members do.

What is sent stands in ``SharedWeights``, a copy of the weights of the last update: the trainer may train on while it is
sent, and an engine that starts again, alone, gets the weights that the others have.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from easyvideor1.engines.weights import ALIGNMENT, SharedWeights, Slot
from easyvideor1.engines.worker_messages import Channel

T = TypeVar("T")

#: Bytes that are sent at a time. A tensor that is larger goes alone.
BUCKET_BYTES = 1 << 26
#: Seconds that a member of a group waits for another; an engine that starts again loads its model first.
TIMEOUT = timedelta(seconds=600)
#: Seconds that a member tries to reach the place where the group meets.
_CONNECT = timedelta(seconds=10)
#: Seconds after which a member that waits looks whether the group still is.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the members of a group meet, and which of them one is; rank 0 is the trainer."""

    host: str
    port: int
    rank: int
    size: int
    backend: str

    def store(self) -> Any:
        """The place, which the trainer closes when the group breaks up.

        Raises:
            RuntimeError: it is closed.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # It was open before a member heard of it. To one that is closed the store tries to connect all this time.
        store = TCPStore(self.host, self.port, is_master=False, timeout=_CONNECT)
        store.set_timeout(TIMEOUT)
        return store

    def memory(self, bucket: Mapping[str, Slot]) -> torch.Tensor:
        """Room for a bucket, where the backend can reach it."""
        length = max(slot.start + slot.bytes for slot in bucket.values())
        return torch.empty(length, dtype=torch.uint8, device="cuda" if self.backend == "nccl" else "cpu")

    def group(self, store: Any) -> Any:
        """Join the group, which is independent of the default group of the process.

        Raises:
            RuntimeError: the trainer is gone, or a member does not come.
        """
        if self.backend == "nccl":
            from torch.distributed import ProcessGroupNCCL

            options = ProcessGroupNCCL.Options()
            options._timeout = TIMEOUT
            return ProcessGroupNCCL(store, self.rank, self.size, options)
        from torch.distributed import ProcessGroupGloo

        return ProcessGroupGloo(store, self.rank, self.size, TIMEOUT)


@dataclass(frozen=True, slots=True)
class CollectiveSource:
    """The ``WeightSource`` of a member of a group: what comes in each bucket."""

    meeting: Meeting
    buckets: tuple[Mapping[str, Slot], ...]

    def read(self) -> Iterator[tuple[str, torch.Tensor]]:
        """See ``WeightSource``.

        Raises:
            RuntimeError: another member of the group is gone.
        """
        store, group = _joined(self.meeting)
        left = list(self.buckets)
        try:
            while left:
                bucket = left.pop(0)
                memory = self.meeting.memory(bucket)
                _broadcast(memory, group, store)
                for name, slot in bucket.items():
                    yield name, slot.view(memory)
        except GeneratorExit:  # the engine refuses the weights; the group goes on, and so does its order
            for bucket in left:
                memory = self.meeting.memory(bucket)
                _broadcast(memory, group, store)


class CollectiveWeights:
    """Broadcasts the tensors of ``SharedWeights``: to several engines at once, or to one that starts again.

    Args:
        weights: what is sent. Call ``wait`` before it is written to.
        host: address of this machine as the engines reach it; nothing listens on another one.
        backend: ``gloo`` or ``nccl``.
    """

    def __init__(self, weights: SharedWeights, host: str = "127.0.0.1", backend: str = "gloo") -> None:
        self._weights = weights
        self._host = host
        self._backend = backend
        self._group: _Group | None = None
        self._alone: list[_Group] = []
        self._prepared: dict[Channel, CollectiveSource] = {}

    def prepare(self, channels: Sequence[Channel], names: Collection[str]) -> None:
        """Begin to send tensors to the engines at the other ends of these lines; each must be given its ``source``."""
        self.wait()
        if self._group is None or self._group.broken or self._group.channels != tuple(channels):
            self._group = _Group(channels, self._host, self._backend) if channels else None
        if self._group is not None:
            self._prepared = dict(zip(channels, self._group.send(self._weights, names), strict=True))

    def source(self, channel: Channel, names: Collection[str] | None) -> CollectiveSource:
        """What an engine reads: what was prepared for it, else the tensors of these names, or all, sent to it alone."""
        if (source := self._prepared.pop(channel, None)) is not None:
            return source
        # It takes the place of an engine that died, for which the others may be waiting.
        if self._group is not None:
            self._group.give_up_on_the_dead()
        self._alone.append(_Group([channel], self._host, self._backend))
        return self._alone[-1].send(self._weights, names)[0]

    def wait(self) -> None:
        """Wait until all that was begun is sent, except to engines that died meanwhile."""
        self._prepared = {}
        for group in [*self._alone, *filter(None, [self._group])]:
            group.give_up_on_the_dead()
            group.wait()
        self._alone = []

    def close(self) -> None:
        """Leave all groups, whatever was begun."""
        for group in [*self._alone, *filter(None, [self._group])]:
            group.break_up()
        self._group, self._alone, self._prepared = None, [], {}


class _Group:
    """The trainer's side of a group, with a place to meet of its own."""

    def __init__(self, channels: Sequence[Channel], host: str, backend: str) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.channels = tuple(channels)
        self.broken = False
        with socket.create_server((host, 0)) as server:
            port = server.getsockname()[1]
            # The store closes the descriptor that it is given.
            self._store: Any = TCPStore(
                host, port, is_master=True, wait_for_workers=False, timeout=TIMEOUT, master_listen_fd=server.detach()
            )
        size = len(channels) + 1
        self._meetings = [Meeting(host, port, rank, size, backend) for rank in range(size)]
        self._group: Any = None
        self._sending: threading.Thread | None = None

    def send(self, weights: SharedWeights, names: Collection[str] | None) -> list[CollectiveSource]:
        """Begin to send, in a thread; returns what each member reads."""
        buckets = _buckets(weights.slots(names))
        self._sending = threading.Thread(target=self._send, args=(weights, buckets), daemon=True)
        self._sending.start()
        return [CollectiveSource(meeting, buckets) for meeting in self._meetings[1:]]

    def wait(self) -> None:
        """Wait until all is sent, or could not be."""
        if self._sending is not None:
            self._sending.join()
            self._sending = None

    def give_up_on_the_dead(self) -> None:
        """Break the group up if it still sends, and one of its members is dead."""
        if self._sending is not None and self._sending.is_alive() and not all(c.alive() for c in self.channels):
            self.break_up()

    def break_up(self) -> None:
        """Leave the group: members that wait get an error."""
        self.broken = True
        self._store = None  # who waits for a member to come loses the place where it would
        if self._sending is None or not self._sending.is_alive():
            self._group = None

    def _send(self, weights: SharedWeights, buckets: Sequence[Mapping[str, Slot]]) -> None:
        meeting = self._meetings[0]
        try:
            store = meeting.store()
            if self._group is None:
                self._group = _join(meeting, store)
            for bucket in buckets:
                memory = meeting.memory(bucket)
                for name, slot in bucket.items():
                    slot.view(memory).copy_(weights.tensor(name))
                _broadcast(memory, self._group, store)
        except RuntimeError:  # of torch.distributed: a member is gone; the others notice it by the place
            self.broken, self._group, self._store = True, None, None


#: The place and the group that this process reads from, by its meeting.
_read_from: dict[Meeting, tuple[Any, Any]] = {}


def _joined(meeting: Meeting) -> tuple[Any, Any]:
    if meeting not in _read_from:
        _read_from.clear()
        store = meeting.store()
        _read_from[meeting] = store, _join(meeting, store)
    return _read_from[meeting]


def _join(meeting: Meeting, store: Any) -> Any:
    """Join a group. Members connect to one another, and to one that died on the way gloo would connect for minutes."""
    return _unless_closed(lambda: meeting.group(meeting.store()), store)  # its store is busy while it waits


def _broadcast(memory: torch.Tensor, group: Any, store: Any) -> None:
    """Send or receive a bucket. Gloo does not tell a member that waits when another has left the group before."""
    _unless_closed(lambda: group.broadcast(memory, 0).wait(), store)


def _unless_closed(work: Callable[[], T], store: Any) -> T:
    """What ``work`` returns; it is done in a thread, and left alone there when the place is closed.

    Raises:
        RuntimeError: the place is closed; else what ``work`` raised.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            return done.result(_LOOK_SECONDS)
        except TimeoutError:
            if done.done():  # its own
                raise
            store.check(["open"])  # raises when the place is closed


def _buckets(slots: Mapping[str, Slot]) -> tuple[dict[str, Slot], ...]:
    """Tensors in buckets of at most ``BUCKET_BYTES``, with their places in the bucket."""
    buckets: list[dict[str, Slot]] = []
    end = 0
    for name, slot in slots.items():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        if not buckets or start + slot.bytes > BUCKET_BYTES:
            buckets.append({})
            start = 0
        buckets[-1][name] = Slot(start, slot.shape, slot.dtype)
        end = start + slot.bytes
    return tuple(buckets)
