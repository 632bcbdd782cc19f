"""Engines that fail as engines do, opened in another process by their names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

from easyvideor1.engines.local import LocalEngine
from easyvideor1.types import DataError, EasyVideoError


class FailingEngine:
    """A local engine with requests that fail as their names say."""

    opens_checkpoints = True
    max_tokens = 1000

    def __init__(self, family, model, load, *, batch_tokens, config) -> None:
        self.inner = LocalEngine(family, model, load, batch_tokens=batch_tokens, config=config)
        self.special = {}

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def submit(self, requests):
        if any(request.id == "refused" for request in requests):
            raise DataError("requests like this are not taken")
        for request in requests:
            if request.id.startswith("child "):
                command = "import time; time.sleep(600)"
                child = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.DEVNULL)
                Path(request.id.removeprefix("child ")).write_text(str(child.pid), encoding="utf-8")
        tickets = self.inner.submit(requests)
        names = {ticket: request.id for ticket, request in zip(tickets, requests, strict=True)}
        self.special |= {
            ticket: name for ticket, name in names.items() if name in ("die", "slow", "fail", "unreadable")
        }
        return tickets

    def results(self):
        while True:
            yield from self.fail()
            result = next(self.inner.results(), False)
            if result is False and not self.special:
                return
            yield result or None

    def fail(self):
        while (ticket := next(iter(self.special), None)) is not None:
            if self.special[ticket] == "die":
                print("about to die", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.special[ticket] == "fail":
                self.cancel(list(self.special))
                raise EasyVideoError("the engine fails")
            time.sleep(0.01)
            yield None

    def cancel(self, tickets):
        for ticket in tickets:
            self.special.pop(ticket, None)
        self.inner.cancel(tickets)

    def update_weights(self, version, tensors):
        """Of version 13 the engine takes the first tensors only."""
        self.inner.update_weights(version, islice(tensors, 3) if version == 13 else tensors)

    def stats(self):
        """Something that cannot be read at the other end, for a moment."""
        return {"odd": Unreadable()} if "unreadable" in self.special.values() else {}

    sleep = wake = close = lambda self: None


class Unreadable:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self):
        return _raise, ()


def _raise():
    raise ValueError("no such class here")


class EngineThatDoesNotStart(FailingEngine):
    def __init__(self, family, model, load, *, batch_tokens, config) -> None:
        raise RuntimeError("no such kernel")
