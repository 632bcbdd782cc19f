"""The frame store: decoded frames on disk, found by the digest of their plan, whoever planned them from wherever."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import zstandard

from easyvideor1.files import write_atomic
from easyvideor1.types import EasyVideoError, Frames, MediaPlan
from easyvideor1.video.entry import SUFFIX, Codec, CorruptEntryError, Entry, open_entry, write_entry
from easyvideor1.video.health import HealthLedger

_DIGEST = re.compile(r"[0-9a-f]{64}")

#: A temporary file that nobody touched for this many seconds belongs to a writer that was killed.
ABANDONED_AFTER = 3600.0
#: Seconds between two tries for a claim that somebody else holds.
CLAIM_POLL = 0.02


class StoreError(EasyVideoError):
    """The store itself cannot be read or written (disk full, no permission); no fault of the media."""


class FrameStore:
    """One directory of entries ``<dir>/<digest[:2]>/<digest>.safetensors``; safe under any number of processes.

    An entry appears whole or not at all. What is read is verified, once per process and file version; an entry that
    fails is renamed to ``*.corrupt``, recorded in the ledger, and counts as missing.

    Args:
        directory: created when first written.
        codec: how ``put`` keeps pixels; entries of either codec can be read whatever it is.
        ledger: where damaged entries are recorded; ``<dir>/health.jsonl`` if None.
    """

    def __init__(self, directory: str | Path, codec: Codec = "raw", ledger: HealthLedger | None = None) -> None:
        self.directory = Path(directory)
        self.codec: Codec = codec
        self.ledger = ledger if ledger is not None else HealthLedger(self.directory / "health.jsonl")
        self._verified: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    def path_of(self, digest: str) -> Path:
        """Where the entry of a digest lies or would lie."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"{digest!r} is not a plan digest (64 lower-case hex digits)")
        return self.directory / digest[:2] / f"{digest}{SUFFIX}"

    def has(self, plan: MediaPlan | str) -> bool:
        """Whether an entry is there; says nothing of its health, which ``get`` and ``verify`` check."""
        return self.path_of(_digest(plan)).exists()

    def entries(self) -> Iterator[str]:
        """Digests of all entries, in order."""
        for path in sorted(self.directory.glob(f"[0-9a-f][0-9a-f]/*{SUFFIX}")):
            digest = path.name.removesuffix(SUFFIX)
            if _DIGEST.fullmatch(digest):
                yield digest

    def get(self, plan: MediaPlan | str) -> Frames | None:
        """The frames of a plan or a digest, or None. Pixels are read-only; with ``raw`` they are the mapped file.

        The frames carry the plan that was asked for; asked by digest, the plan that was stored (equal in all that
        decides pixels).

        Raises:
            StoreError: the entry is there but may not be read, or it is damaged and cannot be set aside.
        """
        digest = _digest(plan)
        path = self.path_of(digest)
        try:
            entry = open_entry(path)
            self._verify_once(digest, entry)
            return Frames(pixels=entry.pixels(), plan=plan if isinstance(plan, MediaPlan) else entry.plan)
        except FileNotFoundError:
            return None
        except (CorruptEntryError, zstandard.ZstdError) as error:
            self._set_aside(digest, path, str(error))
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}") from error

    def verify(self, digest: str) -> bool:
        """Check one entry from its bytes, whatever was checked before; False when it is missing or was set aside."""
        with self._lock:
            self._verified.pop(digest, None)
        return self.get(digest) is not None

    def put(self, frames: Frames) -> None:
        """Write an entry; an older one of the same digest is replaced.

        Raises:
            StoreError: it cannot be written; nothing is left behind.
        """
        path = self.path_of(frames.plan.digest)
        try:
            write_atomic(path, lambda file: write_entry(file, frames, self.codec))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}; free some space or set cache.dir") from error

    @contextmanager
    def claim(self, digest: str, timeout: float) -> Iterator[bool]:
        """Be the one who makes an entry; yields False when another still holds the claim after ``timeout`` seconds.

        The claim is a lock of the operating system, so it ends with the process that holds it, however that dies.
        """
        path = self.directory / "claims" / digest
        limit = time.monotonic() + timeout
        fd = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while (fd := _try_lock(path)) is None and time.monotonic() < limit:
                time.sleep(CLAIM_POLL)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}; free some space or set cache.dir") from error
        try:
            yield fd is not None
        finally:
            if fd is not None:
                path.unlink(missing_ok=True)  # before the lock is let go, so that nobody locks a file that is gone
                os.close(fd)

    def sweep(self) -> int:
        """Remove what killed writers left behind; returns how many files."""
        removed = 0
        for path in self.directory.glob("[0-9a-f][0-9a-f]/.*.tmp"):
            with suppress(FileNotFoundError):  # another process sweeps as well
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    path.unlink()
                    removed += 1
        return removed

    def _verify_once(self, digest: str, entry: Entry) -> None:
        with self._lock:
            if self._verified.get(digest) == entry.version:
                return
        entry.check()
        with self._lock:
            self._verified[digest] = entry.version

    def _set_aside(self, digest: str, path: Path, detail: str) -> None:
        with self._lock:
            self._verified.pop(digest, None)
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.corrupt")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return  # another reader was first, and recorded it
        except OSError as error:
            # Going on as if it were missing would decode it and fail to put it in place, once per read.
            raise StoreError(
                f"{path} is damaged ({detail}) and cannot be set aside: {error}; remove it, or make the directory "
                "writable, or set cache.dir"
            ) from error
        try:
            self.ledger.record(str(path), "corrupt_entry", detail, f"set aside as {aside.name}")
        except OSError as error:
            raise StoreError(
                f"{path} was damaged ({detail}) and is set aside as {aside.name}, but {self.ledger.path} cannot be "
                f"written: {error}; make it writable"
            ) from error


def _digest(plan: MediaPlan | str) -> str:
    return plan if isinstance(plan, str) else plan.digest


def _try_lock(path: Path) -> int | None:
    """Descriptor of the locked file, or None when it is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and path.stat().st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or removed by one that has just finished
    os.close(fd)
    return None
