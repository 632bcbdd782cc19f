"""Guarded worker processes that decode and probe, each under a deadline and a memory limit, killed if it exceeds one.

A worker process (``easyvideor1.video.worker``) is a plain child process that reads and writes lines of JSON: nothing is
pickled, the main module of the parent is not imported again, and torch is never loaded.
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import numpy as np

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import EasyVideoError, Frames, MediaError, MediaInfo, MediaPlan
from easyvideor1.video import torchcodec
from easyvideor1.video.plan import plan_to_json
from easyvideor1.video.probe_cache import info_from_json
from easyvideor1.video.store import FrameStore, StoreError

T = TypeVar("T")
Outcome = Literal["built", "present"]

#: Jobs after which a worker is replaced, so that memory leaks of decoders do not accumulate.
JOBS_PER_WORKER = 500


class DecodePool:
    """Up to ``config.workers`` worker processes, started when first needed. Thread-safe: one job per thread.

    Use it as a context manager, or call ``close``; otherwise the pool ends with this process.

    Raises:
        ConfigError: ``config.decoder`` is not installed or does not load.
    """

    def __init__(self, store: FrameStore, config: CacheConfig) -> None:
        if config.decoder == "torchcodec":
            torchcodec.require()  # one error here, instead of one per file in the workers
        self._store = store
        self._config = config
        self._idle: queue.LifoQueue[WorkerProcess | None] = queue.LifoQueue()
        for _ in range(config.workers):
            self._idle.put(None)
        self._running: set[WorkerProcess] = set()
        self._lock = threading.Lock()
        self._closed = False

    def decode(self, path: str, plan: MediaPlan) -> Outcome:
        """Decode a plan into the store, unless the store has it.

        Raises:
            MediaError: with reason ``timeout``, ``memory``, ``crash``, or the reasons of decoding.
            StoreError: the store cannot be written.
            EasyVideoError: workers do not start, or the pool is closed.
        """
        return self._with_worker(lambda worker: cast("Outcome", worker.run("decode", path, plan)["event"]))

    def pixels(self, path: str, plan: MediaPlan) -> Frames:
        """Decode a plan without using the store; pixels are read-only.

        Raises:
            MediaError, EasyVideoError: as ``decode``.
            StoreError: the directory of temporary files is full.
        """
        return self._with_worker(lambda worker: worker.pixels(path, plan))

    def probe(self, path: str) -> MediaInfo:
        """Probe a file.

        Raises:
            MediaError: with reason ``timeout``, ``memory``, ``crash``, or the reasons of probing.
            EasyVideoError: workers do not start, or the pool is closed.
        """
        return self._with_worker(lambda worker: info_from_json(worker.run("probe", path)["info"]))

    def _with_worker(self, job: Callable[[WorkerProcess], T]) -> T:
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            return job(worker)
        finally:
            self._return(worker)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Kill all workers; running jobs end with an error."""
        with self._lock:
            self._closed = True
            workers = tuple(self._running)
        for worker in workers:
            worker.stop()  # the thread that reads the pipes of a busy worker cleans it up
        idle: list[WorkerProcess | None] = []
        with suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for slot in idle:
            self._return(slot)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise EasyVideoError("the decoding pool is closed")
            worker = WorkerProcess(self._store, self._config)
            self._running.add(worker)
        try:
            worker.wait_ready()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _return(self, worker: WorkerProcess | None) -> None:
        with self._lock:
            keep = worker is None or (not self._closed and worker.alive and worker.jobs < JOBS_PER_WORKER)
            if keep:
                self._idle.put(worker)
        if worker is not None and not keep:
            self._end(worker)
            self._idle.put(None)

    def _end(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._running.discard(worker)
        worker.kill()


#: Kind of a job: frames into the store, frames into the scratch file, or probing.
Verb = Literal["decode", "pixels", "probe"]

#: Seconds between two checks of a worker's memory.
WATCH_INTERVAL = 0.1
#: Seconds a worker may take to start; not part of the deadline of a file.
START_LIMIT = 120.0

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_PAGE = os.sysconf("SC_PAGE_SIZE")
_DOING: dict[Verb, str] = {"decode": "decoding", "pixels": "decoding", "probe": "probing"}


class _WorkerDiedError(Exception):
    """The worker process has ended; the message says how."""


class WorkerProcess:
    """One worker process. Not thread-safe: one job at a time.

    Pixels that do not go into the store are returned through an unnamed scratch file, which disappears with the last
    process that has it open.
    """

    def __init__(self, store: FrameStore, config: CacheConfig) -> None:
        self.jobs = 0
        self._memory = config.memory_mb << 20
        self._deadline = config.deadline
        self._buffer = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._scratch = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        python_path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "easyvideor1.video.worker"),
                *("--store", str(store.directory.resolve()), "--codec", store.codec),
                *("--lock-seconds", str(config.deadline), "--memory-mb", str(config.memory_mb)),
                *("--scratch", str(self._scratch.fileno()), "--decoder", config.decoder),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # Maths libraries reserve memory for every thread they may start; workers need none.
            env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=(self._scratch.fileno(),),
            start_new_session=True,  # a keyboard interrupt goes to the parent only, which then ends its workers
        )

        assert self._process.stdout is not None
        self._poll = select.poll()  # unlike select(), it accepts descriptors above 1023; mapped entries use many
        self._poll.register(self._process.stdout, select.POLLIN)

    def wait_ready(self) -> None:
        """Wait until the worker has started. Raises ``EasyVideoError`` if it does not start."""
        try:
            message = self._receive(time.monotonic() + START_LIMIT)
        except _WorkerDiedError as death:
            raise EasyVideoError(f"a worker process does not start: {death}") from death
        except MemoryError as error:
            raise EasyVideoError(
                f"cache.memory_mb = {self._memory >> 20} is less than an idle worker needs; give it 512 or more"
            ) from error
        if message is None:
            self.kill()
            raise EasyVideoError(f"a worker process did not start within {START_LIMIT:.0f} s")

    def run(self, verb: Verb, path: str, plan: MediaPlan | None = None) -> dict[str, Any]:
        """Run one job, or kill the process; after a ``MediaError`` check ``alive``.

        Returns:
            The worker's last message.

        Raises:
            MediaError: the file is bad, exceeded the deadline or memory limit, or ended the worker.
            StoreError: the frames cannot be written.
        """
        self.jobs += 1
        job = {"verb": verb, "path": path, "plan": None if plan is None else plan_to_json(plan)}
        doing = f"{_DOING[verb]} {path}"
        # Before decoding begins the worker may wait for another worker's lock, for at most one deadline.
        limit = time.monotonic() + (2 if verb == "decode" else 1) * self._deadline
        try:
            self._send(json.dumps(job).encode() + b"\n")
            message = self._receive(limit)
            if message is not None and message["event"] == "began":
                message = self._receive(time.monotonic() + self._deadline)
        except _WorkerDiedError as death:
            raise MediaError(f"{doing} ended its worker: {death}", path=path, reason="crash") from death
        except MemoryError as error:
            self.kill()
            raise MediaError(
                f"{doing} took more than cache.memory_mb = {self._memory >> 20}", path=path, reason="memory"
            ) from error
        except BaseException:  # an interrupt: the pending answer would be taken for that of the next job
            self.kill()
            raise
        if message is None:
            self.kill()
            raise MediaError(
                f"{doing} took longer than cache.deadline = {self._deadline:g} s", path=path, reason="timeout"
            )
        if message["event"] == "failed":
            raise MediaError(message["detail"], path=path, reason=message["reason"])
        if message["event"] == "fatal":
            raise StoreError(message["detail"])
        return message

    def pixels(self, path: str, plan: MediaPlan) -> Frames:
        """Decode without the store: reads and empties the scratch file. Raises as ``run``."""
        self.run("pixels", path, plan)
        try:
            self._scratch.seek(0)
            pixels = np.empty((len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.uint8)
            if self._scratch.readinto(pixels.data.cast("B")) != pixels.nbytes:
                raise StoreError(f"the frames of {path} were returned incomplete through {tempfile.gettempdir()}")
        finally:
            self._scratch.truncate(0)
        pixels.flags.writeable = False
        return Frames(pixels=pixels, plan=plan)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Kill the process; a thread that waits for its answer gets an error."""
        self._process.kill()

    def kill(self) -> None:
        """Kill the process and release its resources; may be called twice."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # the unread rest of a job
        self._stderr.close()
        self._scratch.close()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._death() from error

    def _receive(self, limit: float) -> dict[str, Any] | None:
        """The next message, or None at the time ``limit``.

        Raises:
            _WorkerDiedError: the process ended.
            MemoryError: it exceeds its memory limit.
        """
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            remaining = limit - time.monotonic()
            if remaining <= 0:
                return None
            if self._poll.poll(1000 * min(WATCH_INTERVAL, remaining)):
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self._death()
                self._buffer += chunk
            if _resident_bytes(self._process.pid) > self._memory:
                raise MemoryError
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _death(self) -> _WorkerDiedError:
        code = self._process.wait()
        if code < 0:
            cause = f"killed by {signal.Signals(-code).name}"
            cause += " (the kernel does this when memory runs out)" if code == -signal.SIGKILL else ""
        else:
            cause = f"exit status {code}"
        self._stderr.seek(0)
        tail = self._stderr.read()[-2000:].decode(errors="replace").strip()
        cause += f"\n{tail}" if tail else ""
        return _WorkerDiedError(cause)


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if the system does not report it (the limit inside the worker remains)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
