"""Media files on disk: their version, their fingerprint, and videos that are lists of frames.

A medium is one media file, or a file ``NAME.frames.json`` that lists the frames of a video and their times:
``{"frames": ["000.jpg", "001.jpg"], "fps": 2.0}``, or ``"timestamps"`` in seconds, one per frame, in place of ``fps``.
Relative paths start at the directory of the list. Rows may hold the same lists; loading them writes such files. The
version and the fingerprint of a list cover all its frames.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from easyvideor1.types import MediaError

T = TypeVar("T")

#: ``(absolute path, size, mtime in ns, inode, ctime in ns)``: while these are the same, so is the content. Programs can
#: set mtime to any value, but ctime is set by the system.
FileVersion = tuple[str, int, int, int, int]


class VersionCache(Generic[T]):
    """Caches one value per file version; the least recently used are dropped when all weigh more than ``limit``.

    Args:
        limit: maximum weight of all values together.
        weigh: the weight of a value; 1 if None.
    """

    def __init__(self, limit: int, weigh: Callable[[T], int] | None = None) -> None:
        self._limit = limit
        self._weigh = weigh or (lambda value: 1)
        self._weight = 0
        self._values: OrderedDict[FileVersion, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: FileVersion, make: Callable[[], T]) -> T:
        """The cached value, else ``make()``. Errors are not cached, nor values of files that were just written."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        settled = is_settled(key)
        value = make()  # outside the lock: two threads may do the same work, but none waits for a slow file of another
        if not settled:
            return value  # the file may change again without a change of its version
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._weight += self._weigh(value)
            while self._weight > self._limit:
                self._weight -= self._weigh(self._values.popitem(last=False)[1])
        return value


def file_version(path: str, *, regular: bool = True) -> FileVersion:
    """The version of one file.

    Args:
        path: the media file.
        regular: refuse directories, pipes and devices, which could block forever.

    Raises:
        MediaError: ``missing``, ``permission`` or ``not_a_file``.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every row; Path.stat would build an object
    except OSError as error:
        raise file_error(path, error) from error
    except ValueError as error:  # a NUL, or half a surrogate pair: no file can have such a name
        raise MediaError(f"{path!r} is no path: {error}; check the row's path", path=path, reason="missing") from error
    if regular and not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a regular file; name a media file in the row", path=path, reason="not_a_file")
    absolute = os.path.abspath(path)  # noqa: PTH100 (keeps symlinks)
    return (absolute, status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


#: A file written this recently (seconds) may change again with the same times: file clocks tick every few
#: milliseconds, those of some file systems every two seconds.
_TICK = 0.1
_COARSE_TICK = 2.0


def is_settled(key: FileVersion) -> bool:
    """Whether any further change of the file would change its version."""
    changed = max(key[2], key[4])
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return abs(time.time_ns() - changed) > tick * 1e9


def file_error(path: str, error: OSError) -> MediaError:
    """The ``MediaError`` for an operating system error on a media file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MediaError(
            f"{path} does not exist; check the row's path and data.*.media_root", path=path, reason="missing"
        )
    if isinstance(error, PermissionError):
        return MediaError(f"{path} may not be read; check its permissions", path=path, reason="permission")
    return MediaError(f"{path} cannot be read: {error}", path=path, reason="unreadable")


SUFFIX = ".frames.json"


@dataclass(frozen=True, slots=True)
class FrameList:
    """Absolute paths of the frames, their times in seconds (ascending), and the end of the last frame."""

    frames: tuple[str, ...]
    timestamps: tuple[float, ...]
    duration: float

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return len(self.frames) / (self.duration - self.timestamps[0])


_LISTS: VersionCache[FrameList] = VersionCache(limit=1_000_000, weigh=lambda value: len(value.frames))


def is_frame_list(path: str) -> bool:
    """Whether a path names a list of frames."""
    return path.endswith(SUFFIX)


def frame_list(frames: Sequence[str], *, fps: object = None, timestamps: object = None) -> FrameList:
    """Frames with their times.

    Args:
        frames: their paths.
        fps: frames per second, the first at 0 s.
        timestamps: seconds of every frame, in place of ``fps``; they need not begin at 0.

    Raises:
        ValueError: there are no frames, not exactly one of ``fps`` and ``timestamps`` is given, or it is invalid.
    """
    count = len(frames)
    if not count:
        raise ValueError("it lists no frames")
    if (fps is None) == (timestamps is None):
        raise ValueError("give either fps or timestamps, the times of the frames in seconds")
    if timestamps is None:
        rate = _number(fps)
        if not 0 < rate < math.inf:
            raise ValueError(f"fps is {str(fps)[:40]!s}, not a number above 0")
        times, duration = tuple(index / rate for index in range(count)), count / rate
    else:
        if not isinstance(timestamps, list | tuple):
            raise ValueError("timestamps are not a list of seconds")
        times = tuple(map(_number, timestamps))
        if len(times) != count:
            raise ValueError(f"there are {count} frames and {len(times)} timestamps")
        length = (times[-1] - times[0]) / (count - 1) if count > 1 else 1.0  # the last frame has the mean length
        duration = times[-1] + length
    ascending = all(a < b for a, b in itertools.pairwise((*times, duration)))
    if not (times[0] >= 0 and ascending and math.isfinite(duration)):
        raise ValueError(
            "its times in seconds do not ascend from 0 or later, or are too large or too close to distinguish"
        )
    return FrameList(tuple(frames), times, duration)


