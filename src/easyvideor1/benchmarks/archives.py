"""Archives of a release: whole or in parts, zip or tar; what is in them, without unpacking."""

from __future__ import annotations

import bisect
import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

#: An archive may unpack to this many bytes, or to ``RATIO`` times its size: videos hardly shrink in an archive.
FREE_BYTES, RATIO = 1 << 30, 50

_TAR = r"tar|tar\.gz|tgz|tar\.bz2|tbz2?|tar\.xz|txz"
#: Suffixes of notes about an archive: no parts of it.
_NOTES = "md|txt|sha|sig|asc|csv|log|bak|old|tmp|idx"
_WHOLE = re.compile(rf"(?P<base>.+?)\.(?P<kind>zip|{_TAR})", re.IGNORECASE)
#: ``x.tar.part.aa``, ``x.tar.gz.partab``, ``x.zip.001``, ``x.tar.part0``: bytes of one archive, cut.
_PIECE = re.compile(
    rf"(?P<base>.+?)\.(?P<kind>zip|{_TAR})[._-]?(?:part)?[._-]?(?P<number>(?!(?:{_NOTES})\Z)[a-z]{{1,3}}|\d{{1,4}})",
    re.IGNORECASE,
)
#: ``x.z01``: a part of ``x.zip``, whose offsets count from the start of a part.
_SPAN = re.compile(r"(?P<base>.+)\.z(?P<number>\d{2,3})", re.IGNORECASE)
_OTHERS = (".7z", ".rar", ".tar.zst", ".zst", ".lz4")
_BLOCK = 512
_MAGIC: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))),
    (b"BZh", lambda file: cast("IO[bytes]", bz2.BZ2File(file))),
    (b"\xfd7zXZ", lambda file: cast("IO[bytes]", lzma.LZMAFile(file))),  # noqa: SIM115
)


class ArchiveError(Exception):
    """An archive cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive and its parts, in order. ``name`` is its path below the release without suffix."""

    name: str
    kind: Literal["zip", "tar"]
    parts: tuple[Path, ...]
    spanned: bool = False

    @property
    def packed(self) -> int:
        """Bytes of all parts."""
        return sum(part.stat().st_size for part in self.parts)

    @property
    def limit(self) -> int:
        """Bytes that it may unpack to."""
        return max(FREE_BYTES, RATIO * self.packed)

    @property
    def version(self) -> list[list[str | int]]:
        """Name, size and time of change of each part."""
        return [[part.name, (found := part.stat()).st_size, found.st_mtime_ns] for part in self.parts]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; ``fault`` says why it must not be unpacked, ``open`` reads it while its turn lasts."""

    name: str
    size: int
    fault: str
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file is an archive or a part of one, by its name."""
    return any(form.fullmatch(name) for form in (_WHOLE, _PIECE, _SPAN)) or name.lower().endswith(_OTHERS)


def find_archives(directory: Path, files: Sequence[Path]) -> tuple[list[Archive], dict[str, str]]:
    """The archives among some files below a directory, and why others cannot be used: path -> reason."""
    found: list[Archive] = []
    faults: dict[str, str] = {}
    pieces: defaultdict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    spans: defaultdict[str, dict[str, Path]] = defaultdict(dict)
    whole: dict[str, tuple[str, str, Path]] = {}
    for path in files:
        name = path.relative_to(directory).as_posix()
        if match := _WHOLE.fullmatch(name):
            whole[name.lower()] = (match["base"], match["kind"].lower(), path)
        elif match := _PIECE.fullmatch(name):
            pieces[match["base"], match["kind"].lower()][match["number"].lower()] = path
        elif match := _SPAN.fullmatch(name):
            spans[match["base"]][match["number"]] = path
        elif name.lower().endswith(_OTHERS):
            faults[name] = "is not unpacked here - unpack it with its own tool, beside itself"
    for base, parts in spans.items():
        last = whole.pop(f"{base}.zip".lower(), None)
        gap = _gap(list(parts))
        if last is None or gap:
            faults[base] = f"part {base}.{f'z{gap}' if gap else 'zip'} is missing - download it"
        else:
            found.append(Archive(base, "zip", (*(parts[each] for each in sorted(parts, key=int)), last[2]), True))
    for (base, kind), parts in pieces.items():
        if gap := _gap(list(parts)):
            faults[f"{base}.{kind}"] = f"part {gap} is missing - download it"
        else:
            found.append(Archive(base, _kind(kind), tuple(parts[each] for each in sorted(parts, key=_order))))
    found += [Archive(base, _kind(kind), (path,)) for base, kind, path in whole.values()]
    names = [archive.name for archive in found]
    found = [
        archive
        if names.count(archive.name) == 1
        else Archive(f"{archive.name}.{archive.kind}-{len(archive.parts)}", *_rest(archive))
        for archive in found
    ]
    return sorted(found, key=lambda archive: archive.name), faults


def _rest(archive: Archive) -> tuple[Literal["zip", "tar"], tuple[Path, ...], bool]:
    return archive.kind, archive.parts, archive.spanned


def _kind(suffix: str) -> Literal["zip", "tar"]:
    return "zip" if suffix == "zip" else "tar"


def _order(number: str) -> tuple[int, int, str]:
    return (0, int(number), "") if number.isdigit() else (1, len(number), number)


