"""A data source: all its rows, checked one by one, with a report of refused rows and the reasons."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from easyvideor1.config.paths import split_of
from easyvideor1.config.schema import CacheConfig, DataConfig, SourceConfig
from easyvideor1.data.bad_rows import BadRow, Policy, RowError, check_repairs, count_by_field, enforce, repaired
from easyvideor1.data.budgets import Budgets
from easyvideor1.data.check_cache import CheckCache, ReferenceCheck
from easyvideor1.data.event_files import RawRow
from easyvideor1.data.formats import Columns, Format
from easyvideor1.data.media import MediaCheck
from easyvideor1.data.row_files import ROW_SUFFIXES, media_base, read_source
from easyvideor1.data.rows import RowFormat, answer_column, read_sample, read_task
from easyvideor1.rewards.readers.geometry import Scale
from easyvideor1.tasks import canonical_task
from easyvideor1.types import ConfigError, DataError, Sample


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Counts of one source: ``rows == used + refused + filtered``.

    ``tasks`` counts the used rows of each task type, ``repaired`` those of each repair, and ``reasons`` the refused
    rows of each faulty field.
    """

    path: str
    rows: int
    used: int
    refused: int
    filtered: int
    tasks: Mapping[str, int]
    reasons: Mapping[str, int]
    bad: tuple[str, ...]
    repaired: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for ``data_report.json``; ``repaired`` only if a row was repaired."""
        values = {**asdict(self), "bad": list(self.bad)}
        return values if self.repaired else {name: value for name, value in values.items() if name != "repaired"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading a source: samples, bad rows, and the number of rows ``filtered`` by task type."""

    path: str
    samples: list[Sample]
    bad: list[BadRow]
    rows: int
    filtered: int = 0
    #: Sample id -> name of the repair of its reference.
    repaired: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> SourceReport:
        """The counts of the current ``samples`` and ``bad``."""
        return SourceReport(
            path=self.path,
            rows=self.rows,
            used=len(self.samples),
            refused=len(self.bad),
            filtered=self.filtered,
            tasks=dict(sorted(Counter(sample.task for sample in self.samples).items())),
            reasons=count_by_field(self.bad),
            bad=tuple(map(str, self.bad)),
            repaired=dict(Counter(self.repaired[one.id] for one in self.samples if one.id in self.repaired)),
        )

    def without(self, bad: Mapping[str, BadRow], policy: Policy) -> Loaded:
        """The same source without samples that were found bad later (sample id -> fault).

        Raises:
            DataError: ``policy`` is ``error`` and ``bad`` is not empty, or no sample is left.
        """
        kept = [sample for sample in self.samples if sample.id not in bad]
        refused = [bad[sample.id] for sample in self.samples if sample.id in bad]
        enforce(self.path, refused, rows=self.rows, used=len(kept), policy=policy)
        return replace(self, samples=kept, bad=[*self.bad, *refused])


def embedded_media(cache: CacheConfig) -> Path:
    """The directory for images embedded in rows: ``media`` in the directory of the frame cache."""
    return Path(cache.dir) / "media"


def distinct_stems(paths: Sequence[str]) -> list[str]:
    """The prefix of row ids of each source: the name of its file, with its split if one is named, and with directories
    where two names are equal.

    Paths are used as written: ids determine the order of sampling and must not depend on the working directory.
    """
    places = [split_of(path) for path in paths]
    ends = [f"@{split}" if split else "" for _, split in places]
    stems = [_stem(base) + end for (base, _), end in zip(places, ends, strict=True)]
    for depth in range(2, 8):
        again = {stem for stem in stems if stems.count(stem) > 1}
        if not again:
            break
        parts = [(*Path(os.path.normpath(base)).parts[:-1], _stem(base)) for base, _ in places]
        stems = [
            "/".join(part[-depth:]) + end if stem in again else stem
            for stem, part, end in zip(stems, parts, ends, strict=True)
        ]
    return stems


def _stem(path: str) -> str:
    """The name of a file without its suffix; the full name of a directory or data set."""
    place = Path(path).absolute()
    return place.stem if place.suffix in ROW_SUFFIXES else place.name


def shared_ids(loaded: Sequence[Loaded]) -> list[tuple[Sample, Sample]]:
    """Pairs of samples of different sources with the same id, which records cannot distinguish."""
    first: dict[str, Sample] = {}
    pairs = [(first.setdefault(sample.id, sample), sample) for source in loaded for sample in source.samples]
    return [(one, other) for one, other in pairs if one is not other]


def shared_ids_note(loaded: Sequence[Loaded]) -> str:
    """The message about ids that sources share; empty if there are none."""
    pairs = shared_ids(loaded)
    if not pairs:
        return ""
    (one, other), more = pairs[0], len(pairs) - 1
    also = f", and {more} more are shared" if more else ""
    return (
        f"{one.where} and {other.where} have the id {other.id!r}{also} - records cannot distinguish such rows; give "
        "each row its own id, or leave out problem_id"
    )


