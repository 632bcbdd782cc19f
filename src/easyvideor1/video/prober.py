"""What probing says of files: remembered, else found out in the guarded worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import MediaError, MediaInfo
from easyvideor1.video.content import stat_key
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.memo import ProbeMemo
from easyvideor1.video.store import FrameStore
from easyvideor1.video.versions import FileMemo, StatKey

T = TypeVar("T")

#: Files that are probed ahead of their use at most, for each worker: what is known of a long video takes half a
#: megabyte, and remembered files are recalled faster than anybody uses them.
AHEAD_PER_WORKER = 16

#: The file beside the entries of a store that remembers what probing said.
MEMO_NAME = "probes.memo"


def probe_memo(store: FrameStore) -> ProbeMemo:
    """What is remembered beside the entries of a store."""
    return ProbeMemo(store.directory / MEMO_NAME)


class Prober:
    """Probes files under guard, each version of a file once. Thread-safe.

    A file that cannot be probed goes to the ledger once, and its error is raised again at once as long as the file
    stays the same: one that hangs costs its deadline once.

    Args:
        pool: gives the worker processes; called only when a file is not remembered.
        config: as many files as it has workers are probed at a time by ``ahead``; each has its deadline.
        ledger: names what cannot be probed.
        memo: remembers beyond this process; the workers write it.
        hung: gives the subjects of the ledger that are not tried, because they ran into the deadline before.
    """

    def __init__(
        self,
        pool: Callable[[], DecodePool],
        config: CacheConfig,
        ledger: HealthLedger,
        memo: ProbeMemo | None = None,
        hung: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._pool = pool
        self._workers = config.workers
        self._deadline = config.deadline
        self._hung = hung
        self._ledger = ledger
        self._memo = memo
        self._infos: FileMemo[MediaInfo] = FileMemo(limit=4_000_000, weigh=lambda info: info.frame_count)
        self._failed: dict[StatKey, tuple[str, str]] = {}
        self._unseen: set[str] = set()
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
            waiting = self._reach(path)
        return waiting.result() if waiting is not None else self._probe(path)

    def ahead(self, paths: Iterable[str]) -> None:
        """Begin to probe files that will be asked for, in this order, and return at once.

        The first ones are begun, and others as these are asked for. What is passed over is not waited for.
        """
        with self._lock:
            self._later.update((path, None) for path in paths if path not in self._ahead)
            self._begin()

    def _reach(self, path: str) -> Future[MediaInfo] | None:
        """What was begun for a file. Those announced before it were passed over; as many others are begun."""
        waiting = self._ahead.get(path)
        if waiting is not None:
            _drop_through(path, self._ahead)
        elif path in self._later:
            self._ahead.clear()
            _drop_through(path, self._later)
        self._begin()
        return waiting

    def _begin(self) -> None:
        while self._later and len(self._ahead) < AHEAD_PER_WORKER * self._workers:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="probe")
            path = next(iter(self._later))
            del self._later[path]
            self._ahead[path] = self._threads.submit(self._probe, path)

    def close(self) -> None:
        """Forget what was begun and not asked for."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._ahead.clear()
            self._later.clear()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _probe(self, path: str) -> MediaInfo:
        try:
            key = stat_key(path)
        except MediaError as error:
            if path not in self._unseen:
                self._unseen.add(path)
                self._note(error)
            raise
        if key in self._failed:
            message, reason = self._failed[key]
            raise MediaError(message, path=path, reason=reason)
        return self._infos.get(key, lambda: self._remembered(path, key))

    def _remembered(self, path: str, key: StatKey) -> MediaInfo:
        if self._memo is not None and (found := self._memo.get(key)) is not None:
            return replace(found, path=path)
        if _subject(key) in self._hung():
            raise hung_before(path, self._deadline)
        try:
            info = self._pool().probe(path)
        except MediaError as error:
            self._failed[key] = (str(error), error.reason)
            self._note(error, _subject(key))
            raise
        return info  # the worker has put it into the memo

    def _note(self, error: MediaError, subject: str = "") -> None:
        self._ledger.note(error, "left out", subject, self._deadline)


def hung_before(path: str, deadline: float) -> MediaError:
    """What is said of a file that is not tried again."""
    return MediaError(
        f"{path} took longer than cache.deadline = {deadline:g} s when it was tried last, and is left alone; raise the "
        "deadline, or have it tried again by evr1 cache build",
        path=path,
        reason="timeout",
    )


def _subject(key: StatKey) -> str:
    """The version of a file as the ledger names it."""
    return ":".join(map(str, key))


def _drop_through(path: str, announced: dict[str, T]) -> None:
    """Remove keys from the beginning up to and including ``path``."""
    while (first := next(iter(announced))) != path:
        del announced[first]
    del announced[path]
