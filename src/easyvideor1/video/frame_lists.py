"""Videos that are kept as pictures: a file ``NAME.frames.json`` lists the frames and says when each of them is shown.

``{"frames": ["000.jpg", "001.jpg"], "fps": 2.0}``, or ``"timestamps"`` in seconds, one per frame, in place of ``fps``.
Relative names start at the directory of the list. Rows may hold the same themselves; loading them writes such a file.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.types import MediaError
from easyvideor1.video.versions import FileMemo, file_error, file_key

SUFFIX = ".frames.json"


@dataclass(frozen=True, slots=True)
class FrameList:
    """Absolute paths of the frames, the time of each in seconds (ascending), and where the last one ends."""

    frames: tuple[str, ...]
    timestamps: tuple[float, ...]
    duration: float

    @property
    def fps(self) -> float:
        """Frames per second, on average."""
        return len(self.frames) / (self.duration - self.timestamps[0])


_LISTS: FileMemo[FrameList] = FileMemo(limit=1_000_000, weigh=lambda value: len(value.frames))


def is_frame_list(path: str) -> bool:
    """Whether a path names a list of frames."""
    return path.endswith(SUFFIX)


def frame_list(frames: Sequence[str], *, fps: object = None, timestamps: object = None) -> FrameList:
    """Frames with their times.

    Args:
        frames: their paths.
        fps: frames per second, the first at 0 s.
        timestamps: seconds of every frame, in place of ``fps``; they stay as they are, wherever they begin.

    Raises:
        ValueError: there are no frames, neither or both of the times are given, or they are no such times.
    """
    count = len(frames)
    if not count:
        raise ValueError("it lists no frame")
    if (fps is None) == (timestamps is None):
        raise ValueError("give either fps or timestamps, the times of the frames in seconds")
    if timestamps is None:
        rate = _number(fps)
        if not 0 < rate < math.inf:
            raise ValueError(f"fps is {str(fps)[:40]!s}, not a number above 0")
        times, duration = tuple(index / rate for index in range(count)), count / rate
    else:
        if not isinstance(timestamps, list | tuple):
            raise ValueError("timestamps are no list of seconds")
        times = tuple(map(_number, timestamps))
        if len(times) != count:
            raise ValueError(f"there are {count} frames and {len(times)} timestamps")
        length = (times[-1] - times[0]) / (count - 1) if count > 1 else 1.0  # the last frame stays as long as others
        duration = times[-1] + length
    ascending = all(a < b for a, b in itertools.pairwise((*times, duration)))
    if not (times[0] >= 0 and ascending and math.isfinite(duration)):
        raise ValueError(
            "its times in seconds do not ascend from 0 or later, or are too large or too near to be told apart"
        )
    return FrameList(tuple(frames), times, duration)


def read_frame_list(path: str) -> FrameList:
    """The frames that a list names; remembered for as long as the file stays the same.

    Raises:
        MediaError: ``missing``, ``permission`` or ``unreadable``.
    """
    return _LISTS.get(file_key(path), lambda: _read(path))


def _read(path: str) -> FrameList:
    try:
        fields: Any = json.loads(Path(path).read_bytes())
        if not isinstance(fields, dict) or not isinstance(fields.get("frames"), list):
            raise ValueError('it is no object with a list of "frames"')
        names = fields["frames"]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("its frames are not all paths")
        root = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - keeps links
        frames = [os.path.normpath(os.path.join(root, name)) for name in names]  # noqa: PTH118
        return frame_list(frames, fps=fields.get("fps"), timestamps=fields.get("timestamps"))
    except OSError as error:
        raise file_error(path, error) from error
    except (ValueError, RecursionError) as error:
        what = f'{path} is no list of frames: {error}; write {{"frames": [paths], "fps": frames per second}}'
        raise MediaError(what, path=path, reason="unreadable") from error


def _number(value: object) -> float:
    """A number as a float; NaN for anything else, and for integers that no float can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
