"""Several engines behind the contract of one."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from operator import methodcaller
from typing import Any

import torch

from easyvideor1.engines.engine import Engine, Request, Result, added, contract_error
from easyvideor1.engines.routing import Router
from easyvideor1.spans import Span
from easyvideor1.types import ConfigError, EasyVideoError, RequestFailed

#: What an engine raises that fails for good: errors for users, of the operating system, and of torch.
_FAILURES = (EasyVideoError, OSError, RuntimeError)


@dataclass(slots=True, eq=False)
class _Member:
    """One engine of a pool, and what it works on: its own tickets by the pool's, and the other way round."""

    name: str
    engine: Engine
    own: dict[int, int] = field(default_factory=dict)
    tickets: dict[int, int] = field(default_factory=dict)
    stream: Iterator[Result | None] | None = None
    #: An update was refused, and the engine may have taken some of its tensors.
    refused: bool = False

    def forget(self, ticket: int) -> None:
        """Drop a ticket of the pool."""
        self.tickets.pop(self.own.pop(ticket, -1), None)
        if not self.own:
            self.stream = None  # it has ended, or may end without a word


class EnginePool:
    """N engines as one: requests are routed by prefix and load (``engines/routing.py``), results come from any.

    Seeds belong to requests, so the number of engines changes results by rounding only. All engines have the weights
    of one version. An engine that fails for good is taken out with a warning, and its requests go to the others, once:
    a request whose second engine fails, too, is a ``RequestFailed``. The pool fails when no engine is left.

    Engines take turns, a step each; those that generate in the background are waited for together
    (``engines/worker_pool.py``).

    Args:
        engines: by name, at least one; the pool closes them.
        batch_tokens: tokens that each engine keeps in its caches.
    """

    def __init__(self, engines: Mapping[str, Engine], *, batch_tokens: int = 65_536) -> None:
        if not engines:
            raise ConfigError("a pool needs at least one engine")
        self.runs_ahead = all(getattr(engine, "runs_ahead", False) for engine in engines.values())
        self.takes_adapters = all(getattr(engine, "takes_adapters", False) for engine in engines.values())
        self.version = max(engine.version for engine in engines.values())
        self._members = {number: _Member(name, engine) for number, (name, engine) in enumerate(engines.items())}
        self._router = Router(self._members, batch_tokens)
        self._next_ticket = 0
        self._pending: dict[int, Request] = {}
        #: The member that has a request.
        self._places: dict[int, int] = {}
        self._resent: set[int] = set()
        self._faults: deque[tuple[int, EasyVideoError]] = deque()
        self._counts = {"engines_lost": 0.0, "resent": 0.0, "sync_seconds": 0.0}
        self._failure: BaseException | None = None
        #: Some engines took an update that others refused.
        self._mixed: ConfigError | None = None

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``. Requests that begin with the same medium go to the same engine where its load permits."""
        tickets = list(range(self._next_ticket, self._next_ticket + len(requests)))
        self._next_ticket += len(requests)
        self._pending.update(zip(tickets, requests, strict=True))
        try:
            self._send(tickets)
        except BaseException:
            self.cancel(tickets)
            raise
        return tickets

    def results(self) -> Iterator[Result | None]:
        """See ``Engine``.

        Raises:
            EasyVideoError: no engine is left, or the engines have different weights after an update that some refused.
        """
        while self._pending:
            self._require_same_weights()
            came = False
            while self._faults:
                ticket, fault = self._faults.popleft()
                if ticket in self._pending:  # else cancelled
                    came = True
                    yield Result(ticket, self._settle(ticket), fault=fault)
            self._require_members()
            self._before_round()
            for number in [number for number, member in self._members.items() if member.own]:
                self._require_same_weights()  # the caller may have updated them since
                result = self._next_result(number)
                if result is not None:
                    came = True
                    yield result
            if not came and self._pending:
                yield None
                self._after_nothing()

    def arrived(self) -> list[Result]:
        """The results that are there already, of the engines that can say so."""
        found: list[Result] = []

        def take(number: int, engine: Any) -> None:
            own = self._members[number].tickets
            results = engine.arrived() if hasattr(engine, "arrived") else []
            found.extend(replace(result, ticket=own[result.ticket]) for result in results)

        for number in list(self._members):
            self._ask(number, partial(take, number))
        for result in found:
            self._settle(result.ticket)
        return found

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        gone: dict[int, list[int]] = {}
        for ticket in tickets:
            if ticket not in self._pending:
                continue
            number = self._places.get(ticket)
            if number is not None and ticket in self._members[number].own:
                gone.setdefault(number, []).append(self._members[number].own[ticket])
            self._settle(ticket)
        for number, owns in gone.items():
            self._ask(number, methodcaller("cancel", owns))

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Give all engines the weights of ``version``; ``tensors`` is read once.

        Raises:
            ConfigError: as of the engines. Where tensors had been taken before, also by another engine, nothing is
                generated until an update has come through.
            EasyVideoError: no engine is left.
        """
        if version < self.version:
            raise ConfigError(f"weights of version {version}: the engines have version {self.version} already")
        begin = time.perf_counter()
        try:
            self._give_weights(version, tensors)
        except ConfigError as error:
            if len({member.refused for member in self._members.values()}) > 1:
                self._mixed = error
            raise
        self._mixed = None
        self._counts["sync_seconds"] += time.perf_counter() - begin
        for member in self._members.values():
            member.refused = False
        self._router.forget_prefixes()
        self._require_members()
        self.version = version

    def _give_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        pairs = list(tensors)
        self._begin_update()
        self._update_each(methodcaller("update_weights", version, pairs))

    def _begin_update(self) -> None:
        """The engines are about to be asked: what they say to this update counts."""
        for member in self._members.values():
            member.refused = False

    def _update_each(self, call: Callable[[Engine], object]) -> list[object]:
        """Ask all engines for something that is part of an update; the first refusal is raised once all were asked."""
        refusal: ConfigError | None = None
        answers: list[object] = []
        for number, member in list(self._members.items()):
            try:
                answers.append(self._ask(number, call))
            except ConfigError as error:
                member.refused, refusal = True, refusal or error
        if refusal is not None:
            raise refusal
        return answers

    def sleep(self) -> None:
        """See ``Engine``."""
        for number in list(self._members):
            self._ask(number, methodcaller("sleep"))

    def wake(self) -> None:
        """See ``Engine``."""
        for number in list(self._members):
            self._ask(number, methodcaller("wake"))

    def close(self) -> None:
        """Close all engines."""
        self._forget()
        for member in self._members.values():
            with suppress(*_FAILURES):  # the others are closed, too
                member.engine.close()

    def partial(self, ticket: int) -> Any:
        """The token ids so far of each response of a pending request, from the engine that has it."""
        if ticket not in self._places:  # it failed, or no engine is left
            return [[] for _ in range(self._pending[ticket].n)]
        n, number = self._pending[ticket].n, self._places[ticket]
        found = self._ask(number, methodcaller("partial", self._members[number].own[ticket]))
        return [[] for _ in range(n)] if found is None else found

    def stats(self) -> dict[str, float]:
        """The counters of all engines in sum, also of those that failed, up to their last word.

        ``engines`` are at work, ``engines_lost`` have failed. ``resent`` includes requests that went to another engine.
        """
        total = dict(self._counts)
        for member in self._members.values():
            total = added(total, _stats(member.engine))
        return total | {"engines": float(len(self._members))}

    def spans(self) -> dict[str, list[Span]]:
        """What each engine did since the last call, by its name."""
        found: dict[str, list[Span]] = {}
        for member in self._members.values():
            spans = getattr(member.engine, "spans", None)
            if spans is not None:
                found[member.name] = list(chain.from_iterable(spans().values()))
        return found

    def _send(self, tickets: Sequence[int]) -> None:
        """Give pending requests to the engines that are there; where none is, ``results`` raises."""
        if not self._members:
            return
        placed = self._router.assign([(ticket, self._pending[ticket]) for ticket in tickets])
        self._places.update(placed)
        shares: dict[int, list[int]] = {}
        for ticket in tickets:
            shares.setdefault(placed[ticket], []).append(ticket)
        for number, share in shares.items():
            # An engine that fails takes its share along: the requests are routed again, and leave ``share`` behind.
            if all(self._places.get(ticket) == number for ticket in share):
                self._ask(number, partial(self._submit, number, share))

    def _submit(self, number: int, share: Sequence[int], engine: Engine) -> None:
        owns = engine.submit([self._pending[ticket] for ticket in share])
        if len(owns) != len(share):
            raise contract_error(engine, f"gave {len(owns)} tickets for {len(share)} requests")
        member = self._members[number]
        member.own.update(zip(share, owns, strict=True))
        member.tickets.update(zip(owns, share, strict=True))

    def _next_result(self, number: int) -> Result | None:
        """The next result of an engine that has news; ``None`` if nothing has finished yet."""
        member = self._members.get(number)
        if member is None or not member.own:  # lost, or its requests were cancelled, since the news came
            return None
        if member.stream is None:
            member.stream = member.engine.results()
        try:
            result = next(member.stream, _END)
            if isinstance(result, _End):
                raise contract_error(member.engine, f"left {len(member.own)} requests without a result")
            if result is None:
                return None
            if result.ticket not in member.tickets:
                raise contract_error(member.engine, f"returned ticket {result.ticket}, which is not pending")
        except _FAILURES as error:
            if member.refused:
                self._forget()
                raise
            self._lose(number, error)
            return None
        ticket = member.tickets[result.ticket]
        return Result(ticket, self._settle(ticket), result.trajectories, result.fault)

    def _before_round(self) -> None:
        """Called before all engines are asked for a result."""

    def _after_nothing(self) -> None:
        """Called when none had one: engines that generate in the background are waited for here."""

    def _ask(self, number: int, call: Callable[[Engine], object]) -> object:
        """Call an engine; one that fails is taken out, and answers ``None``.

        Raises:
            ConfigError: of the engine; what the caller asks for is wrong, and the engine stays.
        """
        try:
            return call(self._members[number].engine)
        except ConfigError:
            raise
        except _FAILURES as error:
            self._lose(number, error)
            return None

    def _lose(self, number: int, error: BaseException) -> None:
        """Take an engine out, and send its requests to the others."""
        member = self._members.pop(number)
        self._router.remove(number)
        self._failure = error
        with suppress(*_FAILURES):
            self._counts = added(self._counts, _stats(member.engine))
        with suppress(*_FAILURES):
            member.engine.close()
        tickets = sorted(ticket for ticket, place in self._places.items() if place == number)
        again = [ticket for ticket in tickets if ticket not in self._resent]
        self._counts["engines_lost"] += 1
        self._counts["resent"] += len(again) if self._members else 0
        left = f"{len(self._members)} engines go on" if self._members else "no engine is left"
        warnings.warn(
            f"{member.name} failed and is taken out of the pool: {error} - {left}, {len(again)} of its requests are "
            "sent again",
            RuntimeWarning,
            stacklevel=2,
        )
        for ticket in tickets:
            del self._places[ticket]
            self._router.done(ticket)
            if ticket in self._resent:
                fault = RequestFailed(f"request {self._pending[ticket].id!r}: two engines failed with it: {error}")
                self._faults.append((ticket, fault))
        self._resent.update(again)
        self._send(again)

    def _settle(self, ticket: int) -> Request:
        """Take a request out of the books."""
        number = self._places.pop(ticket, None)
        if number is not None:
            self._members[number].forget(ticket)
            self._router.done(ticket)
        self._resent.discard(ticket)
        return self._pending.pop(ticket)

    def _require_members(self) -> None:
        if not self._members:
            self._forget()
            raise EasyVideoError(f"all engines of the pool failed; the last one: {self._failure}") from self._failure

    def _require_same_weights(self) -> None:
        if self._mixed is not None:
            self._forget()
            raise EasyVideoError(
                f"an update of weights was taken by some engines and refused by others ({self._mixed}); update the "
                "weights of all again"
            )

    def _forget(self) -> None:
        for member in self._members.values():
            with suppress(*_FAILURES):
                member.engine.cancel(list(member.tickets))
        for ticket in list(self._pending):
            self._settle(ticket)
        self._faults.clear()


class _End:
    """What a stream of results gives at its end."""


_END = _End()


def _stats(engine: Engine) -> dict[str, float]:
    stats = getattr(engine, "stats", None)
    return stats() if callable(stats) else {}
