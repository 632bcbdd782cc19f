"""Where everybody gets frames from: the store, and a guarded decode that fills it when it lacks them; and what probing
says, by the same workers."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cached_property
from types import TracebackType

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import Frames, MediaError, MediaInfo, MediaPlan, MediaRef
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.prober import Prober, hung_before, probe_memo
from easyvideor1.video.recent import RecentFrames
from easyvideor1.video.store import FrameStore, StoreError

#: Tries to read what was just decoded: ``evr1 cache gc`` with a small limit may be quicker.
READ_BACKS = 3


class FrameSource:
    """Loads frames by plan, as ``cache_config.mode`` says. Thread-safe; ``cache_config.workers`` files are decoded
    at a time.

    A file that failed is not tried again by this source: the error is kept and raised at once, so that a hanging file
    costs its deadline once and not once per step. Nor are those that ran into as long a deadline before, by the
    ledger, unless ``retry_hung``: else they would cost it again at every start.
    """

    def __init__(
        self, store: FrameStore, ledger: HealthLedger, cache_config: CacheConfig, *, retry_hung: bool = False
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._config = cache_config
        self._pool: DecodePool | None = None
        self._refused: dict[str, tuple[str, str, str]] = {}
        self._decoded = RecentFrames(cache_config.keep_mb << 20)  # only with ``decode_only``: the store has its own
        self._lock = threading.Lock()
        self._retry_hung = retry_hung
        self._prober = Prober(lambda: self.pool, cache_config, ledger, probe_memo(store), lambda: self.hung)

    @cached_property
    def hung(self) -> frozenset[str]:
        """Plans (by digest) and file versions that are not tried; read from the ledger when something is to be tried.

        Raises:
            EasyVideoError: the ledger cannot be read.
        """
        return frozenset() if self._retry_hung else self._ledger.hung(self._config.deadline)

    def probe(self, path: str) -> MediaInfo:
        """Describe a media file, under guard unless it is remembered; see ``Prober.probe``."""
        return self._prober.probe(path)

    def probe_ahead(self, paths: Iterable[str]) -> None:
        """Begin to probe, ``cache_config.workers`` at a time, files that will be asked for in this order."""
        self._prober.ahead(paths)

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan; pixels are read-only.

        Raises:
            MediaError: the file cannot be decoded (recorded in the ledger), or reason ``not_cached`` with
                ``cache.mode = "cache_only"``.
            StoreError: the store cannot be read or written.
        """
        if self._config.mode == "decode_only":
            frames = self._decoded.get(plan.digest, lambda: self._guarded(ref, plan, keep=False))
            return Frames(pixels=frames.pixels, plan=plan)
        frames_or_none = self._store.get(plan)
        if frames_or_none is not None:
            return frames_or_none
        if self._config.mode == "cache_only":
            raise not_cached(ref, self._store)
        return self._guarded(ref, plan, keep=True)

    @property
    def pool(self) -> DecodePool:
        """The processes that decode and probe, started when first needed."""
        with self._lock:
            if self._pool is None or self._pool.closed:
                self._pool = DecodePool(self._store, self._config)
            return self._pool

    def close(self) -> None:
        """End the decoding processes; a later ``load`` or ``probe`` starts new ones."""
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
        if plan.digest in self._refused:
            message, path, reason = self._refused[plan.digest]
            raise MediaError(message, path=path, reason=reason)
        if plan.digest in self.hung:
            raise hung_before(ref.path, self._config.deadline)
        try:
            return self._into_store(ref, plan) if keep else self.pool.pixels(ref.path, plan)
        except MediaError as error:
            self._ledger.note(error, "refused", plan.digest, self._config.deadline)
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
    """What is said of a medium that ``cache_only`` does not find."""
    return MediaError(
        f"{ref.path}: its frames are not in {store.directory}; run evr1 cache build or set cache.mode=prefer_cache",
        path=ref.path,
        reason="not_cached",
    )
