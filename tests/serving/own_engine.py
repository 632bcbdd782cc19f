"""An engine of a user's own that takes its time: it draws one token at each pause, for all requests together."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np

from easyvideor1.engines.engine import Result
from easyvideor1.types import DataError, EasyVideoError, MediaError, Trajectory, Turn

#: Characters of several bytes, which are several tokens here.
SAYING = "Größe: 日本語 🎈, und noch mehr."


class Slow:
    """Says ``SAYING`` again and again. A question with ``[fail]`` fails the engine, one with ``[refuse]`` itself."""

    opens_checkpoints = True
    joins_running = True
    #: Tickets that were cancelled, and requests of each submission, of all engines of this class.
    cancelled: ClassVar[list[int]] = []
    windows: ClassVar[list[int]] = []
    seconds = 0.01

    def __init__(self, family, model, load, *, batch_tokens, config=None):
        self.family, self.load, self.version, self.tickets = family, load, 0, 0
        self.pending, self.grown = {}, {}
        self.said = family.tokenizer(SAYING, add_special_tokens=False)["input_ids"] * 40

    def submit(self, requests):
        self.windows.append(len(requests))
        first, self.tickets = self.tickets, self.tickets + len(requests)
        self.pending.update(enumerate(requests, first))
        return list(range(first, self.tickets))

    def results(self):
        while self.pending:
            time.sleep(self.seconds)
            for ticket, request in list(self.pending.items()):
                if ticket not in self.grown and (fault := self.begin(request)) is not None:
                    del self.pending[ticket]
                    yield Result(ticket, request, fault=fault)
                    continue
                self.grown[ticket] = self.grown.get(ticket, 0) + 1
                if self.grown[ticket] >= request.sampling.max_new_tokens:
                    del self.pending[ticket]
                    yield Result(ticket, request, tuple(self.trajectory(request) for _ in range(request.n)))
            yield None

    def begin(self, request):
        if "[fail]" in request.prompt.text:
            raise EasyVideoError("out of order in /secret/place")  # and all requests stay pending
        if "[refuse]" in request.prompt.text:
            return DataError("not this one")
        try:
            for ref, plan in zip(request.prompt.media, request.prompt.plans, strict=True):
                self.load(ref, plan)
        except MediaError as error:
            return error
        return None

    def partial(self, ticket):
        return [self.said[: self.grown.get(ticket, 0)]] * self.pending[ticket].n

    def stats(self):
        return {"new_tokens": float(sum(self.grown.values()))}

    def trajectory(self, request):
        ids = np.array(self.said[: request.sampling.max_new_tokens], dtype=np.int64)
        text = self.family.tokenizer.decode(ids)
        return Trajectory((Turn(request.prompt, ids, np.ones(len(ids), dtype=bool), None, "length", text),))

    def cancel(self, tickets):
        for ticket in tickets:
            if self.pending.pop(ticket, None) is not None:
                self.cancelled.append(ticket)

    def update_weights(self, version, tensors):
        self.version = version

    def sleep(self):
        pass

    def wake(self):
        pass

    def close(self):
        self.pending.clear()
