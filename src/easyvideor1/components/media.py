"""The media of a configuration: how they are planned, decoded ahead of time, and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from easyvideor1.config import ImageBudget, RunConfig, VideoBudget
from easyvideor1.config.media import changed
from easyvideor1.config.paths import looked_for
from easyvideor1.data import BadRow, Loaded
from easyvideor1.data.visual_tokens import VISUAL_MISMATCH, features_fault
from easyvideor1.families.checkpoint import checkpoint_fault
from easyvideor1.families.family import Family, configured_family
from easyvideor1.types import (
    BudgetChange,
    ConfigError,
    DataError,
    Frames,
    Geometry,
    MediaError,
    MediaInfo,
    MediaKind,
    MediaPlan,
    MediaRef,
)
from easyvideor1.video import (
    BuildProgress,
    BuildReport,
    FrameSource,
    FrameStore,
    HealthLedger,
    build,
    check_cached,
    plan,
)
from easyvideor1.video.derived import stored_plan
from easyvideor1.video.effects import plan_effects
from easyvideor1.video.media_files import FileVersion, is_settled, media_version
from easyvideor1.video.memory_cache import Prefetcher
from easyvideor1.video.part import part
from easyvideor1.video.sampling import clip_seconds

Progress = Callable[[int, int], None]

#: A rate of 29.97 is what is meant by 30.
_RATE_TOLERANCE = 1.01


@dataclass(frozen=True, slots=True)
class PlannedMedia:
    """Media with their plans, ``(path, reason)`` of those that could not be planned, and a note on low frame rates."""

    items: tuple[tuple[MediaRef, MediaPlan], ...]
    failures: tuple[tuple[str, str], ...]
    rate_note: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a plan: the version of the medium, and the digest of the plan."""

    version: FileVersion
    digest: str


