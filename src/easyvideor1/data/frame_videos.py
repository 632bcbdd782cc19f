"""Videos that a row names as frames, a list or a directory of pictures, become files that list frames and times."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easyvideor1.data.problems import RowError
from easyvideor1.files import write_atomic
from easyvideor1.video.formats import kinds_of_name, unsupported_image
from easyvideor1.video.media_files import SUFFIX, frame_list

#: What an entry calls the rate of its frames (``sample_fps`` in qwen-vl-utils), and their times in seconds.
_RATES = ("fps", "sample_fps")
_TIMES = "timestamps"
#: Of the name of a directory that its list is called by; file systems allow 255 in all.
_LABEL_BYTES = 80
_NUMBERS = re.compile(r"(\d+)")


def pictures_in(directory: Path) -> list[str]:
    """Absolute paths of the pictures of a directory, in the order of the numbers in their names; what begins with a dot
    is left out, and so is what is neither a picture nor a video by its name.

    Raises:
        RowError: it holds what would be missed among the frames: a video, a picture of a format that is not read, or a
            name that is no text.
        OSError: it cannot be read.
    """
    files = [path for path in directory.iterdir() if not path.name.startswith(".") and path.is_file()]
    remedy = "keep the frames of a video in a directory of their own, or list them in the row"
    for path in files:
        shown = os.fsencode(path.name).decode(errors="replace")
        if shown != path.name:
            raise RowError("", f"directory {str(directory)!r} holds {shown!r}, a name that is no UTF-8", remedy)
        if kinds_of_name(path.name) == {"video"}:
            raise RowError("", f"directory {str(directory)!r} holds the video {shown!r} beside pictures", remedy)
        if form := unsupported_image(b"", path.name):
            what = f"directory {str(directory)!r} holds {shown!r}, an {form} picture, which is not read"
            raise RowError("", what, "convert it to PNG or JPEG")
    pictures = [path for path in files if "image" in kinds_of_name(path.name)]
    return [str(path.absolute()) for path in sorted(pictures, key=lambda path: (_natural(path.name), path.name))]


def write_frame_list(
    frames: Sequence[str], options: Mapping[str, Any], column: str, *, fps: float | None, directory: Path
) -> tuple[str, dict[str, Any]]:
    """The path of a file that lists frames, and what is left of the options of their entry.

    The file is named by what it holds, so that the same frames with the same times are one file.

    Args:
        frames: absolute paths.
        options: of the entry: ``fps``, ``sample_fps`` or ``timestamps``, and limits of its own.
        column: that errors name.
        fps: frames per second where the entry gives no times.
        directory: where the file goes.

    Raises:
        RowError: the frames have no times, or impossible ones.
    """
    rest = dict(options)
    rates = {name: rest.pop(name) for name in _RATES if rest.get(name) is not None}
    times = rest.pop(_TIMES, None)
    rate = next(iter(rates.values()), fps if times is None else None)
    if rate is None and times is None:
        what = f"holds a video of {len(frames)} frames without their times"
        remedy = 'write {"video": [...], "fps": frames per second} or "timestamps", or set frames_fps of the source'
        raise RowError(column, what, remedy)
    try:
        if len(rates) > 1 and len(set(rates.values())) > 1:
            raise ValueError("fps and sample_fps differ")
        frame_list(frames, fps=rate, timestamps=times)
    except ValueError as error:
        raise RowError(column, f"holds a list of frames: {error}", "correct the entry") from None
    fields = {"frames": list(frames)} | ({"fps": rate} if times is None else {"timestamps": times})
    content = json.dumps(fields, ensure_ascii=False).encode()
    digest = hashlib.sha256(content).hexdigest()
    label = Path(frames[0]).parent.name.encode()[:_LABEL_BYTES].decode(errors="ignore")
    path = directory / digest[:2] / f"{label}-{digest[:16]}{SUFFIX}"
    if not path.exists() or path.stat().st_size != len(content):
        write_atomic(path, content)
    return str(path.absolute()), rest


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """``frame_2`` before ``frame_10``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(name) if part)
