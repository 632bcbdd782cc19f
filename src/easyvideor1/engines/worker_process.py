"""The program of a process that works for a run: it serves the run until that ends, however it does.

``ProcessChannel`` (``engines/process.py``) starts it and says what it serves: an engine (``engines/worker.py``), or
rewards (``rollout/reward_worker.py``).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import resource
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any


class _ConnectionPort:
    """A ``Port`` over a connection of ``multiprocessing``."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """See ``Port``."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise EOFError from error

    def receive(self, timeout: float | None) -> Any:
        """See ``Port``."""
        try:
            return self._connection.recv() if self._connection.poll(timeout) else None
        except OSError as error:
            raise EOFError from error


def run_loop(serve: str, port: Any) -> None:
    """Call the loop that ``module:attr`` names with its port; it returns when the run says so."""
    module, _, name = serve.partition(":")
    getattr(importlib.import_module(module), name)(port)


def main(serve: str, connection: str, lifeline: str) -> None:
    """Serve the run at the other end of a connection.

    Args:
        serve: ``module:attr`` of what is called with the port.
        connection: its descriptor. The first message is the run's ``sys.path``, so that what it imported is found.
        lifeline: descriptor of a pipe that the run holds open as long as it lives.
    """
    gc.set_threshold(10_000, 10, 10)  # both as in evr1's own process (``cli.main``)
    atexit.register(gc.freeze)
    _end_with(int(lifeline))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line: Connection[Any, Any] = Connection(int(connection))
    try:
        sys.path[:] = line.recv()
        run_loop(serve, _ConnectionPort(line))
    except EOFError:
        return  # the run is gone


def _end_with(lifeline: int) -> None:
    """Have this process killed when the other end of a pipe is closed, as it is when the run ends, however it does.

    The kernel does it (Linux), also while native code holds the interpreter; and a thread does it everywhere.
    """
    import fcntl

    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        poll = select.poll()
        poll.register(lifeline, select.POLLIN)
        poll.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
