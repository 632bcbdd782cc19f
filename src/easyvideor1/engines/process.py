"""A process for the loop of a worker, such as that of an engine, and the trainer's end of the line to it.

The process is a new interpreter, as those that ``multiprocessing`` spawns, but the main module of the trainer is not
imported again. It ends when the trainer ends, however that happens.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

#: Lines of a worker's output that are kept for messages.
_KEPT_LINES = 30
#: Seconds that a worker whose line is closed may take to end.
_END_SECONDS = 5.0

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; from easyvideor1.engines.worker_process import main; main(*sys.argv[1:])"
#: What is served by default: an engine.
ENGINE_LOOP = "easyvideor1.engines.worker:serve"


class ProcessChannel:
    """A ``Channel`` to a process that it starts.

    What the worker prints comes out on the trainer's stderr, line by line; the last lines are kept for
    ``last_words``. Threads read and write the line, so that neither side ever waits for the other.

    Args:
        on_message: called from a thread whenever a message came or the process ended.
        serve: ``module:attr`` of the worker's loop, which is called with its ``Port``.
        name: what its lines on stderr begin with.
        own_temporary: whether it gets a directory of its own for temporary files, which ``kill`` removes with what a
            process that is killed leaves there.
    """

    #: The worker can map memory of this process.
    shares_memory = True

    def __init__(
        self,
        on_message: Callable[[], None] = lambda: None,
        *,
        serve: str = ENGINE_LOOP,
        name: str = "engine",
        own_temporary: bool = False,
    ) -> None:
        self._on_message, self._name = on_message, name
        self._connection, theirs = multiprocessing.Pipe()
        lifeline, self._life = os.pipe()
        self._temporary = tempfile.mkdtemp(prefix=f"evr1-{name}-") if own_temporary else None
        python_path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, serve, str(theirs.fileno()), str(lifeline)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONPATH": python_path,
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONFAULTHANDLER": "1",  # a crash in native code says where
                    **({} if self._temporary is None else {"TMPDIR": self._temporary}),
                },
                pass_fds=(theirs.fileno(), lifeline),
                start_new_session=True,  # a keyboard interrupt goes to the trainer only, which then ends its workers
            )
        except OSError:
            self._remove_temporary()
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._ended = self._killed = False
        self._unread = ""
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._read, self._write, self._relay_output)
        ]
        for thread in self._threads:
            thread.start()
        self._send(sys.path)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """See ``Channel``."""
        self._send(message)

    def receive(self, timeout: float) -> Any:
        """See ``Channel``."""
        if self._ended:
            return None
        try:
            message = self._incoming.get(timeout=timeout) if timeout > 0 else self._incoming.get_nowait()
        except queue.Empty:
            return None
        self._ended = message is None
        return message

    def alive(self) -> bool:
        """See ``Channel``."""
        return not self._ended

    def kill(self) -> None:
        """See ``Channel``."""
        if self._killed:
            return
        self._killed = self._ended = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # processes that the engine started, too
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # the kernel holds it, as for a disk or a driver that hangs
            self._process.wait(_END_SECONDS)
        self._remove_temporary()
        self._outgoing.put(None)
        for thread in self._threads:
            thread.join(_END_SECONDS)
        self._connection.close()
        os.close(self._life)

    def last_words(self) -> str:
        """See ``Channel``."""
        try:
            if self._unread:
                self._process.kill()
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            how = "it hangs"
        else:
            self._threads[-1].join(_END_SECONDS)
            how = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL and not self._unread:
                how += " (the kernel does this when memory runs out)"
        how = self._unread + how
        printed = "\n".join(list(self._lines))
        return f"{how}; its last lines:\n{printed}" if printed else f"{how}; it printed nothing"

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _send(self, message: Any) -> None:
        self._outgoing.put(ForkingPickler.dumps(message))  # here, so that the caller gets the error

    def _read(self) -> None:
        try:
            while True:
                self._incoming.put(self._connection.recv())
                self._on_message()
        except (EOFError, OSError):
            pass
        except Exception as error:  # noqa: BLE001 - unpickling raises anything, and nothing after it can be read
            self._unread = f"what it sent cannot be read ({type(error).__name__}: {error}); "
        finally:
            self._incoming.put(None)
            self._on_message()

    def _write(self) -> None:
        with suppress(OSError):
            while (message := self._outgoing.get()) is not None:
                self._connection.send_bytes(message)

    def _relay_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                text = line.decode(errors="replace").rstrip().rpartition("\r")[-1]  # the end of a progress bar
                self._lines.append(text)
                print(f"[{self._name} {self._process.pid}] {text}", file=sys.stderr, flush=True)