@dataclass
class MediaComponents:
    """What the media of a configuration need, opened when first used.

    ``geometry_given`` takes the place of the checkpoint's, so that media can be planned without one; with
    ``retry_timeouts`` those that ran into ``cache.deadline`` before, by the ledger, are tried again.
    """

    config: RunConfig
    checkpoint: Path
    geometry_given: Geometry | None = None
    retry_timeouts: bool = False
    _known: dict[MediaRef, _Known] = field(default_factory=dict)
    _budget_texts: dict[tuple[MediaKind, BudgetChange | None], str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that decode, if any were started; what is used again is opened again."""
        if "prefetcher" in self.__dict__:
            self.prefetcher.stop()
        if "frames" in self.__dict__:
            self.frames.close()  # ends a decode that the prefetcher waits for
        if "prefetcher" in self.__dict__:
            self.prefetcher.close()
            self.frames.close()  # in case its last load had begun between the two

    @cached_property
    def family(self) -> Family:
        """The adapter of the checkpoint's model family; loads the tokenizer, not the weights.

        Raises:
            ConfigError: there is no checkpoint, or no adapter for it; the message says what to do about it.
        """
        return configured_family(self.config.model, self.located_checkpoint())

    @property
    def geometry(self) -> Geometry:
        """How media are cut.

        Raises:
            ConfigError: as ``family``.
        """
        return self.geometry_given or self.family.geometry

    @cached_property
    def store(self) -> FrameStore:
        cache = self.config.cache
        return FrameStore(cache.dir, cache.codec, keep_bytes=cache.keep_mb << 20, threads=cache.read_threads)

    @cached_property
    def ledger(self) -> HealthLedger:
        return HealthLedger(Path(self.config.cache.dir) / "health.jsonl")

    @cached_property
    def frames(self) -> FrameSource:
        return FrameSource(self.store, self.ledger, self.config.cache, retry_timeouts=self.retry_timeouts)

    @cached_property
    def prefetcher(self) -> Prefetcher:
        """Loads the frames of coming steps; ``load`` gives what it has."""
        cache = self.config.cache
        return Prefetcher(self.frames.load, max_bytes=cache.prefetch_mb << 20, workers=cache.workers)

    def load(self, ref: MediaRef, media_plan: MediaPlan) -> Frames:
        """Frames of a plan: from the store, or decoded under guard and stored; with effects, if the plan has any.

        Raises:
            MediaError: they cannot be had; ``visual_mismatch`` when they do not give one feature for each visual token
                and ``data.on_visual_mismatch`` is ``drop``.
            DataError: the same when it is ``stop``.
        """
        frames = self.prefetcher.load(ref, media_plan)
        fault = features_fault(ref, media_plan, frames, self.geometry)
        if fault is None:
            return frames
        if self.config.data.on_visual_mismatch == "drop":
            raise MediaError(fault, path=ref.path, reason=VISUAL_MISMATCH)
        raise DataError(f"{fault} - run `evr1 cache verify`, or set data.on_visual_mismatch to drop")

    def plan(self, ref: MediaRef) -> MediaPlan:
        """Frames, size and token count of a medium under the configuration's budget, with what the medium's source and
        row change of it; decodes nothing."""
        return self._plan_of(ref, self.frames.probe(ref.path))

    def _plan_of(self, ref: MediaRef, info: MediaInfo) -> MediaPlan:
        found = plan(info, self.budget(ref), self.geometry, start=ref.start, end=ref.end)
        found = plan_effects(found, ref.effects, self.geometry, info, clip_seconds(info, ref.start, ref.end))
        if not ref.still:
            return found
        place = 0 if ref.still == "first" else len(found.frame_indices) - 1
        return part(found, [place], self.geometry, "image")

    def budget(self, ref: MediaRef) -> ImageBudget | VideoBudget:
        """The budget that is in force for a medium; for the still of a clip, that of the clip.

        Raises:
            DataError: what the medium changes does not go with the configuration, as when a transform made it.
        """
        data = self.config.data
        try:
            still_image = ref.kind == "image" and not ref.still
            return changed(data.image, ref.budget) if still_image else changed(data.video, ref.budget)
        except ValueError as error:
            what, _, remedy = str(error).partition("; ")
            raise DataError(f"{ref.path}: its budget is impossible: {what} - {remedy}") from None

    def _budget_text(self, ref: MediaRef) -> str:
        key = ("video" if ref.still else ref.kind, ref.budget)
        found = self._budget_texts.get(key)
        if found is None:
            found = self._budget_texts[key] = self.budget(ref).model_dump_json()
        return found

    def _rate_note(self, rates: Mapping[MediaRef, float]) -> str:
        """The message about videos with fewer frames per second than requested; empty if there are none.

        They are planned at their own rate: no frame is read twice.
        """
        slow, wanted = [], 0.0
        for ref, rate in rates.items():
            budget = self.budget(ref)
            assert isinstance(budget, VideoBudget)
            if budget.frames is None and budget.fps > rate * _RATE_TOLERANCE:
                slow.append(rate)
                wanted = max(wanted, budget.fps)
        if not slow:
            return ""
        return (
            f"{len(slow)} of {len(rates)} videos have fewer than the requested {wanted:g} frames per second "
            f"(the lowest has {min(slow):.4g}); they are read at their own rate"
        )

    def fill_cache(self, loaded: Sequence[Loaded], on_progress: Progress | None = None) -> BuildReport:
        """Have the frames of all media of some sources ready, as ``cache.mode`` says.

        With ``prefer_cache`` what the store lacks is decoded; with ``cache_only`` that fails as ``not_cached``; with
        ``decode_only`` there is nothing to do. A file that fails, or that has gone since its row was checked, is in the
        ledger and the report; nothing is raised for it.
        """
        refs = list(dict.fromkeys(ref for source in loaded for sample in source.samples for ref in sample.media))
        planned = self.plan_media(refs)
        if self.config.cache.mode == "prefer_cache":
            return self.decode_planned(planned, _counts(on_progress))
        if on_progress is not None:
            on_progress(len(refs), len(refs))
        if self.config.cache.mode == "decode_only":
            return _with_unplanned(BuildReport(0, 0, 0, (), {}), planned)
        return _with_unplanned(check_cached(planned.items, self.store), planned)

    def plan_media(self, refs: Sequence[MediaRef], on_progress: Progress | None = None) -> PlannedMedia:
        """Plan media: what the store needs for them. Those that cannot be probed go to the ledger and among the
        failures; nothing is raised."""
        _ = self.geometry  # before files are read, which may take long: this fails at once
        items: list[tuple[MediaRef, MediaPlan]] = []
        failures: list[tuple[str, str]] = []
        rates: dict[MediaRef, float] = {}
        with self._probing(refs):
            for done, ref in enumerate(refs, 1):
                try:
                    found, fps = self._plan_or_record(ref)
                    items.append((ref, found))
                    if ref.kind == "video":
                        rates[ref] = fps
                except MediaError as error:
                    failures.append((ref.path, error.reason))
                if on_progress is not None:
                    on_progress(done, len(refs))
        return PlannedMedia(tuple(items), tuple(failures), self._rate_note(rates))

    def _plan_or_record(self, ref: MediaRef) -> tuple[MediaPlan, float]:
        """The plan of a medium and its frames per second; errors are recorded in the ledger."""
        version: FileVersion | None = None
        with suppress(MediaError):  # the probe says what is wrong
            version = media_version(ref.path)
        info = self.frames.probe(ref.path)  # notes in the ledger itself what it cannot probe
        try:
            found = self._plan_of(ref, info)
        except MediaError as error:
            self.ledger.record_error(error, "left out of the cache")
            raise
        if version is not None and is_settled(version):
            self._known[ref] = _Known(version, stored_plan(found).digest)
        return stored_plan(found), info.fps

    def decode_planned(
        self,
        planned: PlannedMedia,
        on_progress: Callable[[BuildProgress], None] | None = None,
        *,
        checksums: bool = False,
    ) -> BuildReport:
        """Decode what the store lacks; the report counts and names what could not be planned among its failures.

        With ``checksums`` every byte of what is there is checked, and not its size alone.
        """
        report = build(
            planned.items,
            self.store,
            self.ledger,
            self.config.cache,
            on_progress,
            pool=self.frames.pool,
            timed_out=self.frames.timed_out,
            checksums=checksums,
        )
        return _with_unplanned(report, planned)

    def without_failed(self, loaded: Sequence[Loaded], report: BuildReport) -> list[Loaded]:
        """The sources less the samples with a medium that ``report`` could not decode, or that is gone since.

        One bad clip of a long video costs the rows of that clip only.

        Raises:
            DataError: as ``data.on_bad_row`` says.
        """
        kept = []
        for source in loaded:
            bad = {}
            for sample in source.samples:
                for ref in sample.media:
                    if (reason := self._failure(ref, report)) is not None:
                        what, remedy = f"{ref.path} cannot be decoded: {reason}", "replace the file or remove the row"
                        if reason == "timeout":
                            remedy = "raise cache.deadline, try again with evr1 cache build, or remove the row"
                        if reason == "not_cached":
                            what = f"the frames of {ref.path} are not in {self.store.directory}"
                            remedy = "run evr1 cache build, or set cache.mode=prefer_cache"
                        bad[sample.id] = BadRow(sample.where, self._column(ref.kind), what, remedy)
            kept.append(source.without(bad, self.config.data.on_bad_row))
        return kept

    def _failure(self, ref: MediaRef, report: BuildReport) -> str | None:
        try:
            known = self._still_known(ref)
            return report.failed_digests.get(known.digest if known else stored_plan(self.plan(ref)).digest)
        except MediaError as error:
            return error.reason

    def _still_known(self, ref: MediaRef) -> _Known | None:
        """What was kept of a medium, if it is as it was then; its probe need not be recalled for that."""
        known = self._known.get(ref)
        return known if known is not None and known.version == media_version(ref.path) else None

    @contextmanager
    def _probing(self, refs: Iterable[MediaRef]) -> Iterator[None]:
        """Probe files ahead of their use in the block; an error ends that at once."""
        self.frames.probe_ahead(ref.path for ref in refs)
        try:
            yield
        except BaseException:
            self.frames.close()  # else what is queued would be probed before this process can end
            raise

    def _column(self, kind: str) -> str:
        return self.config.data.image_key if kind == "image" else self.config.data.video_key

    def located_checkpoint(self) -> Path:
        """The directory of the checkpoint.

        Raises:
            ConfigError: there is none; the message says where it was looked for, and what to do.
        """
        if self.checkpoint == Path():
            raise ConfigError("model.path is not set; give the directory of a Hugging Face checkpoint")
        if not (self.checkpoint / "config.json").is_file():
            asked = str(self.checkpoint)
            if self.checkpoint == Path(self.config.model.path):
                raise ConfigError(checkpoint_fault(asked, looked_for(self.config, self.config.model.path)))
            raise ConfigError(checkpoint_fault(asked, key="checkpoint"))
        return self.checkpoint


def _counts(on_progress: Progress | None) -> Callable[[BuildProgress], None] | None:
    return None if on_progress is None else lambda build: on_progress(build.done, build.total)


def _with_unplanned(report: BuildReport, planned: PlannedMedia) -> BuildReport:
    failed = len(planned.failures) + report.failed
    failures = (*planned.failures, *report.failures)
    return replace(report, failed=failed, failures=failures, rate_note=planned.rate_note)
