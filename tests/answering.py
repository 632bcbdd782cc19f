"""An engine without a model, for tests of what uses engines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from easyvideor1.engines.engine import Request, Result
from easyvideor1.types import MediaError, Trajectory


class AnsweringEngine:
    """Keeps the contract; a subclass says what it answers. ``MediaError`` becomes the fault of its request."""

    def __init__(self) -> None:
        self.version = 0
        self._tickets = 0
        self._pending: dict[int, Request] = {}

    def answer(self, request: Request) -> Sequence[Trajectory]:
        raise NotImplementedError

    def submit(self, requests: Sequence[Request]) -> list[int]:
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        self._pending.update(zip(tickets, requests, strict=True))
        return tickets

    def results(self) -> Iterator[Result]:
        while self._pending:
            ticket = next(iter(self._pending))
            request = self._pending.pop(ticket)
            try:
                yield Result(ticket, request, tuple(self.answer(request)))
            except MediaError as error:
                yield Result(ticket, request, fault=error)

    def cancel(self, tickets: Collection[int]) -> None:
        for ticket in tickets:
            self._pending.pop(ticket, None)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, object]]) -> None:
        self.version = version

    def sleep(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def close(self) -> None:
        self._pending.clear()
