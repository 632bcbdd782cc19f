"""Fill the store ahead of time: every distinct plan once, in parallel. A bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from easyvideor1.config.schema import CacheConfig
from easyvideor1.types import MediaError, MediaPlan, MediaRef
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.store import FrameStore
from easyvideor1.video.worker_pool import DecodePool, Outcome

#: Reasons that depend on the path and not on the content: a copy of the file may be readable.
_PATH_REASONS = frozenset({"missing", "permission", "not_a_file", "changed"})


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """Progress of a build in distinct plans: ``done = built + present + failed`` of ``total``."""

    total: int
    built: int = 0
    present: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.built + self.present + self.failed


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    ``built``, ``present`` and ``failed`` count distinct plans. ``failures`` holds ``(path, reason)`` in the order of
    the items, for every path with a failed plan: it names all copies of a bad file, and names a path with two failed
    clips twice. ``failed_digests`` maps the digest of every failed plan to its reason; other clips of the same path may
    have been decoded. ``damaged`` holds ``(file, fault)`` of damaged entries of the store. They were set aside, and
    their plans count as ``built`` or ``failed`` unless another entry serves them. ``rate_note`` is a message about
    videos with low frame rates, from planning.
    """

    built: int
    present: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    failed_digests: Mapping[str, str]
    damaged: tuple[tuple[str, str], ...] = ()
    rate_note: str = ""


def build(
    items: Iterable[tuple[MediaRef, MediaPlan]],
    store: FrameStore,
    ledger: HealthLedger,
    cache_config: CacheConfig,
    on_progress: Callable[[BuildProgress], None] | None = None,
    *,
    pool: DecodePool | None = None,
    timed_out: Collection[str] = (),
    checksums: bool = False,
) -> BuildReport:
    """Decode every plan that the store lacks, in ``cache_config.workers`` processes.

    A file that fails is recorded in the ledger, and the build continues. Entries that are present and have the size in
    their header are not decoded, so an interrupted build resumes. Truncated entries are set aside, reported and decoded
    again.

    Args:
        items: media with their plans. Equal digests are decoded once, from the first path that still has the content.
        store: is filled.
        ledger: records every failure.
        cache_config: workers, deadline and memory cap.
        on_progress: called in this thread after each distinct plan.
        pool: worker processes to use, which keep running; if None, the build starts and ends its own.
        timed_out: digests that exceeded the deadline before. They are not tried and count as failed.
        checksums: check every byte of present entries, not only their size.

    Raises:
        StoreError: the store cannot be written.
    """
    plans: dict[str, MediaPlan] = {}
    paths: dict[tuple[str, str], None] = {}  # every (digest, path) once, in the order of the items
    places: dict[str, dict[str, None]] = {}
    for ref, plan in items:
        plans.setdefault(plan.digest, plan)
        paths[plan.digest, ref.path] = None
        places.setdefault(plan.digest, {})[ref.path] = None
    store.sweep()
    progress = BuildProgress(len(plans))

    def advance(outcome: Outcome | Literal["failed"]) -> None:
        nonlocal progress
        progress = replace(progress, **{outcome: getattr(progress, outcome) + 1})
        if on_progress is not None:
            on_progress(progress)

    missing, damaged = _missing(plans, store, checksums, lambda: advance("present"))
    failed = {digest: "timeout" for digest in missing if digest in timed_out}
    for digest in failed:
        del missing[digest]
        advance("failed")
    if missing:
        with ExitStack() as stack:
            workers = pool or stack.enter_context(DecodePool(store, cache_config))
            threads = stack.enter_context(ThreadPoolExecutor(cache_config.workers))
            record = partial(ledger.record_error, action="left out of the store", deadline=cache_config.deadline)
            jobs = {
                threads.submit(_decode_anywhere, workers, record, tuple(places[digest]), plan): digest
                for digest, plan in missing.items()
            }
            try:
                _collect(jobs, failed, advance)
            except BaseException:
                # Otherwise leaving the block would wait for all queued and running jobs.
                threads.shutdown(wait=False, cancel_futures=True)
                workers.close()
                raise
    return BuildReport(
        built=progress.built,
        present=progress.present,
        failed=len(failed),
        failures=tuple((path, failed[digest]) for digest, path in paths if digest in failed),
        failed_digests=failed,
        damaged=tuple(damaged),
    )


def _missing(
    plans: Mapping[str, MediaPlan], store: FrameStore, checksums: bool, on_present: Callable[[], None]
) -> tuple[dict[str, MediaPlan], list[tuple[str, str]]]:
    """The plans without an intact entry, and ``(file, fault)`` of the damaged entries, which are set aside."""
    missing: dict[str, MediaPlan] = {}
    damaged: list[tuple[str, str]] = []
    for digest, plan in plans.items():
        found = store.check_entry(plan, checksums=checksums)
        damaged += [(str(path), fault) for path, fault in found.damaged]
        if found.there:
            on_present()
        else:
            missing[digest] = plan
    return missing, damaged


def check_cached(items: Iterable[tuple[MediaRef, MediaPlan]], store: FrameStore) -> BuildReport:
    """Report which plans the store has, without decoding: missing ones are failures with the reason ``not_cached``.

    Truncated entries count as missing and are reported. They stay in place, since the store may belong to others.
    """
    items = tuple(items)
    there = {
        digest: store.check_entry(plan, set_aside=False) for digest, plan in {p.digest: p for _, p in items}.items()
    }
    lacking = {digest: "not_cached" for digest, found in there.items() if not found.there}
    failures = dict.fromkeys((ref.path, plan.digest) for ref, plan in items if plan.digest in lacking)
    return BuildReport(
        built=0,
        present=len(there) - len(lacking),
        failed=len(lacking),
        failures=tuple((path, "not_cached") for path, _ in failures),
        failed_digests=lacking,
        damaged=tuple((str(path), fault) for found in there.values() for path, fault in found.damaged),
    )


def _collect(
    jobs: Mapping[Future[Outcome], str],
    failed: dict[str, str],
    advance: Callable[[Outcome | Literal["failed"]], None],
) -> None:
    for job in as_completed(jobs):
        try:
            outcome: Outcome | Literal["failed"] = job.result()
        except MediaError as error:
            failed[jobs[job]] = error.reason
            outcome = "failed"
        advance(outcome)


def _decode_anywhere(pool: DecodePool, record: Callable[..., None], paths: Sequence[str], plan: MediaPlan) -> Outcome:
    """Decode a plan from the first of its paths that still has the content it was made for.

    A failure that depends on the content would repeat at every other path, so these are not tried.

    Raises:
        MediaError: of the last path that was tried; ``record`` has received all of them.
    """
    for path in paths:
        try:
            return pool.decode(path, plan)
        except MediaError as error:
            record(error, subject=plan.digest)
            if error.reason not in _PATH_REASONS or path == paths[-1]:
                raise
    raise AssertionError("a plan without a path")
