"""The results of probing, cached on disk: no process reads a file again that any process has probed.

A description is one line of JSON. With a packet index, times are stored as ticks: exact, and a few hundred bytes for a
video of any length. Without an index they are compressed float64 numbers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from easyvideor1.files import write_atomic
from easyvideor1.locks import locked_file
from easyvideor1.types import MediaInfo
from easyvideor1.video.media_files import FileVersion, is_unchanged
from easyvideor1.video.packets import PacketIndex, video_info

#: Start of every line. The number changes when descriptions or the format of lines change.
_NAME = b"evr1-probe/"
FORMAT = _NAME + b"3"

#: Obsolete lines are removed when they take more than this many bytes and more than all other lines.
_SPARE_BYTES = 1 << 20

#: The name of the file in the directory of a frame store.
PROBE_CACHE_NAME = "probes.memo"

_CHUNK = 1 << 20
_Place = tuple[int, int]


class ProbeCache:
    """One append-only file that any number of processes may read and write.

    A line holds the path, the file version (size, times of modification and of change, inode, and version of the
    demuxer), and the description, under a checksum. The last line of a path counts. Damaged lines and lines of another
    format are ignored. A file of something else is moved aside. A faulty cache is never an error: missing descriptions
    are probed again, and a cache that cannot be written causes one warning.

    Only the positions of the lines are kept in memory, about 300 bytes per file.

    Args:
        path: the file; the first ``put`` creates it and its directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._inode = 0
        self._scanned = 0
        self._lines: dict[bytes, _Place] = {}
        self._warned = False

    def __len__(self) -> int:
        """Number of cached files, whether or not they have changed since."""
        with self._lock:
            self._refresh()
            return len(self._lines)

    def get(self, key: FileVersion) -> MediaInfo | None:
        """The cached description of this version of the file, or None; its ``path`` is absolute."""
        found = self.recall(key)
        return found[0] if found is not None else None

    def recall(self, key: FileVersion) -> tuple[MediaInfo, PacketIndex | None] | None:
        """Like ``get``, with the packet index of a video if it is cached too."""
        with self._lock:
            payload = self._payload(key)
        if payload is None:
            return None
        try:
            info, index = info_and_index_from_json(payload)
        except (ValueError, KeyError, TypeError):  # a valid checksum over other content
            return None
        return replace(info, path=key[0]), index

    def put(self, key: FileVersion, info: MediaInfo, index: PacketIndex | None = None) -> None:
        """Cache a description; does nothing if it is cached already, or if the file has changed.

        Args:
            key: ``media_version`` of the file from before it was read.
            info: the result of probing.
            index: packet index of a video, so that decoding need not read it again.
        """
        if not is_unchanged(key):
            return
        with self._lock:
            known = self._payload(key)
            if known is not None and (index is None or b'"index":' in known):
                return
            body = b"\t".join((_name(key), _version(key), info_to_json(info, index).encode()))
            line = b"%s\t%08x\t%s\n" % (FORMAT, zlib.crc32(body), body)
            try:
                self._append(line)
            except OSError as error:
                self._warn(error)

    def _payload(self, key: FileVersion) -> bytes | None:
        self._refresh()
        place = self._lines.get(_name(key))
        if place is None or self._fd is None:
            return None
        try:
            fields = _checked(os.pread(self._fd, place[1], place[0]))
        except OSError as error:
            self._warn(error)
            return None
        return fields[2] if fields is not None and fields[:2] == [_name(key), _version(key)] else None

    def _refresh(self) -> None:
        """Read the lines that this or another process has added since the last call."""
        try:
            status = self.path.stat()
            if self._fd is None or status.st_ino != self._inode or status.st_size < self._scanned:
                self._open()
            if self._fd is not None and status.st_size > self._scanned:
                self._scan()
        except FileNotFoundError:
            self._reset()
        except OSError as error:
            self._reset()
            self._warn(error)

    def _open(self) -> None:
        self._reset()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._inode = os.fstat(self._fd).st_ino
        head = os.pread(self._fd, len(_NAME), 0).lstrip(b"\n")
        if head != _NAME[: len(head)]:
            # Another kind of file, or one damaged by a power cut: kept under another name.
            self.path.replace(self.path.with_name(f"{self.path.name}.aside"))
            self._reset()
            return
        dead = self._scan()
        if dead > max(_SPARE_BYTES, self._scanned - dead):
            with suppress(OSError):  # the disk is full or read-only: the file stays as it is
                self._compact()

    def _scan(self) -> int:
        """Index whole lines from the end of the last scan; returns the bytes of obsolete lines."""
        assert self._fd is not None
        dead = 0
        for line in _whole_lines(self._fd, self._scanned):
            fields = line.split(b"\t", 4)
            if fields[0] == FORMAT and len(fields) == 5:
                dead += self._lines.pop(fields[2], (0, 0))[1]
                self._lines[fields[2]] = (self._scanned, len(line))
            else:
                dead += len(line)
            self._scanned += len(line)
        return dead

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(self.path) as fd:  # without locks, one write at the end of a file is whole as well
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # a killed writer left a torn line, which must not absorb this one
            written = os.write(fd, line)  # no fsync: lines lost in a power cut are probed again
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written; is the disk full?")

    def _compact(self) -> None:
        """Rewrite the file with the current lines only."""
        with locked_file(self.path) as fd:
            assert self._fd is not None
            if os.fstat(fd).st_ino != self._inode:
                return  # another process has done it; the next refresh opens its file
            self._scan()
            lines = (os.pread(self._fd, length, start) for start, length in sorted(self._lines.values()))
            write_atomic(self.path, b"".join(line for line in lines if _checked(line) is not None))
        self._reset()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._inode = os.fstat(self._fd).st_ino
        self._scan()

    def _reset(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._inode, self._scanned, self._lines = None, 0, 0, {}

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.path} cannot be used: {error}; every process probes media again", stacklevel=2)

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _whole_lines(fd: int, start: int) -> Iterator[bytes]:
    """Lines with their newline. A last line without one is being written or torn, and is skipped."""
    rest = b""
    # No file object: a forked process would share its position.
    while chunk := os.pread(fd, _CHUNK, start):
        start += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"


