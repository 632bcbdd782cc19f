"""Decoding and probing under guard: in worker processes, each under a deadline and a memory cap, killed when it
exceeds either.

The workers are plain child processes that are spoken to in lines of JSON: nothing is pickled, the parent's main module
is not imported again, and torch is never loaded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, TypeVar, cast

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import EasyVideoError, Frames, MediaInfo, MediaPlan
from easyvideor1.video import torchcodec
from easyvideor1.video.child import Worker
from easyvideor1.video.info_json import info_from_json
from easyvideor1.video.store import FrameStore

T = TypeVar("T")
Outcome = Literal["built", "present"]

#: Jobs after which a worker is replaced, so that leaks of decoders cannot add up.
JOBS_PER_WORKER = 500


class DecodePool:
    """Up to ``config.workers`` decoding processes, started when first needed. Thread-safe: one job per thread.

    Use as a context manager, or call ``close``; a pool that is forgotten ends with this process.

    Raises:
        ConfigError: ``config.decoder`` is not installed or does not load.
    """

    def __init__(self, store: FrameStore, config: CacheConfig) -> None:
        if config.decoder == "torchcodec":
            torchcodec.require()  # here it is one error, in a worker it would be that of every file
        self._store = store
        self._config = config
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(config.workers):
            self._idle.put(None)
        self._running: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def decode(self, path: str, plan: MediaPlan) -> Outcome:
        """Have the frames of a plan in the store when this returns.

        Raises:
            MediaError: with reason ``timeout``, ``memory``, ``crash``, or the reasons of decoding.
            StoreError: the store cannot be written.
            EasyVideoError: workers do not start, or the pool is closed.
        """
        return self._lend(lambda worker: cast("Outcome", worker.run("decode", path, plan)["event"]))

    def pixels(self, path: str, plan: MediaPlan) -> Frames:
        """Decode a plan and leave the store alone; pixels are read-only.

        Raises:
            MediaError, EasyVideoError: as ``decode``.
            StoreError: the directory of temporary files is full.
        """
        return self._lend(lambda worker: worker.pixels(path, plan))

    def probe(self, path: str) -> MediaInfo:
        """What probing says of a file.

        Raises:
            MediaError: with reason ``timeout``, ``memory``, ``crash``, or the reasons of probing.
            EasyVideoError: workers do not start, or the pool is closed.
        """
        return self._lend(lambda worker: info_from_json(worker.run("probe", path)["info"]))

    def _lend(self, job: Callable[[Worker], T]) -> T:
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            return job(worker)
        finally:
            self._give_back(worker)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Kill all workers; jobs under way end with an error."""
        with self._lock:
            self._closed = True
            workers = tuple(self._running)
        for worker in workers:
            worker.stop()  # a busy one is cleared away by the thread that is reading its pipes
        idle: list[Worker | None] = []
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

    def _start(self) -> Worker:
        with self._lock:
            if self._closed:
                raise EasyVideoError("the decoding pool is closed")
            worker = Worker(self._store, self._config)
            self._running.add(worker)
        try:
            worker.wait_ready()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _give_back(self, worker: Worker | None) -> None:
        with self._lock:
            keep = worker is None or (not self._closed and worker.alive and worker.jobs < JOBS_PER_WORKER)
            if keep:
                self._idle.put(worker)
        if worker is not None and not keep:
            self._end(worker)
            self._idle.put(None)

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._running.discard(worker)
        worker.kill()
