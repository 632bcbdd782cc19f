"""What a file *is*: a fingerprint of its content, remembered for as long as the file on disk stays the same."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from easyvideor1.types import MediaError

T = TypeVar("T")

#: ``(absolute path, size, mtime in ns, inode, ctime in ns)``: while these stay the same, so does the content. Programs
#: set the time of modification as they like; that of the last change is the system's own.
StatKey = tuple[str, int, int, int, int]


class FileMemo(Generic[T]):
    """Remembers one value per file version; the least recently used are forgotten when they weigh over ``limit``.

    Args:
        limit: what all values together may weigh.
        weigh: the weight of a value; 1 each if None.
    """

    def __init__(self, limit: int, weigh: Callable[[T], int] | None = None) -> None:
        self._limit = limit
        self._weigh = weigh or (lambda value: 1)
        self._weight = 0
        self._values: OrderedDict[StatKey, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: StatKey, make: Callable[[], T]) -> T:
        """The remembered value, else ``make()``; an error of ``make`` is not remembered, nor what was just written."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        settled = is_settled(key)
        value = make()  # outside the lock: two threads may both work, none waits for a slow file of another
        if not settled:
            return value  # it may be written again without a trace
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._weight += self._weigh(value)
            while self._weight > self._limit:
                self._weight -= self._weigh(self._values.popitem(last=False)[1])
        return value


_FINGERPRINTS: FileMemo[str] = FileMemo(limit=1 << 20)


def stat_key(path: str, *, regular: bool = True) -> StatKey:
    """The identity of a file version.

    Args:
        path: the media file.
        regular: refuse directories, pipes and devices, which could block or never end.

    Raises:
        MediaError: ``missing``, ``permission`` or ``not_a_file``.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat builds an object, and a start asks this of every row
    except OSError as error:
        raise file_error(path, error) from error
    except ValueError as error:  # a NUL, or half a surrogate pair: no file can have such a name
        raise MediaError(f"{path!r} is no path: {error}; check the row's path", path=path, reason="missing") from error
    if regular and not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a regular file; point the row at a media file", path=path, reason="not_a_file")
    absolute = os.path.abspath(path)  # noqa: PTH100 (keeps symlinks)
    return (absolute, status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


#: A file that was written this recently may be written again without a change of its times (seconds): the clock of
#: files ticks every few milliseconds, that of some file systems every two seconds.
_TICK = 0.1
_COARSE_TICK = 2.0


def is_settled(key: StatKey) -> bool:
    """Whether any further change of the file would show in its key."""
    changed = max(key[2], key[4])
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return abs(time.time_ns() - changed) > tick * 1e9


def is_unchanged(key: StatKey) -> bool:
    """Whether the file is still this version, and any further change would show: only then may it be remembered."""
    try:
        return stat_key(key[0]) == key and is_settled(key)
    except MediaError:
        return False


def file_error(path: str, error: OSError) -> MediaError:
    """The ``MediaError`` that an operating system error on a media file amounts to."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MediaError(
            f"{path} does not exist; check the row's path and data.*.media_root", path=path, reason="missing"
        )
    if isinstance(error, PermissionError):
        return MediaError(f"{path} may not be read; check its permissions", path=path, reason="permission")
    return MediaError(f"{path} cannot be read: {error}", path=path, reason="unreadable")


def remember_fingerprint(key: StatKey, value: str) -> None:
    """Take over what another process computed of this file version."""
    _FINGERPRINTS.get(key, lambda: value)


def fingerprint(path: str) -> str:
    """SHA-256 of the file's bytes, in hex. A copied or renamed file keeps it, a replaced file does not.

    Raises:
        MediaError: the file cannot be read.
    """
    key = stat_key(path, regular=False)  # decoding, which asks this too, is guarded by a deadline; probing asked before

    def read() -> str:
        try:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise file_error(path, error) from error

    return _FINGERPRINTS.get(key, read)
