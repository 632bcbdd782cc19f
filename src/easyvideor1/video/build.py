"""Fill the store ahead of time: every distinct plan once, in parallel, whatever single files do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import MediaError, MediaPlan, MediaRef
from easyvideor1.video.guard import DecodePool, Outcome
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.store import FrameStore


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Counts of distinct plans; ``failures`` are ``(path, reason)`` in the order of the items."""

    built: int
    present: int
    failed: int
    failures: tuple[tuple[str, str], ...]


def build(
    items: Iterable[tuple[MediaRef, MediaPlan]],
    store: FrameStore,
    ledger: HealthLedger,
    cache_config: CacheConfig,
    on_progress: Callable[[int, int], None] | None = None,
) -> BuildReport:
    """Decode every plan that the store lacks, in ``cache_config.workers`` processes.

    A file that fails goes to the ledger and the rest goes on. What is already there is not decoded, so a build that was
    interrupted continues where it was.

    Args:
        items: media with their plans; equal digests are decoded once, from the first path that has them.
        store: is filled.
        ledger: names every failure.
        cache_config: workers, deadline and memory cap.
        on_progress: called in this thread as ``(done, total)`` after each distinct plan.

    Raises:
        StoreError: the store cannot be written; going on would only repeat it.
    """
    paths: dict[str, tuple[str, MediaPlan]] = {}
    for ref, plan in items:
        paths.setdefault(plan.digest, (ref.path, plan))
    store.sweep()
    missing = {digest: item for digest, item in paths.items() if not store.has(digest)}
    total, done = len(paths), 0
    counts: dict[Outcome, int] = {"built": 0, "present": 0}
    failures: dict[str, tuple[str, str]] = {}

    def finished(outcome: Outcome | None) -> None:
        nonlocal done
        done += 1
        if outcome is not None:
            counts[outcome] += 1
        if on_progress is not None:
            on_progress(done, total)

    for _ in range(total - len(missing)):
        finished("present")
    with DecodePool(store, cache_config) as pool, ThreadPoolExecutor(cache_config.workers) as threads:
        futures: dict[Future[Outcome], str] = {
            threads.submit(pool.decode, path, plan): digest for digest, (path, plan) in missing.items()
        }
        try:
            for future in as_completed(futures):
                digest = futures[future]
                try:
                    outcome: Outcome | None = future.result()
                except MediaError as error:
                    ledger.record(error.path, error.reason, str(error), "left out of the store")
                    failures[digest] = (error.path, error.reason)
                    outcome = None
                finished(outcome)
        except BaseException:
            # Without this, leaving the block would first wait for everything that is still queued or under way.
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()
            raise
    return BuildReport(
        built=counts["built"],
        present=counts["present"],
        failed=len(failures),
        failures=tuple(failures[digest] for digest in paths if digest in failures),
    )