def _gap(numbers: Sequence[str]) -> str:
    """The first part that is missing before the last one that is there; empty if there is none."""
    if all(number.isdigit() for number in numbers):
        values = sorted(map(int, numbers))
        first = 0 if 0 in values else 1
        width = len(numbers[0])
        return next((str(want).zfill(width) for want in range(first, values[-1]) if want not in values), "")
    if not all(number.isalpha() and len(number) == len(numbers[0]) for number in numbers):
        return "?"
    places = {_place(number) for number in numbers}
    missing = next((want for want in range(max(places)) if want not in places), None)
    return "" if missing is None else _letters(missing, len(numbers[0]))


def _place(letters: str) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + ord(letter) - ord("a")
    return value


def _letters(place: int, width: int) -> str:
    letters = ""
    for _ in range(width):
        place, rest = divmod(place, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


class Joined(io.RawIOBase):
    """Files one after the other, read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = list(parts)
        self.starts = [0]
        for part in parts:
            self.starts.append(self.starts[-1] + part.stat().st_size)
        self._position = 0
        self._open: tuple[int, IO[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.starts[-1]}[whence]
        if base + offset < 0:
            raise OSError("a position before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        if self._position >= self.starts[-1] or not view:
            return 0
        at = bisect.bisect_right(self.starts, self._position) - 1
        if self._open is None or self._open[0] != at:
            self._close()
            self._open = at, self._parts[at].open("rb")
        file = self._open[1]
        file.seek(self._position - self.starts[at])
        wanted = min(len(view), self.starts[at + 1] - self._position)
        content = file.read(wanted)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        self._close()
        super().close()


@contextmanager
def members(archive: Archive) -> Iterator[Iterator[Member]]:
    """The files of an archive, in its order; directories are passed over.

    Raises:
        ArchiveError: it is damaged, or of a form that cannot be read; also while the files are gone through.
    """
    whole = Joined(archive.parts)
    with closing(cast("IO[bytes]", io.BufferedReader(cast("io.FileIO", whole), 1 << 20))) as file:
        read = (
            _zip_members(file, whole.starts if archive.spanned else ()) if archive.kind == "zip" else _tar_members(file)
        )
        yield _checked(archive, read)


def _checked(archive: Archive, found: Iterator[Member]) -> Iterator[Member]:
    total = 0
    with readable(archive):
        for member in found:
            total += member.size
            if total > archive.limit:
                raise ArchiveError(
                    f"it unpacks to more than {archive.limit >> 20} MiB, which no archive of media does - unpack it by "
                    "hand if you trust it"
                )
            yield member


@contextmanager
def readable(archive: Archive) -> Iterator[None]:
    """Turns what a damaged archive raises into ``ArchiveError``."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        joined = "join it first (zip -s 0 IN.zip --out WHOLE.zip)" if "span multiple" in str(error) else ""
        raise ArchiveError(f"cannot be read: {error} - {joined or 'download it again'}") from error


def _zip_members(file: IO[bytes], starts: Sequence[int]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as found:
        if starts:
            _from_whole(found, file, starts)
        for info in found.infolist():
            if info.is_dir():
                continue
            fault = "is encrypted" if info.flag_bits & 1 else _zip_fault(info)
            yield Member(info.filename, info.file_size, fault, lambda info=info: found.open(info))  # type: ignore[misc]


def _zip_fault(info: zipfile.ZipInfo) -> str:
    kind = info.external_attr >> 28  # the type of a Unix file
    return "is a link" if kind == 0xA else "is no plain file" if kind not in (0, 8) else ""


def _from_whole(found: zipfile.ZipFile, file: IO[bytes], starts: Sequence[int]) -> None:
    """Offsets from the start of the first part, where a spanned archive counts from the start of each part."""
    file.seek(max(0, starts[-1] - (1 << 16) - 22))
    tail = file.read()
    (directory,) = struct.unpack_from("<I", tail, tail.rfind(b"PK\x05\x06") + 16)
    added = found.start_dir - directory  # what the reader took for bytes before the archive
    for info in found.infolist():
        if info.volume >= len(starts) - 1:
            raise zipfile.BadZipFile(f"{info.filename} begins in part {info.volume + 1}, which is not there")
        info.header_offset += starts[info.volume] - added
        if hasattr(info, "_end_offset"):  # a check against overlapping files, made of the offsets before
            info._end_offset = None


class _Blocks:
    """A file that remembers what was read of it last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.last = b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    head = file.read(8)
    file.seek(0)
    unpack = next((unpack for magic, unpack in _MAGIC if head.startswith(magic)), None)
    blocks = _Blocks(file if unpack is None else unpack(file))
    with tarfile.open(fileobj=cast("IO[bytes]", blocks), mode="r:") as found:
        while (info := found.next()) is not None:
            vars(found)["members"].clear()  # else all of them are kept
            if info.isdir():
                continue
            fault = "" if info.isreg() else "is a link" if info.issym() or info.islnk() else "is no plain file"
            yield Member(info.name, info.size, fault, lambda info=info: _opened(found, info))  # type: ignore[misc]
    # A missing part or a wrong order ends the list early, and silently.
    if blocks.last != bytes(_BLOCK):
        raise tarfile.ReadError("it ends before its last block; a part is missing or damaged")


def _opened(found: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = found.extractfile(info)
    assert file is not None
    return file
