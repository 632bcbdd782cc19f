"""The health ledger: every file that could not be used, the reason, and what was done about it."""

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
    "corrupt_entry": "nothing: it is decoded again when needed; if this recurs, check the disk",
    "crash": "re-encode the file (ffmpeg -i FILE -c:v libx264 NEW.mp4) or remove its rows; it ended its decoder",
    "effect": "correct what the effect of a transform reads or is told, such as tracks.json or a span of the row",
    "empty": "fetch the file again: it has no frames",
    "incomplete": "fetch the file again or re-encode it: too many of its frames cannot be decoded",
    "kind": "move the path to the column of its kind: it is an image among videos, or the reverse",
    "memory": "raise cache.memory_mb, lower the pixel budget, or remove its rows",
    "missing": "correct the path in the row, or put the file there",
    "no_video": "remove its rows: it has sound but no video",
    "not_a_file": "correct the row so that it names a media file",
    "permission": "make the file readable for the user who runs this",
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

    ``subject`` identifies what failed independently of its path: the digest of a plan, or the version of a file. For a
    ``timeout``, ``deadline`` is the exceeded limit in seconds.
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
    """Everything in the ledger about one path.

    ``count`` is the number of its entries, ``reasons`` counts them by reason, and ``last`` is the newest one.
    ``replaced`` is True if the file on disk is newer than that, so that it may be readable now.
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
    """One ``BadFile`` per path, paths with most entries first."""
    of: dict[str, list[HealthEntry]] = {}
    for entry in entries:
        of.setdefault(entry.path, []).append(entry)
    found = [
        BadFile(path, len(all_), Counter(e.reason for e in all_), all_[-1], _newer(path, all_[-1]))
        for path, all_ in of.items()
    ]
    return sorted(found, key=lambda file: (-file.count, file.path))


def _newer(path: str, entry: HealthEntry) -> bool:
    if entry.reason in ("corrupt_entry", "torn"):  # entries of the store and the ledger itself
        return False
    try:
        # Entries store whole seconds: a change within that second does not count.
        return Path(path).stat().st_mtime >= datetime.fromisoformat(entry.time).timestamp() + 1
    except (OSError, ValueError):
        return False


class HealthLedger:
    """Append-only JSONL that any number of processes may write. The first entry creates ``path``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def record_error(self, error: MediaError, action: str, subject: str = "", deadline: float = 0.0) -> None:
        """``record`` an error. The deadline is stored only if the reason is ``timeout``."""
        given = deadline if error.reason == "timeout" else 0.0
        self.record(error.path, error.reason, str(error), action, subject, given)

    def timed_out(self, deadline: float) -> frozenset[str]:
        """The subjects that exceeded a deadline of at least ``deadline`` seconds, which would exceed it again."""
        return frozenset(
            entry.subject
            for entry in self.entries()
            if entry.reason == "timeout" and entry.subject and entry.deadline >= deadline
        )

    def record(
        self, path: str, reason: str, detail: str, action: str, subject: str = "", deadline: float = 0.0
    ) -> None:
        """Append one entry in a single write under a lock; it is on disk when this returns.

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
                f"(the entry was {path}: {reason})"
            ) from error

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(self.path) as fd:  # without locks, one write at the end of a file is whole as well
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a killed writer left a torn line, which must not absorb this one
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written; is the disk full?")
            os.fsync(fd)

    def entries(self) -> Iterator[HealthEntry]:
        """All entries, oldest first. A line torn by a kill becomes an entry with the reason ``torn``.

        Raises:
            EasyVideoError: the ledger exists but cannot be read.
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
