"""Fill the store ahead of time: every distinct plan once, in parallel, whatever single files do."""

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

#: Reasons that lie in where a file is and not in what it holds: a copy of it may be well.
_OF_THE_PLACE = frozenset({"missing", "permission", "not_a_file", "changed"})


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is, in distinct plans: ``done = built + present + failed`` of ``total``."""

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

    ``built``, ``present`` and ``failed`` count distinct plans. ``failures`` are ``(path, reason)`` in the order of the
    items, for every path that has a failed plan: copies of one bad file are all there, and a path with two failed clips
    is there twice. ``failed_digests`` maps the digest of every failed plan to its reason; other clips of the same path
    may be well. ``damaged`` are ``(file, fault)`` of entries of the store that were not whole: they were set aside, and
    their plans are among ``built`` or ``failed`` unless another entry serves them.
    """

    built: int
    present: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    failed_digests: Mapping[str, str]
    damaged: tuple[tuple[str, str], ...] = ()


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

    A file that fails goes to the ledger and the rest goes on. What is already there, and has the size that it says, is
    not decoded, so a build that was interrupted continues where it was. What is cut off is set aside, named and decoded
    again.

    Args:
        items: media with their plans; equal digests are decoded once, from the first path that still has the content.
        store: is filled.
        ledger: names every failure.
        cache_config: workers, deadline and memory cap.
        on_progress: called in this thread after each distinct plan.
        pool: worker processes to use, which stay; else some are started and ended here.
        timed_out: digests that are not tried, because they ran into the deadline before; they count as failed.
        checksums: read every byte of what is there, and not only its size.

    Raises:
        StoreError: the store cannot be written; going on would only repeat it.
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
            note = partial(ledger.record_error, action="left out of the store", deadline=cache_config.deadline)
            jobs = {
                threads.submit(_decode_anywhere, workers, note, tuple(places[digest]), plan): digest
                for digest, plan in missing.items()
            }
            try:
                _collect(jobs, failed, advance)
            except BaseException:
                # Without this, leaving the block would first wait for everything that is still queued or under way.
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
    """The plans that no whole entry serves, and ``(file, fault)`` of the damaged entries, which are set aside."""
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
    """What is there, decoding nothing: plans that the store lacks are failures with reason ``not_cached``.

    What is there but cut off is lacking, and named; it stays where it is, for the store may be another's.
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


def _decode_anywhere(pool: DecodePool, note: Callable[..., None], paths: Sequence[str], plan: MediaPlan) -> Outcome:
    """Decode a plan from the first of its paths that still holds the content it was made for.

    A failure that lies in the content would be the same at every other path, and is not sought there again.

    Raises:
        MediaError: of the last path that was tried; all of them were given to ``note``.
    """
    for path in paths:
        try:
            return pool.decode(path, plan)
        except MediaError as error:
            note(error, subject=plan.digest)
            if error.reason not in _OF_THE_PLACE or path == paths[-1]:
                raise
    raise AssertionError("a plan without a path")
