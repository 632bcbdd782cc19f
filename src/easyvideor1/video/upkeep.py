"""Looking after a store: what is in it, and making it smaller."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.video.codecs import Packing
from easyvideor1.video.entry import CorruptEntryError, open_entry
from easyvideor1.video.store import ABANDONED_AFTER, EntryFile, FrameStore, StoreError


@dataclass(frozen=True, slots=True)
class Sum:
    """A number of files and their bytes."""

    files: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Sum:
        return Sum(self.files + 1, self.bytes + size)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds.

    ``frames`` and ``pixel_bytes`` are of all readable entries: decoded frames, and their bytes as uint8. ``by_codec``
    and ``by_kind`` (``image``, ``video``) divide the readable entries. ``unreadable`` have a damaged header.
    ``temporary`` files are of writers that write, or were killed; ``aside`` are damaged entries that were set aside.
    ``oldest_use`` and ``newest_use`` are in epoch seconds, None for an empty store.
    """

    entries: Sum
    by_codec: Mapping[Packing, Sum]
    by_kind: Mapping[str, Sum]
    frames: int
    pixel_bytes: int
    unreadable: Sum
    temporary: Sum
    aside: Sum
    oldest_use: float | None
    newest_use: float | None


@dataclass(frozen=True, slots=True)
class GcReport:
    """What ``collect`` removed, or would remove, and what is left. ``busy`` entries were wanted by a writer."""

    removed: Sum
    leftovers: Sum
    kept: Sum
    busy: int


def survey(store: FrameStore) -> StoreStats:
    """Read the headers of all entries; pixels are not read, and no use is noted."""
    entries = unreadable = Sum()
    by_codec: dict[Packing, Sum] = {}
    by_kind: dict[str, Sum] = {}
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
        by_codec[entry.packing] = by_codec.get(entry.packing, Sum()).plus(file.size)
        by_kind[plan.kind] = by_kind.get(plan.kind, Sum()).plus(file.size)
        frames += len(plan.frame_indices)
        pixel_bytes += len(plan.frame_indices) * plan.height * plan.width * 3
    temporary = aside = Sum()
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
        oldest_use=min(uses, default=None),
        newest_use=max(uses, default=None),
    )


def collect(
    store: FrameStore,
    max_bytes: int | None = None,
    *,
    referenced: Collection[str] | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> GcReport:
    """Remove entries: those that nothing refers to, then the least recently used ones until the rest is small enough.

    An entry that is being written is left alone, and one that was used since it was listed is too. Frames that a reader
    has mapped stay valid on a local file system until it lets go of them; a network file system does not promise that,
    so do not run this beside a training run on another machine. Temporary and set-aside files that are older than an
    hour go as well.

    Args:
        store: is made smaller.
        max_bytes: bytes that all entries together may have afterwards; no limit if None.
        referenced: digests to keep; all if None.
        dry_run: only tell.
        on_progress: ``(done, total)`` after each entry that was looked at.

    Raises:
        StoreError: a file may not be removed.
    """
    files = list(store.files())
    total = sum(file.size for file in files)
    doomed = [file for file in files if referenced is not None and file.digest not in referenced]
    spared = {file.path for file in files} - {file.path for file in doomed}
    total -= sum(file.size for file in doomed)
    if max_bytes is not None:
        for file in sorted((file for file in files if file.path in spared), key=lambda file: file.used):
            if total <= max_bytes:
                break
            doomed.append(file)
            total -= file.size
    removed, busy = Sum(), 0
    for done, file in enumerate(doomed, 1):
        if dry_run or _remove(store, file):
            removed = removed.plus(file.size)
        else:
            busy += 1
        if on_progress is not None:
            on_progress(done, len(doomed))
    if not dry_run:
        _drop_claims(store)
    leftovers = Sum()
    for path, size, changed in _leftovers(store):
        if time.time() - changed > ABANDONED_AFTER:
            if not dry_run:
                _unlink(path)
            leftovers = leftovers.plus(size)
    kept = Sum(len(files) - removed.files, sum(file.size for file in files) - removed.bytes)
    return GcReport(removed, leftovers, kept, busy)


def _remove(store: FrameStore, file: EntryFile) -> bool:
    """False when a writer is at it, or it was used since it was listed."""
    with store.claim(file.digest, 0.0) as mine:
        if not mine:
            return False
        now = store.file_at(file.path)
        if now is None:
            return True  # somebody else removed it
        if now.used > file.used or now.size != file.size:
            return False
        _unlink(file.path)
        return True


def _drop_claims(store: FrameStore) -> None:
    """Locks of holders that were killed stay behind as empty files; holding and ending one removes it."""
    for path in sorted((store.directory / "claims").glob("?" * 64)):
        with store.claim(path.name, 0.0):
            continue


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error}; run this as the owner of the store") from error


def _leftovers(store: FrameStore) -> Iterator[tuple[Path, int, float]]:
    """Path, bytes and time of change of temporary and set-aside files."""
    for pattern in ("[0-9a-f][0-9a-f]/.*.tmp", "[0-9a-f][0-9a-f]/*.corrupt"):
        for path in sorted(store.directory.glob(pattern)):
            with suppress(FileNotFoundError):
                status = path.stat()
                yield path, status.st_size, status.st_mtime
