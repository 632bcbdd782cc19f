"""What a server knows while it runs: its limits, who may ask, what is under way, and what was counted."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from easyvideor1.engines.engine import Result
from easyvideor1.families.family import Family
from easyvideor1.serving.address import is_loopback
from easyvideor1.serving.engine_thread import EngineThread, Event, Job
from easyvideor1.serving.errors import RequestError
from easyvideor1.serving.preparation import Preparation
from easyvideor1.types import EasyVideoError

#: Bodies that are being read or prepared may take as much memory together as so many of the largest size.
_LARGE_BODIES = 4


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Largest number of requests under way, waiting ones included, bytes of a body, and seconds of a request."""

    requests: int = 64
    body_bytes: int = 64 << 20
    seconds: float = 600.0


class ClientGoneError(Exception):
    """The client closed the connection; nobody waits for the answer."""


class Mailbox:
    """What the engine's thread says of a job, for the coroutine that waits for it.

    Only the latest token ids are kept: a client that reads slowly gets larger pieces.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._partial: Event | None = None
        self._last: Result | EasyVideoError | None = None
        self._gone = False

    def tell(self, event: Event) -> None:
        """Take an event, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.put, event)

    def put(self, event: Event) -> None:
        """Take an event, on the loop."""
        if isinstance(event, Result | EasyVideoError):
            self._last = self._last or event
        else:
            self._partial = event
        self._filled.set()

    def leave(self) -> None:
        """The client has gone."""
        self._gone = True
        self._filled.set()

    async def next(self) -> Event:
        """The next event; the result or the failure is the last one.

        Raises:
            ClientGoneError: the client has gone.
        """
        await self._filled.wait()
        self._filled.clear()
        if self._gone:
            raise ClientGoneError
        if self._last is not None:
            return self._last
        assert self._partial is not None
        return self._partial


@dataclass(eq=False)
class Service:
    """One server. All but ``engine`` and ``prepare`` is used on the event loop alone.

    Args:
        name: of the model.
        family: whose tokenizer only the event loop uses.
        engine: owns the engine.
        prepare: makes requests.
        scratch: directory of uploads.
        limits: of requests.
        key: that callers must know; empty for none.
        host: that the server was bound to.
    """

    name: str
    family: Family
    engine: EngineThread
    prepare: Preparation
    scratch: Path
    limits: ServerLimits = ServerLimits()
    key: str = ""
    host: str = "127.0.0.1"
    draining: bool = False
    active: int = 0
    body_bytes: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    _open: set[Mailbox] = field(default_factory=set)
    _aborted: bool = False

    def check_caller(self, headers: Mapping[str, str]) -> None:
        """Refuse callers without the key. Without a key, refuse pages that a browser shows under another name.

        Raises:
            RequestError: the key is missing or wrong, or the host's name is another one.
        """
        if not self.key:
            name = headers.get("host", "").rpartition("]")[0] or headers.get("host", "").partition(":")[0]
            if name.strip("[") != self.host and not is_loopback(name.strip("[")):
                what = f"the host name {name[:80]!r} is not one of this server, which has no API key; use {self.host}"
                raise RequestError(what, code="invalid_host")
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Digests have one length, so that the time tells nothing of the key.
        pair = [hashlib.sha256(text).digest() for text in (given.strip(" \t").encode("latin-1"), self.key.encode())]
        if scheme.lower() != "bearer" or not hmac.compare_digest(*pair):
            what = "the API key is missing or wrong; send it as Authorization: Bearer KEY"
            raise RequestError(what, status=401, code="invalid_api_key")

    def take_place(self) -> None:
        """Take a place among the requests under way, which ``active`` counts; ``leave_place`` gives it back.

        Raises:
            RequestError: there is none, or the server ends.
        """
        if self.draining:
            raise _shutting_down()
        if self.active >= self.limits.requests:
            what = f"{self.active} requests are under way, which is the most for this server; try again later"
            raise RequestError(what, status=429, code="queue_full")
        self.active += 1

    def leave_place(self) -> None:
        """Give a place back."""
        self.active -= 1

    def hold(self, size: int) -> None:
        """Count bytes of a body that are held in memory; a negative size gives them back.

        Raises:
            RequestError: the bodies of all requests are too much together.
        """
        if size > 0 and self.body_bytes + size > _LARGE_BODIES * self.limits.body_bytes:
            raise RequestError("too many large requests come together; try again later", status=429, code="queue_full")
        self.body_bytes += size

    @contextmanager
    def asked(self, job: Job, mailbox: Mailbox) -> Iterator[None]:
        """Have a job done while the block runs; whoever leaves it cancels what is left of the job.

        Raises:
            RequestError: the server ends.
        """
        if self._aborted:  # while the request was prepared
            raise _shutting_down()
        self._open.add(mailbox)
        self.engine.submit(job)
        try:
            yield
        finally:
            self._open.discard(mailbox)
            self.engine.cancel(job)

    async def drain(self, seconds: float) -> None:
        """Take no more requests; wait for those under way, then give them up."""
        self.draining = True
        until = asyncio.get_running_loop().time() + seconds
        while self.active and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        self.abort()

    def abort(self) -> None:
        """Give up what is under way."""
        self._aborted = True
        for mailbox in self._open:
            mailbox.put(_shutting_down())

    def metrics(self) -> str:
        """Counters in the text format of Prometheus."""
        lines = ["# TYPE evr1_requests_total counter"]
        lines += [f'evr1_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.answered.items())]
        for name in ("prompt", "completion"):
            lines += [f"# TYPE evr1_{name}_tokens_total counter", f"evr1_{name}_tokens_total {self.tokens[name]}"]
        lines += ["# TYPE evr1_requests_active gauge", f"evr1_requests_active {self.active}"]
        for name, value in sorted(self.engine.stats.items()):
            lines += [f"# TYPE evr1_engine_{name} counter", f"evr1_engine_{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _shutting_down() -> RequestError:
    return RequestError("the server is shutting down", status=503, code="shutting_down")
