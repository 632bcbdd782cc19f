"""A release as downloaded becomes the project's rows, with a report of what is refused, repaired and missing.

::

    OUT/                      evr1/ below the release, by default
        NAME/rows.jsonl       one question a line; media by path below the release, or absolute
        NAME/benchmark.json   sealed: what was read, refused, repaired and found, and digests of the annotations
        media/ARCHIVE/        what was unpacked, for all benchmarks of this release
        archives.json         which archives were unpacked
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from easyvideor1.benchmarks.archives import find_archives
from easyvideor1.benchmarks.benchmark import Benchmark, Layout, Refused
from easyvideor1.benchmarks.media_index import MediaIndex, shared_names
from easyvideor1.benchmarks.question import Question, QuestionError
from easyvideor1.benchmarks.release import OUT, Release
from easyvideor1.benchmarks.subtitles import FILE as SUBTITLES
from easyvideor1.benchmarks.subtitles import Subtitles
from easyvideor1.benchmarks.unpacking import Advance, Unpacked, unpack, unpacked_places
from easyvideor1.config.schema import RunConfig
from easyvideor1.data import scan_source
from easyvideor1.files import file_digest, is_sealed, json_bytes, read_json, seal, write_atomic, write_json
from easyvideor1.types import DataError

ROWS, REPORT = "rows.jsonl", "benchmark.json"
_MEDIA_KEYS = ("video", "frames", "path", "image")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What came of a release.

    ``annotations`` are the files that were read, with their SHA-256. ``expected`` is the number of rows that the
    benchmark is known to have. ``questions`` are the rows written, and ``videos`` the different media that they name.
    ``refused`` are rows that cannot be used, by id; ``repaired`` the ids that a rule mended, by rule; ``missing`` the
    media that are not there, with the reason and the ids of their questions.
    """

    benchmark: str
    version: str
    title: str
    layout: str
    release: str
    annotations: Mapping[str, str]
    expected: int | None
    questions: int
    refused: Mapping[str, str]
    repaired: Mapping[str, Sequence[str]]
    videos: int
    missing: Mapping[str, Mapping[str, Any]]
    subtitles: int = 0
    without_subtitles: int = 0
    unpacked: Unpacked = field(default_factory=Unpacked)

    @property
    def found(self) -> int:
        """Media that are there."""
        return self.videos - len(self.missing)

    def to_json(self) -> dict[str, Any]:
        """The content of ``benchmark.json``, unsealed."""
        return {**asdict(self), "found": self.found}


def examine(
    benchmark: Benchmark,
    release: Path,
    out: Path | None = None,
    *,
    unpacked: Unpacked | None = None,
) -> tuple[list[Row], Preparation]:
    """The rows of a release and what there is to say of them; nothing is written.

    Args:
        benchmark: one with layouts.
        release: directory of the release.
        out: where ``prepare`` unpacks; ``release/evr1`` if None.
        unpacked: what was unpacked before.

    Raises:
        DataError: there is no such directory, the annotations are not there or cannot be read, or no row can be
            used.
    """
    if not release.is_dir():
        raise DataError(f"{release}: no such directory - give the directory that holds {benchmark.title}")
    out = out or release / OUT
    source = Release(release, unpacked_places(out))
    questions, refused, repaired = _questions(benchmark, source)
    layout = benchmark.layout(source)
    assert layout is not None  # else nothing was read
    index = MediaIndex([release, *source.unpacked[:1]], without=out)
    located = _Located(benchmark, questions, index, layout, release)
    refused |= located.refused
    bad = _unusable(benchmark, located.rows)
    refused |= {_unused(located.rows[place]["problem_id"], refused): reason for place, reason in bad.items()}
    rows = [row for place, row in enumerate(located.rows) if place not in bad]
    if not rows:
        first = next(iter(refused.items()), ("", "no rows"))
        raise DataError(f"{release}: none of {len(refused)} rows of {benchmark.title} can be used: {': '.join(first)}")
    files = [path for patterns in (layout.files, *layout.beside.values()) for path in source.files(*patterns)]
    return rows, Preparation(
        benchmark.name,
        benchmark.version,
        benchmark.title,
        layout.name,
        str(release.absolute()),
        {_relative(path, release): file_digest(path) for path in files},
        benchmark.count,
        len(rows),
        refused,
        repaired,
        len(located.known),
        located.missing,
        located.subtitles,
        located.without_subtitles,
        unpacked or Unpacked(),
    )


