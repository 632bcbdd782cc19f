"""The health ledger: every file that could not be used, why, and what was done about it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from easyvideor1.files import json_bytes


@dataclass(frozen=True, slots=True)
class HealthEntry:
    """One line: ``reason`` is a short label (``timeout``, ``missing``, ...), ``time`` is ISO 8601 in UTC."""

    time: str
    path: str
    reason: str
    detail: str
    action: str


class HealthLedger:
    """Append-only JSONL that any number of processes may write. ``path`` is created with its first entry."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def record(self, path: str, reason: str, detail: str, action: str) -> None:
        """Append one entry: a single write under a lock, on disk before this returns."""
        entry = HealthEntry(datetime.now(UTC).isoformat(timespec="seconds"), path, reason, detail, action)
        line = json_bytes(asdict(entry))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer was killed in mid-line: its torn line must not swallow this one
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(f"{self.path}: only {written} of {len(line)} bytes were written; is the disk full?")
            os.fsync(fd)
        finally:
            os.close(fd)

    def entries(self) -> Iterator[HealthEntry]:
        """All entries, oldest first. A line torn by a kill is given as an entry with reason ``torn``."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield HealthEntry(**json.loads(line))
                except (ValueError, TypeError):
                    yield HealthEntry("", str(self.path), "torn", f"line {number} is not an entry", "ignored")
