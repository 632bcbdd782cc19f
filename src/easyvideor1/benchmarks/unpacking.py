"""Unpacks the archives of a release once: atomically file by file, so that an interrupted run goes on where it was."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from easyvideor1.benchmarks.archives import Archive, ArchiveError, Member, is_archive, members, readable
from easyvideor1.files import read_json, write_atomic, write_json
from easyvideor1.types import DataError

#: Called with (bytes done, bytes in all) and the name of the archive.
Advance = Callable[[int, int, str], None]

_WANTED = frozenset(
    (
        *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".wmv", ".mpg", ".mpeg", ".ts", ".gif", ".3gp"),
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp"),
        *(".srt", ".vtt", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet"),
    )
)
_CHUNK = 1 << 22
_LEDGER = "archives.json"
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of the archives: files and bytes that are unpacked, members that were refused and archives that could
    not be used, each with its reason."""

    files: int = 0
    bytes: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)


def inside(name: str) -> str:
    """Path of a member below its archive's directory; empty if it leaves it, or is no path at all."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or _DRIVE.match(path) or ".." in parts or "\0" in path or not parts:
        return ""
    return "/".join(parts)


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and (path.suffix.lower() in _WANTED or is_archive(path.name))


def unpack(archives: Iterable[Archive], out: Path, advance: Advance | None = None) -> Unpacked:
    """Unpack media, subtitles and annotations into ``out/media/ARCHIVE/``; an archive that was unpacked before and is
    the same as then is not opened again.

    A member that leaves its directory, is a link, is no plain file or is encrypted is refused by name. An archive that
    is damaged or unpacks to too much is left out by name.

    Raises:
        DataError: there is not enough disk space.
        OSError: the disk refused; the same call goes on from there.
    """
    ledger = _Ledger(out / _LEDGER)
    waiting, faults = [], {}
    for archive in archives:
        if ledger.knows(archive):
            continue
        try:
            waiting.append((archive, _missing_bytes(archive, out)))
        except ArchiveError as error:
            faults[archive.name] = str(error)
    _check_space(out, sum(missing for _, missing in waiting))
    total, before = sum(archive.packed for archive, _ in waiting), 0
    for archive, _ in waiting:
        try:
            ledger.add(archive, _unpack(archive, out, _told(advance, before, total, archive)))
        except ArchiveError as error:
            faults[archive.name] = str(error)
        before += archive.packed
    return ledger.all(faults)


def _told(advance: Advance | None, before: int, total: int, archive: Archive) -> Callable[[int], None]:
    if advance is None:
        return lambda _: None
    return lambda done: advance(min(before + done, total), total, archive.name)


def _check_space(out: Path, needed: int) -> None:
    there = out.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DataError(
            f"{out}: unpacking needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free - free some space "
            "or name a directory on another disk with --out"
        )


def _missing_bytes(archive: Archive, out: Path) -> int:
    """Bytes that an archive will need on the disk; of a tar, whose list would cost a pass over it, its own size."""
    if archive.kind == "tar":
        return archive.packed
    with members(archive) as found:
        return sum(member.size for member in found if _place(archive, member, out)[0] is not None)


def _place(archive: Archive, member: Member, out: Path) -> tuple[Path | None, str]:
    """Where a member goes, or ``None`` with the reason why it does not; without a reason it is not needed."""
    name = inside(member.name)
    if not name:
        return None, "leaves the directory"
    if member.fault:
        return None, member.fault
    target = out / "media" / archive.name / name
    there = _is_wanted(name) and not (target.is_file() and target.stat().st_size == member.size)
    return (target if there else None), ""


def _unpack(archive: Archive, out: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    count = size = passed = 0
    refused: dict[str, str] = {}
    with members(archive) as found:
        for member in found:
            target, fault = _place(archive, member, out)
            if fault:
                refused[member.name] = fault
            if target is not None:
                _write(archive, member, target)
            if not fault and _is_wanted(inside(member.name)):
                count, size = count + 1, size + member.size
            passed += member.size
            advance(passed)
    os.sync()  # every file is on the disk before the ledger says so
    return {"parts": archive.version, "files": count, "bytes": size, "refused": refused}


def _write(archive: Archive, member: Member, target: Path) -> None:
    def copy(file: IO[bytes]) -> None:
        with readable(archive), member.open() as source:
            shutil.copyfileobj(source, file, _CHUNK)
            if file.tell() != member.size:
                raise ArchiveError(f"{member.name} ends too early - download it again")

    try:
        write_atomic(target, copy, durable=False)
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise ArchiveError(f"{member.name} is both a file and a directory") from error
    except (NotImplementedError, RuntimeError) as error:  # a compression that zipfile does not know
        raise ArchiveError(f"{member.name}: {error} - unpack it with its own tool, beside itself") from error


def unpacked_places(out: Path) -> tuple[Path, ...]:
    """The directories that archives were unpacked into, and that of all of them."""
    path = out / _LEDGER
    if not path.is_file():
        return ()
    return out / "media", *(place for name in read_json(path) if (place := out / "media" / name).is_dir())


class _Ledger:
    """What was unpacked, by archive."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = read_json(path) if path.is_file() else {}

    def knows(self, archive: Archive) -> bool:
        entry = self._known.get(archive.name)
        there = (self._path.parent / "media" / archive.name).is_dir()
        return entry is not None and entry["parts"] == archive.version and (there or not entry["files"])

    def add(self, archive: Archive, entry: Mapping[str, Any]) -> None:
        self._known[archive.name] = entry
        write_json(self._path, self._known)

    def all(self, faults: Mapping[str, str]) -> Unpacked:
        entries = self._known.items()
        return Unpacked(
            sum(entry["files"] for _, entry in entries),
            sum(entry["bytes"] for _, entry in entries),
            {f"{name}: {each}": why for name, entry in entries for each, why in entry["refused"].items()},
            faults,
        )
