"""The loop of an engine in a process of its own.

``serve`` works for any ``Port``: that of a process (``engines/worker_process.py``), or of another host such as a Ray
actor (``engines/ray_channel.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch

from easyvideor1.engines.engine import Engine, Request, Result, contract_error
from easyvideor1.engines.packed import Fault, Response
from easyvideor1.engines.registry import open_engine
from easyvideor1.engines.weights import checksum
from easyvideor1.engines.worker_messages import (
    Beat,
    Call,
    Cancel,
    Close,
    Failed,
    Finished,
    LoadWeights,
    Open,
    Opening,
    Port,
    Ready,
    Returned,
    Submit,
    ToWorker,
    WeightSource,
    WeightsTaken,
    WorkerMedia,
)
from easyvideor1.families.family import configured_family
from easyvideor1.spans import Span, SpanRecorder, joined
from easyvideor1.types import EasyVideoError

#: Seconds between two signs of life while the engine decodes.
BEAT_SECONDS = 0.5


def serve(port: Port) -> None:
    """Serve engines until ``Close``.

    Errors for users (``EasyVideoError``) are sent to the trainer. Any other exception is raised: the process ends with
    it, and the trainer starts another one, as after any crash.

    Raises:
        EOFError: the trainer is gone.
    """
    worker = _Worker(port)
    try:
        while True:
            # All messages first: what is cancelled or changed must not cost another step.
            message = port.receive(0.0 if worker.busy else None)
            if isinstance(message, Close):
                return
            if message is not None:
                worker.take(message)
            elif worker.busy:
                worker.step()
    finally:
        worker.close()


class _Worker:
    """An engine, and the tickets that it and the trainer know its requests by."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._engine: Engine | None = None
        self._media: WorkerMedia | None = None
        self._stream: Iterator[Result | None] | None = None
        self._theirs: dict[int, int] = {}  # the trainer's tickets by the engine's
        self._ours: dict[int, int] = {}
        self._asleep = False
        self._beat = 0.0
        self._recorder = SpanRecorder()

    @property
    def busy(self) -> bool:
        """Whether the engine has something to compute."""
        return bool(self._theirs) and not self._asleep

    def take(self, message: ToWorker) -> None:
        """Do what the trainer says."""
        if isinstance(message, Open):
            self._open(message.opening)
        elif self._engine is None:
            return  # it could not be opened, which the trainer has been told
        elif isinstance(message, Submit):
            self._submit(message.unpacked())
        elif isinstance(message, Cancel):
            self._cancel([self._ours[ticket] for ticket in message.tickets if ticket in self._ours])
        elif isinstance(message, LoadWeights):
            self._load(message)
        elif isinstance(message, Call):
            self._call(message)

    def step(self) -> None:
        """Let the engine compute until it yields."""
        assert self._engine is not None
        if self._stream is None:
            self._stream = iter(self._engine.results())
        try:
            with self._generating():
                result = next(self._stream, _END)
            if result is _END and self._theirs:
                raise contract_error(self._engine, f"left {len(self._theirs)} requests without a result")
            if isinstance(result, Result) and result.ticket not in self._theirs:
                raise contract_error(self._engine, f"returned ticket {result.ticket}, which is not pending")
        except EasyVideoError as error:
            self._fail(error)
            return
        if result is None:
            self._send_beat()
        elif isinstance(result, Result):
            self._finish(result)
        else:
            self._stream = None

    def close(self) -> None:
        """Close the engine and what reads its media."""
        self._forget(list(self._theirs))
        self._stream = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._media is not None:
            self._media.close()
            self._media = None

    def _open(self, opening: Opening) -> None:
        self.close()
        self._asleep = False
        opening.torch.apply()
        try:
            family = configured_family(opening.config, opening.checkpoint)
            self._media = opening.open_media()
            self._engine = open_engine(
                opening.engine,
                family,
                opening.checkpoint,
                self._media.load,
                batch_tokens=opening.batch_tokens,
                features=self._media.features,
                config=opening.config,
                tensor_parallel_size=opening.tensor_parallel_size,
                vllm=opening.vllm,
            )
        except EasyVideoError as error:
            self._port.send(Failed(Fault.of(error)))
            return
        adapters = bool(getattr(self._engine, "takes_adapters", False))
        self._port.send(Ready(os.getpid(), adapters, getattr(self._engine, "max_tokens", None)))

    def _submit(self, requests: dict[int, Request]) -> None:
        assert self._engine is not None
        try:
            tickets = self._engine.submit(list(requests.values()))
        except EasyVideoError as error:
            for ticket in requests:
                self._port.send(Finished(ticket, (), Fault.of(error), self._stats()))
            return
        self._theirs.update(zip(tickets, requests, strict=True))
        self._ours.update(zip(requests, tickets, strict=True))

    def _cancel(self, tickets: list[int]) -> None:
        assert self._engine is not None
        try:
            self._engine.cancel(tickets)
        except EasyVideoError as error:
            self._fail(error)
        else:
            self._forget(tickets)

    def _fail(self, error: EasyVideoError) -> None:
        """Give up all requests."""
        self._stream = None
        given_up = tuple(self._ours)
        self._forget(list(self._theirs))
        self._port.send(Failed(Fault.of(error), given_up))

    def _forget(self, tickets: list[int]) -> None:
        for ticket in tickets:
            del self._ours[self._theirs.pop(ticket)]

    def _finish(self, result: Result) -> None:
        ticket = self._theirs[result.ticket]
        self._forget([result.ticket])
        fault = None if result.fault is None else Fault.of(result.fault)
        responses = tuple(map(Response.of, result.trajectories))
        self._port.send(Finished(ticket, responses, fault, self._stats(), self._spans()))

    def _load(self, message: LoadWeights) -> None:
        assert self._engine is not None
        taken: dict[str, int] = {}
        fault: Fault | None = None
        try:
            with self._recorder("load weights", version=message.version):
                self._engine.update_weights(message.version, _noted(message.source, taken))
        except EasyVideoError as error:
            fault = Fault.of(error)
        else:
            self._asleep = False
        self._port.send(WeightsTaken(message.number, taken, fault, self._spans()))

    def _call(self, message: Call) -> None:
        value: Any = None
        try:
            if message.method == "partial":
                value = self._partial(message.ticket)
            else:
                with self._recorder(message.method):
                    getattr(self._engine, message.method)()
                self._asleep = message.method == "sleep"
        except EasyVideoError as error:
            self._port.send(Returned(message.number, fault=Fault.of(error)))
        else:
            self._port.send(Returned(message.number, value))

    def _partial(self, ticket: int | None) -> list[list[int]] | None:
        """Token ids so far, ``None`` for a request that is not pending or an engine that does not tell."""
        partial = getattr(self._engine, "partial", None)
        if partial is None or ticket not in self._ours:
            return None
        return [[int(each) for each in ids] for ids in partial(self._ours[ticket])]

    def _stats(self) -> dict[str, float]:
        stats = getattr(self._engine, "stats", None)
        return {} if stats is None else dict(stats())

    def _generating(self) -> AbstractContextManager[None]:
        """Records a step, unless the engine records its own."""
        return nullcontext() if hasattr(self._engine, "spans") else self._recorder("generate")

    def _spans(self) -> tuple[Span, ...]:
        """What engine and worker did since the last call."""
        spans = getattr(self._engine, "spans", None)
        own: Mapping[str, Sequence[Span]] = {} if spans is None else spans()
        return tuple(joined([*self._recorder.take(), *chain.from_iterable(own.values())]))

    def _send_beat(self) -> None:
        now = time.monotonic()
        if now - self._beat >= BEAT_SECONDS:
            self._beat = now
            self._port.send(Beat(self._stats(), self._spans()))


#: What a stream that has ended gives.
_END: Any = object()


def _noted(source: WeightSource, taken: dict[str, int]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a source; those that the engine took are noted with their checksum.

    A tensor counts as taken when the engine asks for the next one, or for the end: an engine that stops early, or is
    handed a tensor that changed meanwhile, has another sum than the trainer.
    """
    for name, tensor in source.read():
        yield name, tensor
        taken[name] = checksum(name, tensor)
