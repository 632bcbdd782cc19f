"""Tracks of objects in a video: the file format ``tracks.json``, in which a detector and tracker hand over their work.

```
{"width": 640, "height": 360, "frames": 250,
 "objects": [{"id": 1, "label": "red car", "boxes": {"0": [10, 20, 60, 80], "1": [12, 20, 62, 80]}}]}
```

``width``, ``height`` (pixels, after rotation) and ``frames`` are those of the video; ``fps`` may be given, for measures
of time. Boxes are ``[x1, y1, x2, y2]`` in its pixels, by the index of the frame, counted from 0; they may reach over
the edge of the picture. An object has no box where it cannot be seen.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.types import DataError, EffectFile, MediaInfo

Box = tuple[float, float, float, float]

#: Behind the name of a video without its suffix: ``clip.mp4`` has its tracks in ``clip.tracks.json``.
SUFFIX = ".tracks.json"


@dataclass(frozen=True, slots=True)
class Track:
    """One object: its number, its name, and its boxes by the index of the frame."""

    id: int
    label: str
    boxes: Mapping[int, Box]


@dataclass(frozen=True, slots=True)
class Tracks:
    """All objects of a video, in ascending order of ``id``, and the size of the video that they were made for."""

    width: int
    height: int
    frames: int
    objects: tuple[Track, ...]
    fps: float | None = None

    def of(self, id: int) -> Track | None:
        """The object of a number."""
        return next((track for track in self.objects if track.id == id), None)


def tracks_beside(video: str) -> str:
    """Where the tracks of a video are looked for if nothing else is said: beside it."""
    return str(Path(video).with_suffix("")) + SUFFIX


def tracks_file(path: str) -> EffectFile:
    """A file of tracks with the digest of its content, read and checked.

    Raises:
        DataError: as ``read_tracks``.
    """
    content = _content(path)
    _parsed(path, content)
    return EffectFile(path, hashlib.sha256(content).hexdigest())


@functools.lru_cache(maxsize=256)
def read_tracks(file: EffectFile) -> Tracks:
    """The tracks of a file.

    Raises:
        DataError: the file is missing, changed since its digest was taken, or no ``tracks.json``; the message names
            file, place and remedy.
    """
    content = _content(file.path)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(f"{file.path}: the tracks have changed since this run read them - restore them, or start again")
    return _parsed(file.path, content)


def video_fault(tracks: Tracks, info: MediaInfo) -> str:
    """How tracks disagree with the video that they are used for; empty if they agree."""
    own = (tracks.width, tracks.height, tracks.frames)
    video = (info.width, info.height, info.frame_count)
    if own == video:
        return ""
    return "the tracks are of {} x {} pixels and {} frames, the video has {} x {} and {}".format(*own, *video)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: the tracks cannot be read: {error.strerror or error} - write them with a tracker, or correct the "
            "path"
        ) from error


def _parsed(path: str, content: bytes) -> Tracks:
    try:
        value: Any = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error} - write the tracks again") from error
    try:
        return _tracks(value)
    except _FormatError as error:
        raise DataError(f"{path}: {error} - write it as docs/data.md says (tracks.json)") from None


class _FormatError(Exception):
    pass


def _tracks(value: Any) -> Tracks:
    if not isinstance(value, dict):
        raise _FormatError("not an object with width, height, frames and objects")
    width, height, frames = (_count(value, key) for key in ("width", "height", "frames"))
    objects = value.get("objects")
    if not isinstance(objects, list):
        raise _FormatError("objects is not a list")
    found: dict[int, Track] = {}
    for place, item in enumerate(objects):
        where = f"objects[{place}]"
        if not isinstance(item, dict) or not isinstance(item.get("boxes"), dict):
            raise _FormatError(f"{where} is not an object with id and boxes")
        number = item.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise _FormatError(f"{where}.id is {number!r}, not a whole number from 0")
        if number in found:
            raise _FormatError(f"{where}.id is {number}, which an object before it has")
        boxes = dict(_boxes(item["boxes"].items(), where, frames, (width, height)))
        found[number] = Track(number, str(item.get("label", "")), boxes)
    _check_pixels(found.values())
    fps = value.get("fps")
    if fps is not None and (not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < math.inf):
        raise _FormatError(f"fps is {fps!r}, not a number above 0")
    objects_in_order = tuple(found[number] for number in sorted(found))
    return Tracks(width, height, frames, objects_in_order, None if fps is None else float(fps))


def _count(value: Mapping[str, Any], key: str) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise _FormatError(f"{key} is {number!r}, not a whole number from 1")
    return number


def _check_pixels(tracks: Iterable[Track]) -> None:
    """Refuse boxes that are shares of the picture: of these, none has a coordinate above 1."""
    boxes = [(track.id, frame, box) for track in tracks for frame, box in track.boxes.items()]
    if boxes and all(0 <= coordinate <= 1 for _, _, box in boxes for coordinate in box):
        number, frame, box = boxes[0]
        raise _FormatError(
            f"all coordinates lie in [0, 1], as {list(box)} in frame {frame} of the object {number}: boxes are in "
            "pixels of the video, so multiply them by its width and height"
        )


def _boxes(
    items: Iterable[tuple[Any, Any]], where: str, frames: int, size: tuple[int, int]
) -> Iterable[tuple[int, Box]]:
    for key, box in items:
        place = f"{where}.boxes[{key!r}]"
        if not str(key).isdecimal() or int(key) >= frames:
            raise _FormatError(f"{place}: not the index of one of {frames} frames")
        if str(int(key)) != key:  # two keys must not mean one frame
            raise _FormatError(f"{place}: an index is written without leading zeros, so as {str(int(key))!r}")
        numbers = box if isinstance(box, list) else []
        if len(numbers) != 4 or not all(
            isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in numbers
        ):
            raise _FormatError(f"{place} is {box!r}, not four numbers [x1, y1, x2, y2]")
        x1, y1, x2, y2 = map(float, numbers)
        if x1 >= x2 or y1 >= y2:
            raise _FormatError(f"{place} is {box!r}: the second corner must lie right of and below the first")
        if x2 <= 0 or y2 <= 0 or x1 >= size[0] or y1 >= size[1]:
            raise _FormatError(
                f"{place} is {box!r}, which lies outside of the picture of {size[0]} x {size[1]} pixels: an object has "
                "no box where it cannot be seen"
            )
        yield int(key), (x1, y1, x2, y2)