def prepare(
    benchmark: Benchmark,
    release: Path,
    out: Path | None = None,
    *,
    extract: bool = True,
    advance: Advance | None = None,
) -> Preparation:
    """Unpack a release, and write its rows and their report into ``out/NAME``; ``out`` is ``release/evr1`` by default.

    A release in which nothing is missing is not unpacked: somebody has done it by hand.

    Everything is written atomically; a second call unpacks only what is new.

    Raises:
        DataError: as ``examine``, or there is not enough disk space.
    """
    if not release.is_dir():
        raise DataError(f"{release}: no such directory - give the directory that holds {benchmark.title}")
    out = out or release / OUT
    own = out / benchmark.name
    unpacked = _known_unpacked(own)
    if extract and not _is_complete(benchmark, release, out):
        unpacked = unpack_release(release, out, advance)
    rows, report = examine(benchmark, release, out, unpacked=unpacked)
    _write(own, rows, report)
    return report


def _write(own: Path, rows: Sequence[Row], report: Preparation) -> None:
    content = b"".join(map(json_bytes, rows))
    if not (own / ROWS).is_file() or (own / ROWS).read_bytes() != content:
        write_atomic(own / ROWS, content)
    write_json(own / REPORT, seal({**report.to_json(), "rows": file_digest(own / ROWS)}))


def _is_complete(benchmark: Benchmark, release: Path, out: Path) -> bool:
    try:
        _, report = examine(benchmark, release, out)
    except DataError:
        return False
    return not report.missing and not report.without_subtitles


def unpack_release(release: Path, out: Path, advance: Advance | None = None) -> Unpacked:
    """Unpack all archives of a release, and archives in them, into ``out/media``."""
    done = Unpacked()
    faults: dict[str, str] = {}
    for place in (release, out / "media", out / "media"):  # an archive may hold archives, and these parts of others
        files = MediaIndex([place], without=out).files if place.is_dir() else []
        archives, unusable = find_archives(place, files)
        if place != release and not archives:
            break
        done = unpack(archives, out, advance)
        faults |= {**unusable, **done.unusable}
    return replace(done, unusable=faults)


def _known_unpacked(own: Path) -> Unpacked:
    """What an earlier preparation says of its archives."""
    try:
        return Unpacked(**load_report(own)["unpacked"])
    except DataError:
        return Unpacked()


def load_report(own: Path) -> dict[str, Any]:
    """The content of ``benchmark.json``.

    Raises:
        DataError: it is missing or damaged.
    """
    found = read_json(own / REPORT)
    if not is_sealed(found):
        raise DataError(f"{own / REPORT}: is not what was written (its checksum differs); prepare the release again")
    return found


def release_words(benchmark: Benchmark) -> str:
    """What an opened benchmark lacks of its release: questions, rows that are refused, media; empty if nothing does.

    Raises:
        DataError: the report of its preparation is missing or damaged.
    """
    if not benchmark.layouts or not benchmark.rows:
        return ""
    own = Path(benchmark.rows).parent
    report = load_report(own)
    count, expected = report["questions"], report["expected"]
    words = [f"questions {count:,} of {expected:,}"] if expected not in (None, count) else []
    words += [f"refused {len(report['refused']):,}"] if report["refused"] else []
    words += [f"media found {report['found']:,} of {report['videos']:,}"] if report["missing"] else []
    return f"release: {', '.join(words)} ({own / REPORT})" if words else ""


def _questions(benchmark: Benchmark, source: Release) -> tuple[list[Question], dict[str, str], dict[str, list[str]]]:
    """The questions; refused rows by id; repaired ids by rule."""
    questions: list[Question] = []
    refused: dict[str, str] = {}
    repaired: defaultdict[str, list[str]] = defaultdict(list)
    for one in benchmark.read(source):
        if isinstance(one, Refused):
            refused[_unused(one.id, refused)] = one.reason
            continue
        for rule in filter(None, one.repair.split(", ")):
            repaired[rule].append(one.id)
        questions.append(one)
    return questions, refused, dict(repaired)


def _unused(name: str, taken: Mapping[str, str]) -> str:
    """A name that is not taken."""
    return next(
        each for number in range(1, len(taken) + 2) if (each := f"{name}#{number}" if number > 1 else name) not in taken
    )


