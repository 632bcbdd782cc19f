"""Versions of files: what tells one state of a file on disk from the next, and what is remembered of each."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
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


def file_key(path: str, *, regular: bool = True) -> StatKey:
    """The identity of a version of one file.

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


def file_error(path: str, error: OSError) -> MediaError:
    """The ``MediaError`` that an operating system error on a media file amounts to."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MediaError(
            f"{path} does not exist; check the row's path and data.*.media_root", path=path, reason="missing"
        )
    if isinstance(error, PermissionError):
        return MediaError(f"{path} may not be read; check its permissions", path=path, reason="permission")
    return MediaError(f"{path} cannot be read: {error}", path=path, reason="unreadable")
