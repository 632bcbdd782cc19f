"""Where everybody gets frames from: the store, and a guarded decode that fills it when it lacks them."""

from __future__ import annotations

import threading
from types import TracebackType

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import Frames, MediaError, MediaPlan, MediaRef
from easyvideor1.video.guard import DecodePool
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.store import FrameStore, StoreError


class FrameSource:
    """Loads frames by plan. Thread-safe; up to ``cache_config.workers`` misses are decoded at a time.

    A file that failed is not tried again by this source: the error is kept and raised at once, so that a hanging file
    costs its deadline once and not once per step.
    """

    def __init__(self, store: FrameStore, ledger: HealthLedger, cache_config: CacheConfig) -> None:
        self._store = store
        self._ledger = ledger
        self._config = cache_config
        self._pool: DecodePool | None = None
        self._refused: dict[str, tuple[str, str, str]] = {}
        self._lock = threading.Lock()

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan; pixels are read-only.

        Raises:
            MediaError: the file cannot be decoded (recorded in the ledger), or reason ``not_cached`` with
                ``cache.on_miss = "error"``.
            StoreError: the store cannot be read or written.
        """
        frames = self._store.get(plan)
        if frames is not None:
            return frames
        if self._config.on_miss == "error":
            raise MediaError(
                f"{ref.path}: its frames are not in {self._store.directory}; build the cache or set "
                "cache.on_miss=decode",
                path=ref.path,
                reason="not_cached",
            )
        if plan.digest in self._refused:
            message, path, reason = self._refused[plan.digest]
            raise MediaError(message, path=path, reason=reason)
        try:
            self._decoders().decode(ref.path, plan)
        except MediaError as error:
            self._ledger.record(error.path, error.reason, str(error), "refused")
            self._refused[plan.digest] = (str(error), error.path, error.reason)
            raise
        frames = self._store.get(plan)
        if frames is None:
            raise StoreError(
                f"the frames of {ref.path} were written to {self._store.directory} but cannot be read back; "
                f"see {self._store.ledger.path}"
            )
        return frames

    def close(self) -> None:
        """End the decoding processes; a later ``load`` starts new ones."""
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

    def _decoders(self) -> DecodePool:
        with self._lock:
            if self._pool is None:
                self._pool = DecodePool(self._store, self._config)
            return self._pool