def _name(key: FileVersion) -> bytes:
    return json.dumps(key[0]).encode()  # ASCII without tabs or newlines for any path


def _version(key: FileVersion) -> bytes:
    demuxer = ".".join(map(str, av.library_versions["libavformat"]))
    return f"{':'.join(map(str, key[1:]))}:{demuxer}".encode()


def _checked(line: bytes) -> list[bytes] | None:
    """Name, version and description of a line; None if it is damaged."""
    fields = line.rstrip(b"\n").split(b"\t", 2)
    try:
        if len(fields) == 3 and fields[0] == FORMAT and int(fields[1], 16) == zlib.crc32(fields[2]):
            return fields[2].split(b"\t")
    except ValueError:
        pass
    return None


_INFO_FIELDS = ("path", "kind", "fingerprint", "codec", "width", "height", "rotation", "fps", "duration")
_INDEX_FIELDS = ("end", "timed", "codec", "width", "height", "rotation", "mirror")


def info_to_json(info: MediaInfo, index: PacketIndex | None = None) -> str:
    """One line of ASCII.

    Args:
        info: the result of probing.
        index: the packet index of the same video, to store with it.
    """
    fields: dict[str, Any] = {name: getattr(info, name) for name in _INFO_FIELDS}
    if index is None:
        fields["timestamps"] = _packed(np.array(info.timestamps, dtype="<f8"))
    else:
        fields["index"] = {name: getattr(index, name) for name in _INDEX_FIELDS} | {
            "pts": _packed(_steps(index.pts)),
            "keyframes": _packed(_steps(index.keyframes)),
            "time_base": [index.time_base.numerator, index.time_base.denominator],
            "rate": None if index.rate is None else [index.rate.numerator, index.rate.denominator],
        }
    return json.dumps(fields, separators=(",", ":"))


def info_from_json(text: str | bytes) -> MediaInfo:
    """Inverse of ``info_to_json``, with or without an index; bit-identical.

    Raises:
        ValueError, KeyError, TypeError: the text is not a description.
    """
    return info_and_index_from_json(text)[0]


def info_and_index_from_json(text: str | bytes) -> tuple[MediaInfo, PacketIndex | None]:
    """Like ``info_from_json``, with the index if there is one.

    Raises:
        ValueError, KeyError, TypeError: the text is not a description.
    """
    fields: dict[str, Any] = json.loads(text)
    if not isinstance(fields, dict):
        raise TypeError("a description is a JSON object")
    packed = fields.pop("index", None)
    if packed is None:
        times = _unpacked(fields.pop("timestamps"), "<f8").tolist()
        return MediaInfo(timestamps=tuple(times), **fields), None
    index = PacketIndex(
        **{name: packed[name] for name in _INDEX_FIELDS},
        pts=tuple(np.cumsum(_unpacked(packed["pts"], "<i8")).tolist()),
        keyframes=tuple(np.cumsum(_unpacked(packed["keyframes"], "<i8")).tolist()),
        time_base=Fraction(*packed["time_base"]),
        rate=None if packed["rate"] is None else Fraction(*packed["rate"]),
    )
    # Times are recomputed from exact ticks; all other fields are as written.
    return replace(video_info(fields["path"], fields["fingerprint"], index), **fields), index


def _steps(ascending: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first number and the differences after it, which are all equal at a constant frame rate."""
    return np.diff(np.array(ascending, dtype="<i8"), prepend=np.int64(0))


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def _unpacked(text: str, dtype: str) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not an array of numbers: {error}") from error
