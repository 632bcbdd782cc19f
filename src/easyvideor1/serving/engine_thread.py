"""The thread that owns the engine. Others hand it requests and are told what becomes of them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from easyvideor1.engines.engine import Engine, Request, Result, contract_error
from easyvideor1.types import EasyVideoError

_LOG = logging.getLogger(__name__)

#: An engine does not work if it failed so many times within so many seconds, without a result in between.
_MOST_FAILURES, _FAILURE_SECONDS = 3, 10.0
#: Seconds of a pause that streams may take: an engine in another process answers each at a pause of its own.
_SHOWING_SECONDS = 0.05

#: What a job is told: token ids so far of its responses, its result, or the failure of the engine.
Event = Sequence[Sequence[int]] | Result | EasyVideoError


@dataclass(eq=False)
class Job:
    """A request that was handed over.

    ``tell`` is called on the engine's thread and must return at once. With ``wants_partial`` it is also called with the
    token ids so far, where the engine offers them.
    """

    request: Request
    tell: Callable[[Event], None]
    wants_partial: bool = False
    ticket: int | None = field(default=None, init=False)
    cancelled: bool = field(default=False, init=False)


class EngineThread:
    """Runs an engine for any number of threads.

    Requests that come while others run are submitted at the engine's next pause if it works on them together with what
    runs (``joins_running``), or in the background (``runs_ahead``). Other engines work off one window after the other:
    requests are gathered until nothing runs, and then are one window.

    Args:
        engine: used by this thread alone from now on.
        threads: CPU threads of torch; 0 leaves torch's choice.
    """

    def __init__(self, engine: Engine, *, threads: int = 0) -> None:
        self._engine = engine
        self._threads = threads
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: list[Job] = []
        self._running: dict[int, Job] = {}
        self._closing = False
        self._at_once = getattr(engine, "joins_running", False) or getattr(engine, "runs_ahead", False)
        #: The engine's counters, as of its last result.
        self.stats: Mapping[str, float] = {}
        #: When the engine failed, since its last result.
        self._failures: deque[float] = deque(maxlen=_MOST_FAILURES)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Hand over a request."""
        self._inbox.put(job)

    def cancel(self, job: Job) -> None:
        """Drop a request; it is told nothing any more, but for what is under way."""
        job.cancelled = True
        self._inbox.put(None)  # wakes the thread

    def close(self, seconds: float) -> None:
        """Drop everything and close the engine, unless it gives no control back for so many seconds (``alive``)."""
        self._closing = True
        self._inbox.put(None)
        self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def failing(self) -> bool:
        """Whether the engine failed several times in the last seconds, and gave no result in between."""
        failures = list(self._failures)
        return len(failures) == _MOST_FAILURES and time.monotonic() - failures[0] < _FAILURE_SECONDS

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)  # a setting of each thread
        try:
            while not self._closing:
                self._take(wait=not self._waiting)
                try:
                    self._serve()
                except Exception as error:  # noqa: BLE001 - an engine may raise anything; its callers are told
                    self._fail(error)
        finally:
            self._engine.cancel(list(self._running))
            self._engine.close()

    def _serve(self) -> None:
        """Work until nothing is pending."""
        self._submit()
        for result in self._engine.results():
            if result is not None:
                self._finish(result)
            self._take(wait=False)
            self._cancel()
            if self._closing:
                return
            if self._at_once or not self._running:
                self._submit()
            if result is None:
                self._show_partial()
        if left := [job for job in self._running.values() if not job.cancelled]:
            raise contract_error(self._engine, f"left {len(left)} requests without a result")
        self._running.clear()

    def _take(self, *, wait: bool) -> None:
        """Empty the inbox; with ``wait``, until there is something in it."""
        while wait or not self._inbox.empty():
            job = self._inbox.get()
            wait = False
            if job is not None:
                self._waiting.append(job)

    def _submit(self) -> None:
        jobs, self._waiting = [job for job in self._waiting if not job.cancelled], []
        if jobs:
            self._running |= dict(zip(self._tickets(jobs), jobs, strict=True))

    def _tickets(self, jobs: Sequence[Job]) -> list[int]:
        try:
            tickets = self._engine.submit([job.request for job in jobs])
        except Exception:
            self._waiting = [*jobs, *self._waiting]  # they fail with the others
            raise
        for job, ticket in zip(jobs, tickets, strict=True):
            job.ticket = ticket
        return tickets

    def _cancel(self) -> None:
        dropped = [ticket for ticket, job in self._running.items() if job.cancelled]
        if dropped:
            self._engine.cancel(dropped)
            for ticket in dropped:
                del self._running[ticket]

    def _finish(self, result: Result) -> None:
        job = self._running.pop(result.ticket, None)
        self._failures.clear()
        if (stats := getattr(self._engine, "stats", None)) is not None:
            self.stats = dict(stats())
        if job is not None and not job.cancelled:
            job.tell(result)

    def _show_partial(self) -> None:
        partial: Callable[[int], Sequence[Sequence[int]]] | None = getattr(self._engine, "partial", None)
        if partial is None:
            return
        until = time.monotonic() + _SHOWING_SECONDS
        for ticket, job in list(self._running.items()):
            if job.wants_partial and not job.cancelled:
                ids = partial(ticket)
                if len(ids) == job.request.n:  # else it has failed meanwhile, as its result will say
                    job.tell(ids)
                self._running[ticket] = self._running.pop(ticket)  # the others come first at the next pause
                if time.monotonic() > until:
                    return

    def _fail(self, error: Exception) -> None:
        """Give up what the engine has, and tell those who wait for it."""
        _LOG.error("the engine failed: %s", error, exc_info=error)
        self._failures.append(time.monotonic())
        try:  # what nobody waits for any more is not to be computed beside what comes next
            self._engine.cancel(list(self._running))
        except Exception:  # noqa: BLE001 - it has failed already
            _LOG.exception("the engine could not cancel its requests after it had failed")
        jobs, self._running, self._waiting = [*self._running.values(), *self._waiting], {}, []
        self._take(wait=False)
        fault = (
            error
            if isinstance(error, EasyVideoError)
            else EasyVideoError(f"the engine failed: {type(error).__name__}: {error}")
        )
        for job in jobs:
            if not job.cancelled:
                job.tell(fault)