def load_source(
    source: SourceConfig,
    config: DataConfig,
    *,
    check_media: bool = True,
    coordinates: Scale | None = None,
    stem: str = "",
    embedded: Path | None = None,
    check_cache: CheckCache | None = None,
) -> Loaded:
    """Read and check every row of a source, and apply ``data.on_bad_row``.

    Args:
        source: The file, its media, and the task types to keep.
        config: Names of the columns and ``on_bad_row``.
        check_media: If False, media files are not opened and only their suffixes are checked; directories of frames
            are still listed.
        coordinates: ``rewards.coordinates``: the scale of references in rows that declare none.
        stem: prefix of the ids of rows without an id; the file name without its suffix if empty.
        embedded: where pictures that rows contain are written; ``media`` in the default frame cache if None.
        check_cache: checks that passed at earlier starts and are not made again; checks that pass now are added. The
            outcome does not depend on it.

    Raises:
        ConfigError: ``source.tasks`` names an unknown task type, or ``source.repair`` an unknown repair.
        DataError: the file cannot be used, rows are bad and ``on_bad_row`` is ``error``, or no row is left.
    """
    loaded = scan_source(
        source,
        config,
        check_media=check_media,
        coordinates=coordinates,
        stem=stem,
        embedded=embedded,
        check_cache=check_cache,
    )
    enforce(loaded.path, loaded.bad, rows=loaded.rows, used=len(loaded.samples), policy=config.on_bad_row)
    if not loaded.samples:
        raise DataError(
            f"{source.path}: none of the {loaded.rows} rows is of the tasks {', '.join(_wanted_tasks(source))} - "
            "correct the source's tasks"
        )
    return loaded


def scan_source(
    source: SourceConfig,
    config: DataConfig,
    *,
    check_media: bool = True,
    coordinates: Scale | None = None,
    stem: str = "",
    embedded: Path | None = None,
    check_cache: CheckCache | None = None,
) -> Loaded:
    """Read and check every row of a source, however many are bad, to inspect data.

    The arguments are those of ``load_source``.

    Raises:
        ConfigError: ``source.tasks`` names an unknown task type, or ``source.repair`` an unknown repair.
        DataError: the file cannot be used.
    """
    root = media_base(source) if source.media_root is None else Path(source.media_root)
    form = RowFormat(
        question=config.question_key,
        answer=config.answer_key,
        images=config.image_key,
        videos=config.video_key,
        root=os.path.abspath(root),  # noqa: PTH100 - Path.absolute would keep ".."
        stem=stem or distinct_stems([source.path])[0],
        budgets=Budgets.of(source, config),
        embedded=embedded or embedded_media(CacheConfig()),
        frames_fps=source.frames_fps,
    )
    columns = Columns(form.question, form.answer, form.images, form.videos)
    convert = Format(source.format, source.task, columns)
    wanted = _wanted_tasks(source)
    check_repairs(source.repair)
    check = MediaCheck(touch_files=check_media)
    # A user function may return objects whose text does not identify them.
    reference = ReferenceCheck(coordinates, None if ":" in source.format else check_cache)
    samples: dict[str, Sample] = {}
    bad: list[BadRow] = []
    repairs: dict[str, str] = {}
    rows = filtered = 0
    for placed in read_source(source):
        rows += 1
        line, where, row = placed.line, placed.where, placed.row
        try:
            row, repair = _repaired(row if isinstance(row, RowError) else convert(row), form, source)
            sample = _read(row, form, wanted, line, where, check, reference, repairing=bool(source.repair))
            if sample is None:
                filtered += 1
            elif sample.id in samples:
                what = f"{sample.id!r} is already the id of {samples[sample.id].where}"
                raise RowError("problem_id", what, "give every row its own id, or remove the column")
            else:
                samples[sample.id] = sample
                if repair:
                    repairs[sample.id] = repair
        except RowError as error:
            bad.append(error.at(where))
    if not rows:
        raise DataError(f"{source.path}: the file has no rows - write rows into it or remove it from the sources")
    return Loaded(source.path, list(samples.values()), bad, rows, filtered, repairs)


def _wanted_tasks(source: SourceConfig) -> tuple[str, ...]:
    try:
        return tuple(canonical_task(name) for name in source.tasks)
    except DataError as error:
        raise ConfigError(f"tasks of the source {source.path}: {error}") from None


def _repaired(row: RawRow, form: RowFormat, source: SourceConfig) -> tuple[RawRow, str]:
    """The row with its reference repaired, and the name of the repair; empty if nothing was repaired."""
    if not source.repair or isinstance(row, RowError):
        return row, ""
    column = answer_column(row, form)
    value, name = repaired(row.get(column), source.repair)
    return ({**row, column: value}, name) if name else (row, "")


def _read(
    row: RawRow,
    form: RowFormat,
    wanted: tuple[str, ...],
    line: str,
    where: str,
    check: MediaCheck,
    reference: ReferenceCheck,
    *,
    repairing: bool,
) -> Sample | None:
    """The sample of a row; ``None`` if its task type is not wanted, even if the row is bad.

    In a source with repairs, an error about a reference also names the id of the row.
    """
    if isinstance(row, RowError):
        raise row
    task = read_task(row)
    if wanted and task not in wanted:
        return None
    try:
        return read_sample(row, form, task=task, line=line, where=where, check=check, reference=reference)
    except RowError as error:
        if not repairing or error.field != answer_column(row, form) or row.get("problem_id") is None:
            raise
        raise RowError(error.field, f"of the row {row['problem_id']!r}: {error.what}", error.remedy) from None