def read_frame_list(path: str) -> FrameList:
    """The frames that a list names; cached while the file stays the same.

    Raises:
        MediaError: ``missing``, ``permission`` or ``unreadable``.
    """
    return _LISTS.get(file_version(path), lambda: _read(path))


def _read(path: str) -> FrameList:
    try:
        fields: Any = json.loads(Path(path).read_bytes())
        if not isinstance(fields, dict) or not isinstance(fields.get("frames"), list):
            raise ValueError('it is not an object with a list "frames"')
        names = fields["frames"]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("its frames are not all paths")
        root = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - keeps links
        frames = [os.path.normpath(os.path.join(root, name)) for name in names]  # noqa: PTH118
        return frame_list(frames, fps=fields.get("fps"), timestamps=fields.get("timestamps"))
    except OSError as error:
        raise file_error(path, error) from error
    except (ValueError, RecursionError) as error:
        what = f'{path} is not a valid list of frames: {error}; write {{"frames": [paths], "fps": frames per second}}'
        raise MediaError(what, path=path, reason="unreadable") from error


def _number(value: object) -> float:
    """A number as a float; NaN for anything else, and for integers too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


_FINGERPRINTS: VersionCache[str] = VersionCache(limit=1 << 20)


def media_version(path: str, *, regular: bool = True) -> FileVersion:
    """The version of a medium: of its file, or of a list of frames and all its frames.

    Args:
        path: the medium.
        regular: refuse directories, pipes and devices, which could block forever.

    Raises:
        MediaError: ``missing``, ``permission``, ``not_a_file``, or ``unreadable`` for an invalid list of frames.
    """
    own = file_version(path, regular=regular)
    if not is_frame_list(path):
        return own
    keys = [own, *(_frame_key(path, frame) for frame in read_frame_list(path).frames)]
    # One hash of all versions: equal sums must not hide that two frames were swapped.
    together = int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:7], "big")
    return (own[0], sum(key[1] for key in keys), max(key[2] for key in keys), together, max(key[4] for key in keys))


def is_unchanged(key: FileVersion) -> bool:
    """Whether a medium still has this version and any further change would show: only then may it be cached."""
    try:
        return media_version(key[0]) == key and is_settled(key)
    except MediaError:
        return False


def _frame_key(path: str, frame: str) -> FileVersion:
    try:
        return file_version(frame)
    except MediaError as error:
        raise MediaError(f"{path}: its frame {error}", path=path, reason=error.reason) from error


def remember_fingerprint(key: FileVersion, value: str) -> None:
    """Cache a fingerprint that another process computed for this file version."""
    _FINGERPRINTS.get(key, lambda: value)


def fingerprint(path: str) -> str:
    """SHA-256 of the file's bytes, in hex: a copied or renamed file keeps it, a replaced file does not.

    For a list of frames it covers the bytes of every frame, their order and their times.

    Raises:
        MediaError: the file cannot be read.
    """
    key = media_version(
        path, regular=False
    )  # decoding, which asks this too, is guarded by a deadline; probing asked before

    def read() -> str:
        if is_frame_list(path):
            return _of_frames(read_frame_list(path))
        try:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise file_error(path, error) from error

    return _FINGERPRINTS.get(key, read)


def _of_frames(frames: FrameList) -> str:
    whole = hashlib.sha256(repr(("frames/1", frames.timestamps, frames.duration)).encode())
    for frame in frames.frames:
        whole.update(bytes.fromhex(fingerprint(frame)))
    return whole.hexdigest()


def media_error(path: str, error: Exception) -> MediaError:
    """The ``MediaError`` for an error of the decoding library."""
    if isinstance(error, MemoryError):
        return MediaError(f"{path} needs more memory than it may take: {error}", path=path, reason="memory")
    if isinstance(error, FileNotFoundError | PermissionError):
        return file_error(path, error)
    return MediaError(
        f"{path} cannot be read as a video or an image: {error}; re-encode or remove it", path=path, reason="unreadable"
    )
