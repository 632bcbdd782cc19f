"""An engine in a process of its own, as its trainer sees it.

The worker opens the engine from the checkpoint, reads frames from the store by itself, and generates whether or not its
trainer waits. Requests and responses travel as token ids, plans and log-probs; weights through shared memory
(``engines/weights.py``). A worker that dies or hangs is replaced by another, which gets the latest weights and the
requests that were under way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch

from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.process import ProcessChannel
from easyvideor1.engines.weights import SharedWeights, WorkerWeights
from easyvideor1.engines.worker_messages import (
    Beat,
    Call,
    Cancel,
    Channel,
    Close,
    Finished,
    FromWorker,
    Open,
    Opening,
    Ready,
    Returned,
    WeightSource,
    WeightsTaken,
)
from easyvideor1.engines.worker_reports import WorkerReports
from easyvideor1.engines.worker_requests import WorkerRequests
from easyvideor1.spans import Span
from easyvideor1.types import ConfigError, EasyVideoError

#: Seconds that ``results`` waits for a message.
_PAUSE = 0.05
_MAX_DEATHS = 3  # workers in a row that die before one finishes a request or takes weights: no matter of chance
_START_SECONDS = 3600.0  # that it gets to open it
_CLOSE_SECONDS = 10.0  # that a worker gets to close its engine


class WorkerEngine:
    """``Engine`` over a worker.

    A request that is under way when the worker dies is sent again once; if the next worker dies with it, too, its fault
    is ``RequestFailed``. A first worker that dies before it is ready is an error of the engine, and so are three deaths
    without a result in between; the present or the next call raises it, and the call after that starts one again.

    With ``deadline``, in seconds, a request that is not finished so long after it was sent is cancelled and gets that
    fault. A worker that has been silent so long although something is asked of it hangs: it is killed, and what follows
    is as above. Time in which a worker starts does not count.

    An update that the engine refuses, or whose tensors it did not take as they were sent, leaves no weights to be
    trusted: the engine generates nothing until an update has come through.

    Args:
        opening: what the worker opens.
        start: starts a worker and returns the line to it.
        deadline: in seconds, 0 is none.
        weights: where the latest weights are kept, if several engines share them; whoever gives them closes them.
        source: how the worker reads the tensors of some names; by default it maps the weights' memory.
        pause: seconds after which ``results`` gives its caller control although nothing came.
    """

    runs_ahead = True

    def __init__(
        self,
        opening: Opening,
        start: Callable[[], Channel] = ProcessChannel,
        *,
        deadline: float = 0.0,
        weights: SharedWeights | None = None,
        source: Callable[[Collection[str]], WeightSource] | None = None,
        pause: float = _PAUSE,
    ) -> None:
        self.version = 0
        self._opening = opening
        self._start_worker = start
        self._deadline, self._pause = deadline, pause
        self._owns_weights = weights is None
        self._weights = WorkerWeights(SharedWeights() if weights is None else weights, source)
        #: What the engine raised, as long as somebody asks for a request that it gave up.
        self._error: EasyVideoError | None = None
        self._calls = self._deaths = 0
        self._requests = WorkerRequests()
        self._awaited: int | None = None
        self._answer: Returned | None = None
        self._channel: Channel | None = None
        self._ready: Ready | None = None
        self._asleep = self._closed = False
        self._reports = WorkerReports()
        self._start()

    # -- the contract of ``Engine``

    @property
    def takes_adapters(self) -> bool:
        """Whether the worker's engine does."""
        return self.ready().takes_adapters

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``. A request that can never fit is not sent: its result is the fault."""
        limit = self.ready().max_tokens
        self._expect()
        tickets, message = self._requests.add(requests, limit)
        if message is not None:
            self._line.send(message)
        return tickets

    def results(self) -> Iterator[Result | None]:
        """See ``Engine``. It yields ``None`` after ``pause`` seconds without a result, or earlier."""
        done = self._requests.done
        while self._requests or done or self._error:
            if done:
                yield done.pop(next(iter(done)))
                continue
            try:
                self._advance()
            except EasyVideoError:
                self._forget()
                raise
            if not done:
                yield None

    def arrived(self) -> list[Result]:
        """The results that are there already; an error of the engine is left to ``results``."""
        self._look()
        done = self._requests.done
        return [done.pop(ticket) for ticket in list(done)]

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        self._tell_cancelled(self._requests.cancel(tickets))
        if not self._requests.given_up:
            self._error = None

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the weights of ``version``, also between the tokens of a response.

        Raises:
            ConfigError: the version is older, or a tensor is not of this model.
            EasyVideoError: the engine took other bytes than were sent, or no worker lives.
        """
        if version < self.version:
            raise ConfigError(f"weights of version {version}: the engine has version {self.version} already")
        begin = time.perf_counter()
        self._look()
        self.finish_update()  # of a worker that started meanwhile, which reads what is about to be overwritten
        self.begin_update(version, self._weights.shared.write(tensors))
        self.finish_update()
        self._reports.own["sync_seconds"] += time.perf_counter() - begin

    def sleep(self) -> None:
        """See ``Engine``."""
        if not self._asleep and not self._closed:
            self._asleep = True
            self._call("sleep")

    def wake(self) -> None:
        """See ``Engine``."""
        if self._asleep and not self._closed:
            self._expect()
            self._asleep = False
            self._call("wake")

    def close(self) -> None:
        """Drop what is pending, close the worker's engine and end its process."""
        self._forget()
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.send(Close())
            limit = time.monotonic() + _CLOSE_SECONDS
            while self._ready is not None and channel.alive() and time.monotonic() < limit:
                channel.receive(_PAUSE)
            channel.kill()
        if self._owns_weights:
            self._weights.shared.close()

    def partial(self, ticket: int) -> list[list[int]]:
        """Token ids so far of the ``n`` responses of a pending request; empty where the worker's engine tells none."""
        n = self._requests.known(ticket).n
        found = self._call("partial", ticket) if ticket in self._requests.pending else None
        if (result := self._requests.done.get(ticket)) is not None:
            return [trajectory.last.response_ids.tolist() for trajectory in result.trajectories]
        return found if isinstance(found, list) else [[] for _ in range(n)]

    def stats(self) -> dict[str, float]:
        """Counters of the worker's engines, as of their last sign of life, and of this side: see ``WorkerReports``."""
        return self._reports.stats()

    def spans(self) -> dict[str, list[Span]]:
        """What the worker did since the last call, as far as it has said."""
        return {"worker": self._reports.spans()}

    # -- for a pool of engines, which starts several at a time and shares one copy of the weights

    def ready(self) -> Ready:
        """Wait until the engine is open.

        Raises:
            ConfigError: it cannot be opened as configured.
            EasyVideoError: its process ended before it was ready, or the engine was closed.
        """
        self._look()
        while self._ready is None:
            self._receive(1.0)
        return self._ready

    @property
    def trusted(self) -> bool:
        """Whether the worker has all tensors as they were sent; else the next update sends it all of them."""
        return not self._weights.refusal

    def begin_update(self, version: int, names: Collection[str]) -> None:
        """Tell the worker to take these tensors, which were written while it was not ``updating``."""
        self._weights.begin(version)
        self._look()
        if not self.trusted:
            names = self._weights.shared.checksums
        self._reports.own["sync_bytes"] += self._weights.shared.bytes(names)
        self._expect()
        self._asleep = False
        self._line.send(self._weights.message(names))

    def updating(self) -> bool:
        """Whether the worker still has to take weights, as of all that came from it; raises as ``update_weights``."""
        if self._weights.on_their_way:
            self._look()
        return self._weights.on_their_way

    def finish_update(self) -> None:
        """Wait until the worker has taken the weights, or refused them (``updating``)."""
        while self.updating():
            self._receive(1.0)

    # -- what comes from the worker, and what goes to it

    def _advance(self) -> None:
        """Take what comes, for a moment."""
        self._look()
        if self._error is not None:
            error, self._error = self._error, None
            self._requests.given_up.clear()
            raise error
        if self._weights.refusal:
            raise EasyVideoError(f"{self._weights.refusal}; update the engine's weights again")
        self.wake()
        if not self._requests.done:
            self._receive(self._pause)
        self._expire()

    def _look(self) -> None:
        """Take all that came already, and have a worker."""
        if self._closed:
            raise EasyVideoError("the engine was closed; open another")
        if self._channel is None:
            self._start()
        while self._receive(0.0):
            pass

    def _receive(self, timeout: float) -> bool:
        """Take one message, or notice that the worker died or hangs; whether a message came."""
        channel = self._channel
        assert channel is not None
        if (message := channel.receive(timeout)) is not None:
            self._heard = time.monotonic()
            self._take(message)
            return True
        if not channel.alive():
            self._replace(channel.last_words())
        elif time.monotonic() - self._heard > self._patience:
            channel.kill()
            self._replace(f"it hung: nothing came from it for {self._patience:g} s")
        return False

    @property
    def _patience(self) -> float:
        """Seconds of silence after which the worker is taken to hang."""
        limit = _START_SECONDS if self._ready is None else self._deadline if self._is_asked else 0.0
        return limit or math.inf

    @property
    def _is_asked(self) -> bool:
        asked = bool(self._requests) and not self._asleep
        return self._ready is not None and (asked or self._weights.on_their_way or self._awaited is not None)

    def _take(self, message: FromWorker) -> None:
        self._reports.take(message)
        if isinstance(message, Finished):
            self._deaths = 0
            self._requests.finish(message)
        elif isinstance(message, WeightsTaken):
            if self._weights.take(message):
                self._deaths, self.version = 0, self._weights.version
        elif isinstance(message, Returned):
            if message.number == self._awaited:
                self._answer = message
        elif isinstance(message, Ready):
            self._ready = message
            self._requests.restart_clocks()
        elif isinstance(message, Beat):
            pass
        elif self._ready is None:  # it could not be opened
            assert self._channel is not None
            self._channel.kill()
            self._channel = None
            raise message.fault.error()
        elif self._requests.give_up(message.tickets):  # else they were cancelled meanwhile
            self._error = message.fault.error()
            self._tell_cancelled(list(self._requests.given_up.keys() - {*message.tickets}))

    @property
    def _line(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def _expect(self) -> None:
        """Something is about to be asked of the worker: the time in which nothing was is no silence."""
        if not self._is_asked:
            self._heard = time.monotonic()

    def _call(self, method: str, ticket: int | None = None) -> object:
        """Call a method of the worker's engine; ``None`` if the worker died meanwhile."""
        self.ready()
        channel = self._channel
        self._expect()
        self._calls += 1
        self._line.send(Call(self._calls, method, ticket))
        self._awaited, self._answer = self._calls, None
        try:
            while self._answer is None and self._channel is channel:
                self._receive(1.0)
            answer = self._answer
        finally:
            self._awaited = self._answer = None
        if answer is not None and answer.fault is not None:
            raise answer.fault.error()
        return None if answer is None else answer.value

    def _start(self) -> None:
        """Start a worker, and send it all that it needs, in order; nothing waits for it here."""
        self._ready, self._heard = None, time.monotonic()
        try:
            self._channel = self._start_worker()
        except OSError as error:
            raise EasyVideoError(f"the process of the engine cannot be started: {error}") from error
        self._channel.send(Open(self._opening))
        if (weights := self._weights.again()) is not None:
            self._channel.send(weights)
        for message in self._requests.again():
            self._channel.send(message)
        self._reports.own["resent"] += len(self._requests.pending)
        if self._asleep:
            self._calls += 1
            self._channel.send(Call(self._calls, "sleep"))

    def _replace(self, words: str) -> None:
        """Start another worker in place of one that ended; ``words`` say how.

        Raises:
            EasyVideoError: it was the first and ended before it was ready, or too many did.
        """
        channel, self._channel = self._channel, None
        assert channel is not None
        channel.kill()
        self._reports.begin_worker()
        self._weights.drop()
        what = f"the process of engine {self._opening.engine!r} ended"
        if self._ready is not None:
            self._requests.lose(words)
        elif not self._deaths:
            raise EasyVideoError(f"{what} before it was ready: {words}")
        self._deaths += 1
        if self._deaths >= _MAX_DEATHS:
            self._deaths = 0
            raise EasyVideoError(f"{what} {_MAX_DEATHS} times without a result: {words}")
        self._reports.own["restarts"] += 1
        self._start()

    def _expire(self) -> None:
        """Cancel what ran too long in a worker that still speaks; one that is silent is left to be found hanging."""
        if not self._deadline or self._ready is None or time.monotonic() - self._heard > self._deadline / 2:
            return
        late = self._requests.expired(self._deadline)
        self._tell_cancelled(late)
        self._reports.own["timed_out"] += len(late)

    def _tell_cancelled(self, tickets: Sequence[int]) -> None:
        if tickets and self._channel is not None:
            self._channel.send(Cancel(tuple(tickets)))

    def _forget(self) -> None:
        self.cancel([*self._requests.pending, *self._requests.done])
