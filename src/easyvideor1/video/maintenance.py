"""Store maintenance: statistics of a frame store, garbage collection, and the files of kept features."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.video.entry import CorruptEntryError, Packing, open_entry
from easyvideor1.video.store import ABANDONED_AFTER, LOCKS_NAME, EntryFile, FrameStore, StoreError


@dataclass(frozen=True, slots=True)
class FileTotal:
    """A number of files and their bytes."""

    files: int = 0
    bytes: int = 0

    def plus(self, size: int) -> FileTotal:
        return FileTotal(self.files + 1, self.bytes + size)

    def minus(self, other: FileTotal) -> FileTotal:
        return FileTotal(self.files - other.files, self.bytes - other.bytes)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds.

    ``frames`` counts the decoded frames of all readable entries and ``pixel_bytes`` their bytes as uint8. ``by_codec``
    and ``by_kind`` (``image``, ``video``) divide the readable entries. ``unreadable`` entries have a damaged header.
    ``temporary`` files belong to running or killed writers; ``aside`` are damaged entries that were set aside.
    ``features`` are the features that ``cache.features`` keeps; they are no entries. ``oldest_use`` and ``newest_use``
    are in epoch seconds, None for an empty store.
    """

    entries: FileTotal
    by_codec: Mapping[Packing, FileTotal]
    by_kind: Mapping[str, FileTotal]
    frames: int
    pixel_bytes: int
    unreadable: FileTotal
    temporary: FileTotal
    aside: FileTotal
    features: FileTotal
    oldest_use: float | None
    newest_use: float | None


@dataclass(frozen=True, slots=True)
class GcReport:
    """What ``collect_garbage`` removed, or would remove, and what remains.

    ``removed`` and ``kept`` count entries of frames; ``features_removed`` and ``features_kept`` count kept features.
    ``busy`` counts files that a writer has locked, or that were used in the meantime.
    """

    removed: FileTotal
    features_removed: FileTotal
    leftovers: FileTotal
    kept: FileTotal
    features_kept: FileTotal
    busy: int


def store_stats(store: FrameStore) -> StoreStats:
    """Read the headers of all entries. Pixels are not read, and no use is recorded."""
    entries = unreadable = FileTotal()
    by_codec: dict[Packing, FileTotal] = {}
    by_kind: dict[str, FileTotal] = {}
    frames = pixel_bytes = 0
    uses: list[float] = []
    for file in store.files():
        entries = entries.plus(file.size)
        uses.append(file.used)
        try:
            entry = open_entry(file.path)
        except FileNotFoundError:
            continue
        except CorruptEntryError:
            unreadable = unreadable.plus(file.size)
            continue
        except OSError as error:
            raise StoreError(f"cannot read {file.path}: {error}") from error
        plan = entry.plan
        by_codec[entry.packing] = by_codec.get(entry.packing, FileTotal()).plus(file.size)
        by_kind[plan.kind] = by_kind.get(plan.kind, FileTotal()).plus(file.size)
        frames += len(plan.frame_indices)
        pixel_bytes += len(plan.frame_indices) * plan.height * plan.width * 3
    temporary = aside = FileTotal()
    for path, size, _ in _leftovers(store):
        if path.name.endswith(".corrupt"):
            aside = aside.plus(size)
        else:
            temporary = temporary.plus(size)
    return StoreStats(
        entries=entries,
        by_codec=by_codec,
        by_kind=by_kind,
        frames=frames,
        pixel_bytes=pixel_bytes,
        unreadable=unreadable,
        temporary=temporary,
        aside=aside,
        features=_sum(feature_files(store.directory / FEATURES_NAME)),
        oldest_use=min(uses, default=None),
        newest_use=max(uses, default=None),
    )


