"""The health ledger: every file that could not be used, why, and what was done about it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from easyvideor1.files import json_bytes
from easyvideor1.locks import locked_file
from easyvideor1.types import EasyVideoError, MediaError

#: What to do about each reason.
REMEDIES: Mapping[str, str] = {
    "aspect": "crop the picture: one side is over 200 times the other",
    "changed": "build again: the file was replaced after it was planned",
    "clip": "correct start and end in the row: they lie outside the video",
    "corrupt_entry": "nothing: it is decoded again when next needed; if this recurs, check the disk",
    "crash": "re-encode the file (ffmpeg -i FILE -c:v libx264 NEW.mp4) or remove its rows; it ended its decoder",
    "empty": "fetch the file again: it holds no frame",
    "incomplete": "fetch the file again or re-encode it: too many of its frames cannot be decoded",
    "kind": "move the path to the column of its kind: it is an image among videos, or the reverse",
    "memory": "raise cache.memory_mb, lower the pixel budget, or remove its rows",
    "missing": "correct the path in the row, or put the file there",
    "no_video": "remove its rows: there is sound but nothing to see",
    "not_a_file": "point the row at a media file",
    "permission": "make the file readable for the user that decodes",
    "timeout": "raise cache.deadline if the file is large, run evr1 cache build if the machine was busy; else "
    "re-encode it or remove its rows",
    "torn": "nothing: a writer was killed in the middle of a line",
    "truncated": "fetch the file again: its end is missing",
    "visual_mismatch": "run evr1 cache verify: its frames in the store are not those that were planned",
    "unreadable": "re-encode the file or remove its rows: no decoder reads it",
}


@dataclass(frozen=True, slots=True)
class HealthEntry:
    """One line: ``reason`` is a short label (``timeout``, ``missing``, ...), ``time`` is ISO 8601 in UTC.

    ``subject`` is what failed, whatever its path: the digest of a plan, or the version of a file. Of a ``timeout``,
    ``deadline`` is the number of seconds that were not enough.
    """

    time: str
    path: str
    reason: str
    detail: str
    action: str
    subject: str = ""
    deadline: float = 0.0


@dataclass(frozen=True, slots=True)
class BadFile:
    """All that the ledger says of one path, in one place.

    ``count`` is the number of its entries, ``reasons`` how many of them have which reason, ``last`` the newest one.
    ``replaced`` is True when the file on disk is newer than that, so that it may be well by now.
    """

    path: str
    count: int
    reasons: Mapping[str, int]
    last: HealthEntry
    replaced: bool

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.replaced:
            return "build again: the file was replaced since"
        return REMEDIES.get(self.last.reason, "replace the file or remove its rows")


def bad_files(entries: Iterable[HealthEntry]) -> list[BadFile]:
    """One ``BadFile`` for every path, those with most entries first."""
    of: dict[str, list[HealthEntry]] = {}
    for entry in entries:
        of.setdefault(entry.path, []).append(entry)
    found = [
        BadFile(path, len(all_), Counter(e.reason for e in all_), all_[-1], _newer(path, all_[-1]))
        for path, all_ in of.items()
    ]
    return sorted(found, key=lambda patient: (-patient.count, patient.path))


def _newer(path: str, entry: HealthEntry) -> bool:
    if entry.reason in ("corrupt_entry", "torn"):  # these are our own files
        return False
    try:
        # Entries tell whole seconds: a change within that second does not count.
        return Path(path).stat().st_mtime >= datetime.fromisoformat(entry.time).timestamp() + 1
    except (OSError, ValueError):
        return False


class HealthLedger:
    """Append-only JSONL that any number of processes may write. ``path`` is created with its first entry."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def record_error(self, error: MediaError, action: str, subject: str = "", deadline: float = 0.0) -> None:
        """``record`` of an error; the deadline is that of the work it ended, whatever its reason."""
        given = deadline if error.reason == "timeout" else 0.0
        self.record(error.path, error.reason, str(error), action, subject, given)

    def timed_out(self, deadline: float) -> frozenset[str]:
        """The subjects that ran into a deadline of at least so many seconds: as long would not be enough again."""
        return frozenset(
            entry.subject
            for entry in self.entries()
            if entry.reason == "timeout" and entry.subject and entry.deadline >= deadline
        )

    def record(
        self, path: str, reason: str, detail: str, action: str, subject: str = "", deadline: float = 0.0
    ) -> None:
        """Append one entry: a single write under a lock, on disk before this returns.

        Raises:
            EasyVideoError: the ledger cannot be written.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = HealthEntry(now, path, reason, detail, action, subject, deadline)
        try:
            self._append(json_bytes(asdict(entry)))
        except OSError as error:
            raise EasyVideoError(
                f"{self.path} cannot be written: {error}; make it writable, free some space, or set cache.dir "
                f"(it was to say of {path}: {reason})"
            ) from error

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(self.path) as fd:  # without locks, one write at the end of a file is whole as well
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer was killed in mid-line: its torn line must not swallow this one
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written; is the disk full?")
            os.fsync(fd)

    def entries(self) -> Iterator[HealthEntry]:
        """All entries, oldest first. A line torn by a kill is given as an entry with reason ``torn``.

        Raises:
            EasyVideoError: the ledger is there but cannot be read.
        """
        try:
            file = self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise EasyVideoError(f"{self.path} cannot be read: {error}; make it readable, or set cache.dir") from error
        with file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    entry = HealthEntry(**json.loads(line))
                    yield replace(entry, deadline=float(entry.deadline))
                except (ValueError, TypeError):
                    yield HealthEntry("", str(self.path), "torn", f"line {number} is not an entry", "ignored")
