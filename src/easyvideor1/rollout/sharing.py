"""One engine for several callers: each gets its own results, whoever asks the engine.

A stage that generates ahead has requests pending while an evaluation uses the same engine. Each of them holds a
``Share``: results of other shares that come meanwhile are kept for these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from easyvideor1.engines.engine import Engine, Request, Result, class_name, contract_error

if TYPE_CHECKING:
    import torch


class SharedEngine:
    """An engine and the shares of it. Whoever opened the engine closes it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._owners: dict[int, Share] = {}

    def share(self) -> Share:
        """A new share, which is used like an engine of its own."""
        return Share(self)

    def submit(self, share: Share, requests: Sequence[Request]) -> list[int]:
        """Submit requests of a share."""
        tickets = self.engine.submit(requests)
        self._owners.update(dict.fromkeys(tickets, share))
        return tickets

    def pending(self, share: Share) -> list[int]:
        """The tickets of a share that the engine still owes."""
        return [ticket for ticket, owner in self._owners.items() if owner is share]

    def step(self, results: Iterator[Result | None]) -> bool:
        """Hand the next of the engine's results to its share; returns whether the engine had anything to say.

        Raises:
            EasyVideoError: a ticket is not pending. Of what the engine raises, all shares with pending requests learn.
        """
        try:
            result: Result | None = next(results, _END)
        except BaseException as error:
            for owner in self._owners.values():
                owner.lost = error
            self._owners.clear()
            raise
        if isinstance(result, Result):
            self._hand(result)
        return result is not _END

    def hand_over(self) -> None:
        """Hand what the engine has finished to its shares, without a wait where the engine can do that."""
        if hasattr(self.engine, "arrived"):
            for result in self.engine.arrived():
                self._hand(result)
            return
        results = iter(self.engine.results())
        handed = -1
        while handed != len(self._owners):  # until it yields None, or ends
            handed = len(self._owners)
            self.step(results)

    def _hand(self, result: Result) -> None:
        if result.ticket not in self._owners:
            raise contract_error(self.engine, f"returned ticket {result.ticket}, which is not pending")
        self._owners.pop(result.ticket).arrived_results.append(result)

    def cancel(self, share: Share, tickets: Collection[int]) -> None:
        """Drop requests of a share; those of others are left alone."""
        own = [ticket for ticket in tickets if self._owners.get(ticket) is share]
        self.engine.cancel(own)
        for ticket in own:
            del self._owners[ticket]


_END: Any = object()


class Share:
    """An engine that has nothing pending but what was submitted here.

    Everything else, such as the version and ``update_weights``, is the engine's.
    """

    version: int

    def __init__(self, shared: SharedEngine) -> None:
        self._shared = shared
        self.class_name = class_name(shared.engine)
        self.arrived_results: deque[Result] = deque()
        self.lost: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared.engine, name)  # optional attributes and methods of engines

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``."""
        return self._shared.submit(self, requests)

    def results(self) -> Iterator[Result | None]:
        """See ``Engine``.

        Raises:
            EasyVideoError: the engine failed, here or while another share was waiting for results.
        """
        stream = iter(self._shared.engine.results())
        while True:
            while self.arrived_results:
                yield self.arrived_results.popleft()
            if self.lost is not None:
                error, self.lost = self.lost, None
                raise error
            if not self._shared.pending(self):
                return
            if not self._step(stream):
                raise contract_error(self._shared.engine, "left requests without a result")
            if not self.arrived_results:
                yield None

    def _step(self, stream: Iterator[Result | None]) -> bool:
        try:
            return self._shared.step(stream)
        except BaseException:
            self.lost = None  # raised here and now
            raise

    def arrived(self) -> list[Result]:
        """What has finished of this share. An engine without this method is asked until it has nothing to say."""
        if self.lost is None and self._shared.pending(self):
            try:
                self._shared.hand_over()
            except BaseException:
                self.lost = None  # raised here and now
                raise
        found = list(self.arrived_results)
        self.arrived_results.clear()
        return found

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        gone = set(tickets)
        self.arrived_results = deque(result for result in self.arrived_results if result.ticket not in gone)
        self._shared.cancel(self, tickets)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """See ``Engine``."""
        self._shared.engine.update_weights(version, tensors)

    def sleep(self) -> None:
        """See ``Engine``."""
        self._shared.engine.sleep()

    def wake(self) -> None:
        """See ``Engine``."""
        self._shared.engine.wake()

    def close(self) -> None:
        """Drop what is pending here; the engine stays open."""
        self.arrived_results.clear()
        self._shared.cancel(self, self._shared.pending(self))
