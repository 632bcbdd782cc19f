"""The frame store: decoded frames on disk, keyed by the digest of their plan."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from easyvideor1.files import write_atomic
from easyvideor1.locks import file_lock, locks_unsupported
from easyvideor1.types import EasyVideoError, Frames, MediaPlan
from easyvideor1.video.entry import (
    EXACT_SUFFIX,
    LOSSY,
    LOSSY_SUFFIX,
    Codec,
    CorruptEntryError,
    Entry,
    check_size,
    open_entry,
    suffix_of,
    write_entry,
)
from easyvideor1.video.health import HealthLedger
from easyvideor1.video.memory_cache import MemoryCache

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(rf"(?P<digest>[0-9a-f]{{64}})(?P<suffix>{re.escape(LOSSY_SUFFIX)}|{re.escape(EXACT_SUFFIX)})")

#: A temporary file older than this many seconds belongs to a killed writer.
ABANDONED_AFTER = 3600.0
#: The last use of an entry is recorded with this resolution in seconds.
USE_INTERVAL = 3600.0
#: The directory of lock files, as existing stores have it.
LOCKS_NAME = "claims"
_Version = tuple[int, int, int]


class StoreError(EasyVideoError):
    """The store cannot be read or written (disk full, no permission); the media are not at fault."""


@dataclass(frozen=True, slots=True)
class EntryFile:
    """One file of the store. ``size`` is in bytes; ``used`` is the time of its last known use, in epoch seconds."""

    path: Path
    digest: str
    lossy: bool
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class EntryCheck:
    """Whether an intact entry serves a plan, and ``(path, fault)`` of each damaged file that was found."""

    there: bool
    damaged: tuple[tuple[Path, str], ...]


class FrameStore:
    """A directory of entries ``<dir>/<digest[:2]>/<digest>*.safetensors``, safe for any number of processes.

    Writes are atomic. Entries are verified when read, once per process and file version; a damaged entry is renamed to
    ``*.corrupt``, recorded in the ledger, and counts as missing.

    Exact entries (``raw``, ``zstd``) and nearly exact ones (``jpeg``) of one plan have files of their own. A plan is
    served by any exact entry, whatever packed it; a nearly exact one serves only a store whose codec is ``jpeg``, and
    only when there is no exact one. A digest, in place of a plan, stands for whatever there is, the exact entry first:
    people use digests to look at a store; training uses plans.

    Args:
        directory: created when first written.
        codec: how ``put`` packs pixels, and whether lossy entries may be read.
        ledger: where damaged entries are recorded; ``<dir>/health.jsonl`` if None.
        keep_bytes: bytes of recently read pixels to keep in memory, so that samples of one video share a read; mapped
            entries count too.
        threads: threads to unpack one packed entry.
    """

    def __init__(
        self,
        directory: str | Path,
        codec: Codec = "raw",
        ledger: HealthLedger | None = None,
        *,
        keep_bytes: int = 0,
        threads: int = 1,
    ) -> None:
        self.directory = Path(directory)
        self.codec: Codec = codec
        self.ledger = ledger if ledger is not None else HealthLedger(self.directory / "health.jsonl")
        self._threads = threads
        self._unpackers: ThreadPoolExecutor | None = None
        self._memory = MemoryCache(keep_bytes)
        self._verified: dict[Path, _Version] = {}
        self._lock = threading.Lock()

    def path_of(self, digest: str, *, lossy: bool = False) -> Path:
        """The path of the exact or the lossy entry of a digest, whether or not it exists."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a plan digest (64 lower-case hex digits)")
        return self.directory / digest[:2] / f"{digest}{LOSSY_SUFFIX if lossy else EXACT_SUFFIX}"

    def files(self) -> Iterator[EntryFile]:
        """All entry files, in order of their digests."""
        for path in sorted(self.directory.glob(f"[0-9a-f][0-9a-f]/*{EXACT_SUFFIX}")):
            if (found := self.file_at(path)) is not None:
                yield found

    def file_at(self, path: Path) -> EntryFile | None:
        """The entry file ``path`` of this store; None if it does not exist or has another name."""
        name = _ENTRY.fullmatch(path.name)
        if name is None:
            return None
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        lossy = name["suffix"] == LOSSY_SUFFIX
        return EntryFile(path, name["digest"], lossy, status.st_size, _last_use(status))

    def entries(self) -> Iterator[str]:
        """Digests of all entries, in order."""
        previous = None
        for file in self.files():
            if file.digest != previous:
                yield file.digest
            previous = file.digest

    def get(self, plan: MediaPlan | str) -> Frames | None:
        """The frames of a plan or a digest, or None. Pixels are read-only; ``raw`` pixels are the mapped file.

        The frames carry the requested plan; for a digest, the stored plan, which agrees in everything that determines
        pixels.

        Raises:
            StoreError: the entry cannot be read, or it is damaged and cannot be set aside.
        """
        for path in self._candidates(plan):
            found = self._read(path)
            if found is not None:
                return Frames(pixels=found.pixels, plan=plan) if isinstance(plan, MediaPlan) else found
        return None

    def look(self, digest: str) -> Frames | None:
        """Like ``get``, for those who only look: no use is recorded, and a damaged entry stays where it is.

        Raises:
            StoreError: the entry is damaged or cannot be read.
        """
        for path in self._candidates(digest):
            try:
                entry = open_entry(path)
                self._verify_once(path, entry)
                return Frames(pixels=entry.pixels(self._run), plan=entry.plan)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except CorruptEntryError as error:
                raise StoreError(f"{path} is damaged: {error}; the next run that needs it makes it again") from error
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error}") from error
        return None

    def touch(self, plan: MediaPlan | str) -> bool:
        """Whether an entry that serves exists, intact or not; marks it as used now."""
        for path in self._candidates(plan):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error}") from error
            _record_use(path, status)
            return True
        return False

    def check_entry(self, plan: MediaPlan, *, checksums: bool = False, set_aside: bool = True) -> EntryCheck:
        """Like ``touch``, but only for intact entries: damaged files are set aside, recorded and reported.

        Args:
            plan: the plan of the entry.
            checksums: check every byte, not only sizes.
            set_aside: whether to set damaged entries aside and record the use of intact ones.

        Raises:
            StoreError: an entry cannot be read, or is damaged and cannot be set aside.
        """
        damaged: list[tuple[Path, str]] = []
        for path in self._candidates(plan):
            try:
                status = path.stat()
                if checksums:
                    open_entry(path).check()
                else:
                    check_size(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except CorruptEntryError as error:
                damaged.append((path, str(error)))
                if set_aside:
                    self._set_aside(path, str(error))
                continue
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error}") from error
            if set_aside:
                _record_use(path, status)
            return EntryCheck(True, tuple(damaged))
        return EntryCheck(False, tuple(damaged))

    def verify(self, digest: str) -> bool:
        """Check every byte of all entries of a digest, even if checked before; their use is not recorded.

        Returns:
            False if there is no entry, or if one was set aside.
        """
        paths = [path for path in self._candidates(digest) if path.exists()]
        sound = [path for path in paths if self._read(path, afresh=True) is not None]
        return bool(paths) and len(sound) == len(paths)

    def put(self, frames: Frames) -> None:
        """Write an entry; replaces an exact or lossy entry of the same digest.

        Raises:
            StoreError: it cannot be written; no file is left.
        """
        plan = frames.plan
        path = self.path_of(plan.digest, lossy=suffix_of(self.codec, plan) == LOSSY_SUFFIX)
        try:
            write_atomic(path, lambda file: write_entry(file, frames, self.codec))
        except OSError as error:
            raise _cannot_write(path, error) from error

    @contextmanager
    def lock(self, digest: str, timeout: float) -> Iterator[bool]:
        """Lock an entry while it is made; yields False if another process still holds the lock after ``timeout`` s.

        It also yields False where the file system has no locks. Two processes then do the same work, which is harmless.
        """
        path = self.directory / LOCKS_NAME / digest
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                acquired = stack.enter_context(file_lock(path, timeout))
            except OSError as error:
                if not locks_unsupported(error):
                    raise _cannot_write(path, error) from error
                acquired = False
            yield acquired

    def sweep(self) -> int:
        """Remove temporary files of killed writers; returns their number."""
        removed = 0
        for path in self.directory.glob("[0-9a-f][0-9a-f]/.*.tmp"):
            with suppress(FileNotFoundError):  # another process is sweeping too
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    path.unlink()
                    removed += 1
        return removed

    def _candidates(self, plan: MediaPlan | str) -> tuple[Path, ...]:
        """The files that may serve, best first."""
        if isinstance(plan, str):
            return (self.path_of(plan), self.path_of(plan, lossy=True))
        exact = self.path_of(plan.digest)
        return (exact, self.path_of(plan.digest, lossy=True)) if self.codec in LOSSY else (exact,)

    def _read(self, path: Path, *, afresh: bool = False) -> Frames | None:
        """The frames of one file, or None if it is missing or damaged.

        Args:
            path: an entry's file.
            afresh: ignore what was read or checked before.
        """

        def read() -> Frames:
            entry = open_entry(path)
            self._verify_once(path, entry)
            return Frames(pixels=entry.pixels(self._run), plan=entry.plan)

        try:
            status = path.stat()
            if afresh:
                self._forget(path)
                return read()
            _record_use(path, status)
            return self._memory.get((path, status.st_ino, status.st_size, status.st_mtime_ns), read)
        except FileNotFoundError:
            self._forget(path)
            return None
        except CorruptEntryError as error:
            self._set_aside(path, str(error))
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}") from error

    def _run(self, function: Callable[..., None], *columns: Iterable[object]) -> Iterable[None]:
        if self._threads == 1:
            return map(function, *columns)
        with self._lock:
            if self._unpackers is None:
                self._unpackers = ThreadPoolExecutor(self._threads, thread_name_prefix="unpack")
        return self._unpackers.map(function, *columns)

    def _forget(self, path: Path) -> None:
        with self._lock:
            self._verified.pop(path, None)
        self._memory.forget(lambda key: isinstance(key, tuple) and key[0] == path)

    def _verify_once(self, path: Path, entry: Entry) -> None:
        with self._lock:
            if self._verified.get(path) == entry.version:
                return
        entry.check()
        with self._lock:
            self._verified[path] = entry.version

    def _set_aside(self, path: Path, detail: str) -> None:
        self._forget(path)
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.corrupt")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return  # another reader has set it aside and recorded it
        except OSError as error:
            # If it counted as missing, every read would decode it and fail to write it.
            raise StoreError(
                f"{path} is damaged ({detail}) and cannot be set aside: {error}; remove it, or make the directory "
                "writable, or set cache.dir"
            ) from error
        try:
            self.ledger.record(str(path), "corrupt_entry", detail, f"set aside as {aside.name}")
        except EasyVideoError as error:
            raise StoreError(f"{path} was damaged ({detail}) and is set aside as {aside.name}, but {error}") from error


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; free some space (evr1 cache gc), set cache.dir, or set "
        "cache.mode=decode_only"
    )


def _last_use(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def _record_use(path: Path, status: os.stat_result) -> None:
    """Record a use as the access time of the file, at most once an hour. Setting it works on every kind of mount.

    The modification time stays, since it is part of the verified version.
    """
    now = time.time()
    if now - _last_use(status) > USE_INTERVAL:
        with suppress(OSError):  # a read-only store, or that of another user, is still usable
            os.utime(path, ns=(int(now * 1e9), status.st_mtime_ns))
