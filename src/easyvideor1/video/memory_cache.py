"""Frames in memory: those read recently, and those of coming steps, loaded while the current step computes.

Prefetching changes when a medium is read and nothing else. ``Prefetcher.load`` returns what the wrapped ``load`` would
return, whether the medium was prefetched, is being loaded, or was never announced. If a prefetch fails, the step that
needs the medium loads it again and meets the error, or none if its cause is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from easyvideor1.types import Frames, MediaPlan, MediaRef
from easyvideor1.video.derived import derived_frames

#: Maximum number of entries, whatever their size: each may hold a file open.
MAX_ENTRIES = 256


@dataclass
class _KeyLock:
    """The lock of a key that is being read: other readers wait for it and then find the frames cached."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class MemoryCache:
    """Frames by key; the least recently used are dropped first. Thread-safe.

    Args:
        limit: maximum bytes of pixels to keep; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Frames] = OrderedDict()
        self._key_locks: dict[Hashable, _KeyLock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Frames]) -> Frames:
        """The cached frames of ``key``, else those of ``make()``; one call at a time for each key.

        An error of ``make`` is raised and not cached.
        """
        if not self._limit:
            return make()
        with self._lock:
            if (found := self._found(key)) is not None:
                return found
            turn = self._key_locks.setdefault(key, _KeyLock())
            turn.users += 1
        try:
            with turn.lock:
                with self._lock:
                    if (found := self._found(key)) is not None:
                        return found
                frames = make()
                self._keep(key, frames)
                return frames
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    self._key_locks.pop(key, None)

    def forget(self, wanted: Callable[[Hashable], bool]) -> None:
        """Drop the keys for which ``wanted`` is true."""
        with self._lock:
            for key in [key for key in self._kept if wanted(key)]:
                self._bytes -= self._kept.pop(key).pixels.nbytes

    def _found(self, key: Hashable) -> Frames | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: Hashable, frames: Frames) -> None:
        if frames.pixels.nbytes > self._limit:
            return
        with self._lock:
            self._kept[key] = frames
            self._bytes += frames.pixels.nbytes
            while self._bytes > self._limit or len(self._kept) > MAX_ENTRIES:
                self._bytes -= self._kept.popitem(last=False)[1].pixels.nbytes


Load = Callable[[MediaRef, MediaPlan], Frames]
Media = Sequence[tuple[MediaRef, MediaPlan]]

#: Reading one byte of each page loads a mapped entry into memory.
PAGE_BYTES = 4096


class Prefetcher:
    """Loads announced media in background threads, in order, and holds them for their step.

    Plans bound the memory: a medium is not prefetched if held and announced media would exceed ``max_bytes``.
    Thread-safe. ``close`` (or leaving the context) ends the threads; ``load`` still works without them.

    Args:
        load: returns the frames of a plan; must be thread-safe.
        max_bytes: maximum bytes of uint8 pixels held for the current and coming steps.
        workers: number of media loaded at the same time.
    """

    def __init__(self, load: Load, *, max_bytes: int, workers: int = 1) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._workers = workers
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: dict[str, Future[Frames]] = {}
        self._steps: dict[int, dict[str, int]] = {}
        self._stopped = False
        self._lock = threading.Lock()

    def announce(self, step: int, media: Media) -> None:
        """Start to load the media of a step. Announcing again retries media that exceeded the memory before."""
        with self._lock:
            if self._stopped:
                return
            wanted = self._steps.setdefault(step, {})
            for ref, plan in media:
                size = plan_bytes(plan)
                if plan.digest not in self._ahead:
                    if self._held() + size > self._max_bytes:
                        continue
                    self._ahead[plan.digest] = self._pool().submit(self._fetch, ref, plan)
                wanted[plan.digest] = size

    def begin(self, step: int) -> None:
        """Drop the media of earlier steps and cancel their loads that have not started."""
        with self._lock:
            for past in [number for number in self._steps if number < step]:
                del self._steps[past]
            needed = {digest for wanted in self._steps.values() for digest in wanted}
            for digest in [digest for digest in self._ahead if digest not in needed]:
                self._ahead.pop(digest).cancel()

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan; waits if they, or those that they are made from, are being loaded.

        Raises:
            Exception: whatever the wrapped ``load`` raises.
        """
        if (made := derived_frames(self.load, ref, plan)) is not None:
            return made
        with self._lock:
            future = self._ahead.get(plan.digest)
        # A load still in the queue is cancelled and done here at once; a failed one is retried here.
        if future is None or future.cancel() or future.exception() is not None:
            return self._load(ref, plan)
        return Frames(pixels=future.result().pixels, plan=plan)

    def stop(self) -> None:
        """Drop everything and prefetch nothing until ``close``; does not wait for running loads."""
        with self._lock:
            self._stopped = True
            self._ahead.clear()
            self._steps.clear()
            threads = self._threads
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the threads after their running loads; a later ``announce`` starts new ones."""
        self.stop()
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        with self._lock:
            self._stopped = False

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def held_bytes(self) -> int:
        """Bytes of pixels that are held or being loaded."""
        with self._lock:
            return self._held()

    def _held(self) -> int:
        sizes: dict[str, int] = {}
        for wanted in self._steps.values():
            sizes |= wanted
        return sum(sizes.values())

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="prefetch")
        return self._threads

    def _fetch(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        frames = self._load(ref, plan)
        frames.pixels.reshape(-1)[::PAGE_BYTES].max(initial=0)
        return frames


def plan_bytes(plan: MediaPlan) -> int:
    """Bytes of the uint8 pixels of a plan, known before they are read."""
    return int(np.prod((len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.int64))