class _Located:
    """Rows with their media where they are, and the media that are not there."""

    def __init__(
        self, benchmark: Benchmark, questions: Sequence[Question], index: MediaIndex, layout: Layout, release: Path
    ) -> None:
        self._index, self._layout, self._release = index, layout, release
        self._shared = shared_names(name for one in questions for name in _paths([one.video, list(one.images)]))
        self.known: dict[str, str] = {}
        self.missing: dict[str, dict[str, Any]] = {}
        self.subtitles = self.without_subtitles = 0
        self.rows: list[Row] = []
        self.refused: dict[str, str] = {}
        for one in questions:
            try:
                self.rows.append(self._moved(one).row(benchmark.name))
            except QuestionError as error:
                self.refused[one.id] = str(error)

    def _moved(self, one: Question) -> Question:
        columns = dict(one.columns)
        if named := columns.get(SUBTITLES):
            found = self._index.find(str(named), (*self._layout.media, ".")).path
            self.subtitles += found is not None
            self.without_subtitles += found is None
            columns[SUBTITLES] = "" if found is None else _relative(found, self._release)

        def place(wanted: str) -> str:
            return self._place(wanted, one.id)

        images = tuple(_changed(image, place) for image in one.images)
        return replace(one, video=_changed(one.video, place), images=images, columns=columns)

    def _place(self, wanted: str, id_: str) -> str:
        """Where a medium is, or would be."""
        if wanted not in self.known:
            named = PurePosixPath(wanted.replace("\\", "/"))
            found = self._index.find(wanted, self._layout.media, by_name=named.stem not in self._shared)
            if found.path is None:
                self.missing[wanted] = {"reason": found.reason, "questions": []}
            inside = [part for part in named.parts if part not in ("/", "..")]  # never a file outside the release
            place = found.path or self._release.joinpath(self._layout.media[0], *inside)
            self.known[wanted] = _relative(place, self._release)
        if wanted in self.missing:
            self.missing[wanted]["questions"].append(id_)
        return self.known[wanted]


def _changed(entry: Any, change: Callable[[str], str]) -> Any:
    """An entry of media with every path changed; media that are in the row itself stay."""
    if isinstance(entry, str):
        return change(entry) if entry and not entry.startswith("data:") else entry
    if isinstance(entry, Mapping):
        return {key: _changed(value, change) if key in _MEDIA_KEYS else value for key, value in entry.items()}
    return [_changed(each, change) for each in entry] if isinstance(entry, list | tuple) else entry


def _paths(entry: Any) -> Iterator[str]:
    found: list[str] = []
    _changed(entry, lambda path: found.append(path) or path)  # type: ignore[func-returns-value]
    yield from found


def _relative(path: Path, release: Path) -> str:
    """A path below the release as it is there; any other as an absolute one."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a link stays where it is
    base = release.absolute()
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)


def _unusable(benchmark: Benchmark, rows: Sequence[Row]) -> dict[int, str]:
    """Places of the rows that the format of rows refuses, with the reason; media files are not looked at."""
    if not rows:
        return {}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / ROWS
        path.write_bytes(b"".join(map(json_bytes, rows)))
        config = replace(benchmark, rows=str(path), media_root=place).configure(RunConfig())
        found = scan_source(config.data.test[0], config.data, check_media=False, embedded=Path(place))
        return {int(bad.where.rpartition(":")[2]) - 1: f"{bad.field}: {bad.what}" for bad in found.bad}


def _is_current(benchmark: Benchmark, own: Path, release: Path) -> bool:
    """Whether a preparation is of this version and release, complete, and of the annotations that are there now."""
    try:
        report = load_report(own)
        return (
            (report["benchmark"], report["version"]) == (benchmark.name, benchmark.version)
            and report["release"] == str(release.absolute())
            and not report["missing"]
            and report["rows"] == file_digest(own / ROWS)
            and all(file_digest(release / name) == digest for name, digest in report["annotations"].items())
        )
    except (DataError, OSError, KeyError):
        return False


def opened(
    benchmark: Benchmark, location: Path, workspace: Path | None = None, *, scratch: Path | None = None
) -> Benchmark:
    """A benchmark with the rows of a release, or of a directory that ``prepare`` wrote.

    What is not prepared, or not as it is now, is read again; nothing is unpacked.

    Args:
        benchmark: one with layouts.
        location: the release, or the directory of its preparation.
        workspace: where rows go that were not prepared before, if the release cannot be written.
        scratch: where rows go that are read again; nothing is written anywhere else then.

    Raises:
        DataError: as ``examine``.
    """
    release, out = _places(benchmark, location)
    if not out.exists() and workspace is not None and release.is_dir() and not os.access(release, os.W_OK):
        out = workspace / hashlib.sha256(str(release.absolute()).encode()).hexdigest()[:8]
    own = out / benchmark.name
    if not _is_current(benchmark, own, release):
        if scratch is None:
            prepare(benchmark, release, out, extract=False)
        else:
            rows, report = examine(benchmark, release, out, unpacked=_known_unpacked(own))
            own = scratch / benchmark.name
            _write(own, rows, report)
    mode: Subtitles = benchmark.subtitles or ("sampled" if load_report(own)["subtitles"] else "")
    return replace(benchmark, rows=str(own / ROWS), media_root=str(release), subtitles=mode)


def _places(benchmark: Benchmark, location: Path) -> tuple[Path, Path]:
    """The release and the directory of its preparations; ``location`` is either of them."""
    own = location / benchmark.name / REPORT
    reports = [own] if own.is_file() else sorted(location.glob(f"*/{REPORT}"))
    if not reports:
        return location, location / OUT
    # Below its release it may have moved together with it.
    return (location.parent if location.name == OUT else Path(load_report(reports[0].parent)["release"])), location
