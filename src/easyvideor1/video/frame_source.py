"""Where frames and descriptions of media come from: the store and the caches, else guarded worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TypeVar

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import Frames, MediaError, MediaInfo, MediaPlan, MediaRef
from easyvideor1.video.derived import derived_frames
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.media_files import FileVersion, VersionCache, media_version
from easyvideor1.video.memory_cache import MemoryCache
from easyvideor1.video.probe_cache import PROBE_CACHE_NAME, ProbeCache
from easyvideor1.video.store import FrameStore, StoreError
from easyvideor1.video.worker_pool import DecodePool

#: Attempts to read what was just decoded: ``evr1 cache gc`` with a small limit may remove it first.
READ_BACKS = 3


class FrameSource:
    """Loads frames by plan, as ``cache_config.mode`` says. Thread-safe; decodes ``cache_config.workers`` files in
    parallel.

    A file that failed is not tried again: the error is kept and raised at once, so that a hanging file costs its
    deadline once and not once per step. Unless ``retry_timeouts``, files that exceeded as long a deadline at an earlier
    start, according to the ledger, are not tried either.
    """

    def __init__(
        self, store: FrameStore, ledger: HealthLedger, cache_config: CacheConfig, *, retry_timeouts: bool = False
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._config = cache_config
        self._pool: DecodePool | None = None
        self._refused: dict[str, tuple[str, str, str]] = {}
        self._forgotten: set[str] = set()
        self._decoded = MemoryCache(cache_config.keep_mb << 20)  # used with ``decode_only``; the store has its own
        self._lock = threading.Lock()
        self._retry_hung = retry_timeouts
        self._prober = Prober(
            lambda: self.pool,
            cache_config,
            ledger,
            ProbeCache(store.directory / PROBE_CACHE_NAME),
            lambda: self.timed_out,
        )

    @cached_property
    def timed_out(self) -> frozenset[str]:
        """Digests of plans and file versions that are not tried; read from the ledger when first needed.

        Raises:
            EasyVideoError: the ledger cannot be read.
        """
        return frozenset() if self._retry_hung else self._ledger.timed_out(self._config.deadline)

    def probe(self, path: str) -> MediaInfo:
        """Describe a media file, from the caches or in a worker process; see ``Prober.probe``."""
        return self._prober.probe(path)

    def probe_ahead(self, paths: Iterable[str]) -> None:
        """Start to probe files that will be needed in this order, ``cache_config.workers`` in parallel."""
        self._prober.ahead(paths)

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan; pixels are read-only. Those of a part, or with effects, are made from stored ones.

        Raises:
            MediaError: the file cannot be decoded (recorded in the ledger), ``not_cached`` with
                ``cache.mode = "cache_only"``, or ``effect``: a file that an effect reads is gone or was changed.
            StoreError: the store cannot be read or written.
        """
        if (made := derived_frames(self.load, ref, plan)) is not None:
            return made
        if self._config.mode == "decode_only":
            frames = self._decoded.get(plan.digest, lambda: self._guarded(ref, plan, keep=False))
            return Frames(pixels=frames.pixels, plan=plan)
        frames_or_none = self._store.get(plan)
        if frames_or_none is not None:
            return frames_or_none
        if self._config.mode == "cache_only":
            raise not_cached(ref, self._store)
        return self._guarded(ref, plan, keep=True)

    def try_again(self) -> None:
        """Forget what failed, so that files are tried again, those that exceeded the deadline too.

        Each failure is forgotten once, however often this is called: a file that hangs costs its deadline twice, not
        once more for every evaluation of a run.
        """
        with self._lock:
            self._retry_hung = True
            _forget_once(self._refused, self._forgotten)
            self.__dict__.pop("timed_out", None)
        self._prober.forget_failures()

    @property
    def pool(self) -> DecodePool:
        """The worker processes, started when first needed."""
        with self._lock:
            if self._pool is None or self._pool.closed:
                self._pool = DecodePool(self._store, self._config)
            return self._pool

    def close(self) -> None:
        """End the worker processes; a later ``load`` or ``probe`` starts new ones."""
        self._prober.close()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _guarded(self, ref: MediaRef, plan: MediaPlan, *, keep: bool) -> Frames:
        if (refused := self._refused.get(plan.digest)) is not None:
            message, path, reason = refused
            raise MediaError(message, path=path, reason=reason)
        if plan.digest in self.timed_out:
            raise timed_out_before(ref.path, self._config.deadline)
        try:
            return self._into_store(ref, plan) if keep else self.pool.pixels(ref.path, plan)
        except MediaError as error:
            self._ledger.record_error(error, "refused", plan.digest, self._config.deadline)
            self._refused[plan.digest] = (str(error), error.path, error.reason)
            raise

    def _into_store(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        for _ in range(READ_BACKS):
            self.pool.decode(ref.path, plan)
            frames = self._store.get(plan)
            if frames is not None:
                return frames
        raise StoreError(
            f"the frames of {ref.path} were written to {self._store.directory} but cannot be read back; "
            f"see {self._store.ledger.path}"
        )


def not_cached(ref: MediaRef, store: FrameStore) -> MediaError:
    """The error for a medium that ``cache_only`` does not find."""
    return MediaError(
        f"{ref.path}: its frames are not in {store.directory}; run evr1 cache build or set cache.mode=prefer_cache",
        path=ref.path,
        reason="not_cached",
    )


T = TypeVar("T")
U = TypeVar("U")

#: Maximum number of files probed ahead of their use, per worker: the description of a long video takes half a megabyte,
#: and cached descriptions are read faster than they are used.
AHEAD_PER_WORKER = 16


class Prober:
    """Probes files in worker processes, each version of a file once. Thread-safe.

    A file that cannot be probed is recorded in the ledger once, and its error is raised at once while the file stays
    the same: a hanging file costs its deadline once.

    Args:
        pool: returns the worker processes; called only if a file is not cached.
        config: workers (``ahead`` probes as many files in parallel) and the deadline of each file.
        ledger: records what cannot be probed.
        cache: the probe cache on disk; the workers write it.
        timed_out: returns the subjects in the ledger that exceeded the deadline before and are not tried.
    """

    def __init__(
        self,
        pool: Callable[[], DecodePool],
        config: CacheConfig,
        ledger: HealthLedger,
        cache: ProbeCache | None = None,
        timed_out: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._pool = pool
        self._workers = config.workers
        self._deadline = config.deadline
        self._hung = timed_out
        self._ledger = ledger
        self._cache = cache
        self._infos: VersionCache[MediaInfo] = VersionCache(limit=4_000_000, weigh=lambda info: info.frame_count)
        self._failed: dict[FileVersion, tuple[str, str]] = {}
        self._forgotten: set[FileVersion] = set()
        self._missing: set[str] = set()
        self._ahead: dict[str, Future[MediaInfo]] = {}
        self._later: dict[str, None] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def probe(self, path: str) -> MediaInfo:
        """Describe a media file, as ``easyvideor1.video.probe`` does.

        Raises:
            MediaError: the reasons of ``probe``, or ``timeout``, ``memory``, ``crash``.
        """
        with self._lock:
            waiting = self._take(path)
        return waiting.result() if waiting is not None else self._probe(path)

    def ahead(self, paths: Iterable[str]) -> None:
        """Start to probe files that will be needed, in this order, and return at once.

        Some files are started at once, others as these are requested. Files that are skipped are not waited for.
        """
        with self._lock:
            self._later.update((path, None) for path in paths if path not in self._ahead)
            self._start_next()

    def _take(self, path: str) -> Future[MediaInfo] | None:
        """The running probe of a file. Files announced before it are dropped, and as many others are started."""
        waiting = self._ahead.get(path)
        if waiting is not None:
            _drop_until(path, self._ahead)
        elif path in self._later:
            self._ahead.clear()
            _drop_until(path, self._later)
        self._start_next()
        return waiting

    def _start_next(self) -> None:
        while self._later and len(self._ahead) < AHEAD_PER_WORKER * self._workers:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="probe")
            path = next(iter(self._later))
            del self._later[path]
            self._ahead[path] = self._threads.submit(self._probe, path)

    def forget_failures(self) -> None:
        """Try files again that could not be probed; each once, however often this is called."""
        with self._lock:
            _forget_once(self._failed, self._forgotten)

    def close(self) -> None:
        """Drop probes that were started and not requested."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._ahead.clear()
            self._later.clear()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _probe(self, path: str) -> MediaInfo:
        try:
            key = media_version(path)
        except MediaError as error:
            if path not in self._missing:
                self._missing.add(path)
                self._note(error)
            raise
        if (failed := self._failed.get(key)) is not None:
            message, reason = failed
            raise MediaError(message, path=path, reason=reason)
        return self._infos.get(key, lambda: self._remembered(path, key))

    def _remembered(self, path: str, key: FileVersion) -> MediaInfo:
        if self._cache is not None and (found := self._cache.get(key)) is not None:
            return replace(found, path=path)
        if _subject(key) in self._hung():
            raise timed_out_before(path, self._deadline)
        try:
            info = self._pool().probe(path)
        except MediaError as error:
            self._failed[key] = (str(error), error.reason)
            self._note(error, _subject(key))
            raise
        return info  # the worker has written it to the cache

    def _note(self, error: MediaError, subject: str = "") -> None:
        self._ledger.record_error(error, "left out", subject, self._deadline)


def timed_out_before(path: str, deadline: float) -> MediaError:
    """The error for a file that is not tried again."""
    return MediaError(
        f"{path} took longer than cache.deadline = {deadline:g} s when it was last tried, and is skipped; raise the "
        "deadline, or run evr1 cache build to try it again",
        path=path,
        reason="timeout",
    )


def _subject(key: FileVersion) -> str:
    """The version of a file as a subject of the ledger."""
    return ":".join(map(str, key))


def _forget_once(failures: dict[T, U], forgotten: set[T]) -> None:
    """Remove the failures that are not among those ``forgotten`` before, and add them there."""
    for key in failures.keys() - forgotten:
        del failures[key]
        forgotten.add(key)


def _drop_until(path: str, announced: dict[str, T]) -> None:
    """Remove keys from the beginning up to and including ``path``."""
    while (first := next(iter(announced))) != path:
        del announced[first]
    del announced[path]
