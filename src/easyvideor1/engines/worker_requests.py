"""The requests that a worker has, as its trainer keeps them: sent, lost with a worker, sent again, finished."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.worker_messages import Finished, Submit
from easyvideor1.types import DataError, RequestFailed


@dataclass(slots=True)
class _Sent:
    """A request under way: its window, when it was sent, and how many workers died with it."""

    request: Request
    window: int
    since: float
    losses: int = 0


class WorkerRequests:
    """Requests by ticket: those under way, and results that nobody has taken yet."""

    def __init__(self) -> None:
        self._tickets = self._windows = 0
        self._sent: dict[int, _Sent] = {}
        #: Results to be taken, in the order in which they came.
        self.done: dict[int, Result] = {}
        #: What an engine gave up with an error that nobody has been told yet.
        self.given_up: dict[int, Request] = {}

    @property
    def pending(self) -> Mapping[int, Request]:
        """The requests under way."""
        return {ticket: sent.request for ticket, sent in self._sent.items()}

    def __bool__(self) -> bool:
        return bool(self._sent)

    def known(self, ticket: int) -> Request:
        """The request of a ticket whose result, or whose engine's error, nobody has been given yet.

        Raises:
            KeyError: there is none.
        """
        if ticket in self.done:
            return self.done[ticket].request
        return self.given_up[ticket] if ticket in self.given_up else self._sent[ticket].request

    def add(self, requests: Sequence[Request], limit: int | None) -> tuple[list[int], Submit | None]:
        """Give tickets to the requests of a window.

        Args:
            requests: that are new.
            limit: tokens that a prompt and its response may have together; what may need more is refused.

        Returns:
            All tickets, and the message with the requests to be sent.
        """
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        window: dict[int, Request] = {}
        for ticket, request in zip(tickets, requests, strict=True):
            needed = len(request.prompt) + request.sampling.max_new_tokens
            if limit is not None and needed > limit:
                self.done[ticket] = Result(ticket, request, fault=_too_long(request, needed, limit))
            else:
                window[ticket] = request
        if not window:
            return tickets, None
        self._windows += 1
        now = time.monotonic()
        self._sent.update((ticket, _Sent(each, self._windows, now)) for ticket, each in window.items())
        return tickets, Submit.of(window)

    def again(self) -> Iterator[Submit]:
        """The messages with all that is under way, window by window."""
        for _, window in groupby(self._sent.items(), key=lambda item: item[1].window):
            yield Submit.of({ticket: sent.request for ticket, sent in window})

    def cancel(self, tickets: Collection[int]) -> list[int]:
        """Drop requests; returns those that were under way."""
        for ticket in tickets:
            self.given_up.pop(ticket, None)
            self.done.pop(ticket, None)
        return [ticket for ticket in tickets if self._sent.pop(ticket, None) is not None]

    def give_up(self, tickets: Collection[int]) -> bool:
        """An engine gave up these requests: with those that are under way among them, all others end."""
        if self._sent.keys().isdisjoint(tickets):
            return False
        self.given_up |= self.pending
        self._sent.clear()
        return True

    def finish(self, message: Finished) -> None:
        """Take a result, unless it was cancelled meanwhile."""
        if (sent := self._sent.pop(message.ticket, None)) is None:
            return
        fault = None if message.fault is None else message.fault.error()
        found = tuple(each.trajectory(sent.request.prompt) for each in message.responses)
        self.done[message.ticket] = Result(message.ticket, sent.request, found, fault)

    def restart_clocks(self) -> None:
        """Count time from now: the worker begins now."""
        now = time.monotonic()
        for sent in self._sent.values():
            sent.since = now

    def lose(self, words: str) -> None:
        """Note that a worker died with all that was under way; what it was the second for fails."""
        for ticket, sent in list(self._sent.items()):
            sent.losses += 1
            if sent.losses > 1:
                what = f"request {sent.request.id!r}: the process of the engine ended twice with it under way: {words}"
                self._fail(ticket, what)

    def expired(self, deadline: float) -> list[int]:
        """Fail what was sent longer ago than this many seconds; returns the tickets."""
        limit = time.monotonic() - deadline
        late = [ticket for ticket, sent in self._sent.items() if sent.since < limit]
        for ticket in late:
            what = (
                f"request {self._sent[ticket].request.id!r} took longer than rollout.deadline = {deadline:g} s and was "
                "cancelled; raise it, or lower rollout.max_new_tokens"
            )
            self._fail(ticket, what)
        return late

    def _fail(self, ticket: int, what: str) -> None:
        self.done[ticket] = Result(ticket, self._sent.pop(ticket).request, fault=RequestFailed(what))


def _too_long(request: Request, needed: int, limit: int) -> DataError:
    return DataError(
        f"request {request.id!r}: prompt and response may have {needed} tokens together, the engine takes {limit}; "
        "raise rollout.batch_tokens or rollout.vllm.max_model_len, or shorten the prompt"
    )
