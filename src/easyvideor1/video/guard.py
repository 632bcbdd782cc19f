"""Decoding under guard: in worker processes, each under a deadline and a memory cap, killed when it exceeds either.

The workers are plain child processes that are spoken to in lines of JSON: nothing is pickled, the parent's main module
is not imported again, and torch is never loaded.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import EasyVideoError, MediaError, MediaPlan
from easyvideor1.video.plan import plan_to_json
from easyvideor1.video.store import FrameStore, StoreError

Outcome = Literal["built", "present"]

#: Seconds between two looks at a worker's memory.
WATCH_INTERVAL = 0.1
#: Seconds a worker may take to start; not part of any file's deadline.
START_LIMIT = 120.0
#: Jobs after which a worker is replaced, so that leaks of decoders cannot add up.
JOBS_PER_WORKER = 500

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Died(Exception):  # noqa: N818 (an event between two classes of this file)
    """The worker is gone; the message says how it ended."""


class _Worker:
    """One child process and the pipe to it. Not thread-safe: one job at a time."""

    def __init__(self, store: FrameStore, config: CacheConfig) -> None:
        self.jobs = 0
        self._memory = config.memory_mb << 20
        self._deadline = config.deadline
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        python_path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "easyvideor1.video.worker"),
                *("--store", str(store.directory.resolve()), "--codec", store.codec),
                *("--claim-seconds", str(config.deadline), "--memory-mb", str(config.memory_mb)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # Maths libraries reserve memory for every thread they might start; workers need none.
            env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the keyboard is for the parent, which then ends its workers
        )

    def wait_ready(self) -> None:
        """Raises ``EasyVideoError`` when the worker does not come up."""
        try:
            message = self._receive(time.monotonic() + START_LIMIT)
        except _Died as death:
            raise EasyVideoError(f"a decoding worker does not start: {death}") from death
        except MemoryError as error:
            raise EasyVideoError(
                f"cache.memory_mb = {self._memory >> 20} is less than an idle worker needs; give it 512 or more"
            ) from error
        if message is None:
            self.kill()
            raise EasyVideoError(f"a decoding worker did not start within {START_LIMIT:.0f} s")

    def decode(self, path: str, plan: MediaPlan) -> Outcome:
        """Run one job to its end, or kill the process; after a ``MediaError`` look at ``alive``."""
        self.jobs += 1
        job = json.dumps({"path": path, "plan": plan_to_json(plan)}).encode() + b"\n"
        # Before decoding begins the worker may wait for another one's claim, for at most one deadline.
        limit = time.monotonic() + 2 * self._deadline
        try:
            self._send(job)
            while (message := self._receive(limit)) is not None:
                if message["event"] == "began":
                    limit = time.monotonic() + self._deadline
                elif message["event"] == "failed":
                    raise MediaError(message["detail"], path=path, reason=message["reason"])
                elif message["event"] == "fatal":
                    raise StoreError(message["detail"])
                else:
                    return cast("Outcome", message["event"])
        except _Died as death:
            raise MediaError(f"decoding {path} ended its worker: {death}", path=path, reason="crash") from death
        except MemoryError as error:
            self.kill()
            raise MediaError(
                f"decoding {path} took more than cache.memory_mb = {self._memory >> 20}", path=path, reason="memory"
            ) from error
        self.kill()
        raise MediaError(
            f"decoding {path} took longer than cache.deadline = {self._deadline:g} s", path=path, reason="timeout"
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process now; whoever waits for its answer is told."""
        self._process.kill()

    def kill(self) -> None:
        """End the process now and release what it held; may be called twice."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # the rest of a job that nobody will read
        self._stderr.close()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _receive(self, limit: float) -> dict[str, Any] | None:
        """The next message, or None when ``limit`` passes.

        Raises:
            _Died: the process ended.
            MemoryError: it holds more memory than it may.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            remaining = limit - time.monotonic()
            if remaining <= 0:
                return None
            readable, _, _ = select.select([self._process.stdout], [], [], min(WATCH_INTERVAL, remaining))
            if readable:
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._death()
                self._buffer += chunk
            if _resident_bytes(self._process.pid) > self._memory:
                raise MemoryError
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _death(self) -> _Died:
        code = self._process.wait()
        if code < 0:
            cause = f"killed by {signal.Signals(-code).name}"
            cause += " (the kernel does this when memory runs out)" if code == -signal.SIGKILL else ""
        else:
            cause = f"exit status {code}"
        self._stderr.seek(0)
        tail = self._stderr.read()[-2000:].decode(errors="replace").strip()
        cause += f"\n{tail}" if tail else ""
        return _Died(cause)


class DecodePool:
    """Up to ``config.workers`` decoding processes, started when first needed. Thread-safe: one job per thread.

    Use as a context manager, or call ``close``; a pool that is forgotten ends with this process.
    """

    def __init__(self, store: FrameStore, config: CacheConfig) -> None:
        self._store = store
        self._config = config
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(config.workers):
            self._idle.put(None)
        self._running: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def decode(self, path: str, plan: MediaPlan) -> Outcome:
        """Have the frames of a plan in the store when this returns.

        Raises:
            MediaError: with reason ``timeout``, ``memory``, ``crash``, or the reasons of decoding.
            StoreError: the store cannot be written.
            EasyVideoError: workers do not start, or the pool is closed.
        """
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            return worker.decode(path, plan)
        finally:
            self._give_back(worker)

    def close(self) -> None:
        """Kill all workers; jobs under way end with an error."""
        with self._lock:
            self._closed = True
            workers = tuple(self._running)
        for worker in workers:
            worker.stop()  # a busy one is cleared away by the thread that is reading its pipes
        idle: list[_Worker | None] = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for slot in idle:
            self._give_back(slot)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EasyVideoError("the decoding pool is closed")
            worker = _Worker(self._store, self._config)
            self._running.add(worker)
        try:
            worker.wait_ready()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _give_back(self, worker: _Worker | None) -> None:
        with self._lock:
            keep = worker is None or (not self._closed and worker.alive and worker.jobs < JOBS_PER_WORKER)
            if keep:
                self._idle.put(worker)
        if worker is not None and not keep:
            self._end(worker)
            self._idle.put(None)

    def _end(self, worker: _Worker) -> None:
        with self._lock:
            self._running.discard(worker)
        worker.kill()


def _resident_bytes(pid: int) -> int:
    """Memory a process holds; 0 where the system does not tell (the limit set inside the worker remains)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