def collect_garbage(
    store: FrameStore,
    max_bytes: int | None = None,
    *,
    referenced: Collection[str] | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> GcReport:
    """Remove unreferenced entries, then the least recently used entries and features until the rest is small enough.

    Features are removed by last use only, since their names do not identify the plan. Entries that are being written or
    were used after they were listed stay. Frames that a reader has mapped stay valid on a local file system; a network
    file system does not guarantee this, so do not run it beside a training run on another machine. Temporary and
    set-aside files older than an hour are removed too.

    Args:
        store: the store to clean up.
        max_bytes: maximum size of all entries and features afterwards; no limit if None.
        referenced: digests to keep; all if None.
        dry_run: report what would be removed, and remove nothing.
        on_progress: called as ``(done, total)`` after each file.

    Raises:
        StoreError: a file cannot be removed.
    """
    entries = list(store.files())
    features = list(feature_files(store.directory / FEATURES_NAME))
    candidates: list[EntryFile | FeatureFile] = [
        file for file in entries if referenced is not None and file.digest not in referenced
    ]
    others: list[EntryFile | FeatureFile] = [
        *(file for file in entries if referenced is None or file.digest in referenced),
        *features,
    ]
    if max_bytes is not None:
        candidates += _least_used(others, max_bytes)
    removed_files: list[EntryFile | FeatureFile] = []
    for done, file in enumerate(candidates, 1):
        if dry_run or _remove(store, file):
            removed_files.append(file)
        if on_progress is not None:
            on_progress(done, len(candidates))
    if not dry_run:
        _remove_stale_locks(store)
    leftovers = FileTotal()
    for path, size, changed in _leftovers(store):
        if time.time() - changed > ABANDONED_AFTER:
            if not dry_run:
                _unlink(path)
            leftovers = leftovers.plus(size)
    removed = _sum(file for file in removed_files if isinstance(file, EntryFile))
    features_removed = _sum(file for file in removed_files if isinstance(file, FeatureFile))
    return GcReport(
        removed=removed,
        features_removed=features_removed,
        leftovers=leftovers,
        kept=_sum(entries).minus(removed),
        features_kept=_sum(features).minus(features_removed),
        busy=len(candidates) - len(removed_files),
    )


def _sum(files: Iterable[EntryFile | FeatureFile]) -> FileTotal:
    total = FileTotal()
    for file in files:
        total = total.plus(file.size)
    return total


def _least_used(files: Sequence[EntryFile | FeatureFile], max_bytes: int) -> list[EntryFile | FeatureFile]:
    """The files to remove, least recently used first, so that the rest has at most ``max_bytes``."""
    total = sum(file.size for file in files)
    chosen = []
    for file in sorted(files, key=lambda file: file.used):
        if total <= max_bytes:
            break
        chosen.append(file)
        total -= file.size
    return chosen


def _remove(store: FrameStore, file: EntryFile | FeatureFile) -> bool:
    """False if a writer has the lock, or if the file was used after it was listed."""
    if isinstance(file, FeatureFile):
        return _remove_unless_used(file, feature_file(file.path))
    with store.lock(file.digest, 0.0) as acquired:
        if not acquired:
            return False
        return _remove_unless_used(file, store.file_at(file.path))


def _remove_unless_used(file: EntryFile | FeatureFile, now: EntryFile | FeatureFile | None) -> bool:
    if now is None:
        return True  # another process removed it
    if now.used > file.used or now.size != file.size:
        return False
    _unlink(file.path)
    return True


def _remove_stale_locks(store: FrameStore) -> None:
    """A killed holder leaves its lock file behind. Taking the lock and releasing it removes the file."""
    for path in sorted((store.directory / LOCKS_NAME).glob("?" * 64)):
        with store.lock(path.name, 0.0):
            continue


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error}; run this as the owner of the store") from error


def _leftovers(store: FrameStore) -> Iterator[tuple[Path, int, float]]:
    """Path, bytes and time of change of temporary and set-aside files."""
    of_features = f"{FEATURES_NAME}/[0-9a-f][0-9a-f]"
    for pattern in (
        *("[0-9a-f][0-9a-f]/.*.tmp", "[0-9a-f][0-9a-f]/*.corrupt"),
        *(f"{of_features}/.*.tmp{FEATURES_SUFFIX}", f"{of_features}/*.corrupt"),
    ):
        for path in sorted(store.directory.glob(pattern)):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield path, status.st_size, status.st_mtime


#: The directory of features inside the cache directory.
FEATURES_NAME = "features"
FEATURES_SUFFIX = ".safetensors"

_NAME = re.compile(rf"(?P<key>[0-9a-f]{{64}}){re.escape(FEATURES_SUFFIX)}")


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """The features of one medium. ``size`` is in bytes; ``used`` is the time of its last use, in epoch seconds."""

    path: Path
    key: str
    size: int
    used: float


def feature_path(directory: Path, key: str) -> Path:
    """The path of the features of a key; ``directory`` holds all features."""
    return directory / key[:2] / f"{key}{FEATURES_SUFFIX}"


def feature_files(directory: Path) -> Iterator[FeatureFile]:
    """All feature files, in order of their keys."""
    for path in sorted(directory.glob(f"[0-9a-f][0-9a-f]/*{FEATURES_SUFFIX}")):
        if (found := feature_file(path)) is not None:
            yield found


def feature_file(path: Path) -> FeatureFile | None:
    """The feature file ``path``; None if it does not exist or has another name."""
    name = _NAME.fullmatch(path.name)
    if name is not None:
        with suppress(FileNotFoundError):  # removed by another process in between
            status = path.stat()
            return FeatureFile(path, name["key"], status.st_size, status.st_mtime)
    return None
