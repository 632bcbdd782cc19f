"""Media columns of a row: the files that an entry names, their kind, and videos that are given as frames."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.data.bad_rows import RowError
from easyvideor1.files import write_atomic
from easyvideor1.types import MediaKind
from easyvideor1.video.formats import HEAD_BYTES, kinds_of_bytes, kinds_of_name, unsupported_image
from easyvideor1.video.media_files import SUFFIX, frame_list

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{1,20})://")
_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
#: Keys of a mapping that name its file, in order of preference.
_NAMES = ("path", "url", "file", "file_name", "filename")
_HEADS = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


#: Suffixes under which a video is looked for that a row names without one, as annotations by id do.
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def video_of_id(path: str) -> str:
    """The file of a video whose name may lack its suffix; the path itself where there is none."""
    if kinds_of_name(path):
        return path
    try:
        if Path(path).exists():
            return path
        return next((path + suffix for suffix in _VIDEO_SUFFIXES if Path(path + suffix).is_file()), path)
    except (OSError, ValueError):  # no name of a file, which is told with the row
        return path


#: Key of a mapping for the frames of a video, besides ``video``.
_FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class MediaEntry:
    """A path as in the row, and the other keys of its mapping; a video may have ``frames`` instead of the path."""

    path: str
    options: Mapping[str, Any]
    frames: tuple[str, ...] = ()


def read_entry(value: Any, column: str, number: int, kind: MediaKind, embedded: Path) -> MediaEntry:
    """The file of an entry of a media column.

    Bytes in the row or in a ``data:`` URL are written once, named by their SHA-256, into ``embedded``.

    Raises:
        RowError: the entry names no file, or not a local one.
    """
    if isinstance(value, Mapping):
        named = {name: entry for name, entry in value.items() if entry is not None}
        content = named.pop("bytes", None)
        if isinstance(content, bytes | bytearray) and content:
            return MediaEntry(
                _written(bytes(content), embedded), {key: named[key] for key in named if key not in _NAMES}
            )
        frames = next((name for name in (kind, _FRAMES) if isinstance(named.get(name), list)), None)
        if kind == "video" and frames is not None:
            listed = named.pop(frames)
            return MediaEntry("", named, _frames(listed, column, number, embedded))
        for name in (kind, *_NAMES):
            if isinstance(named.get(name), str):
                path = named.pop(name)
                rest = {key: named[key] for key in named if key not in _NAMES}
                return MediaEntry(_file(path, column, number, embedded), rest)
    elif isinstance(value, list) and kind == "video":
        return MediaEntry("", {}, _frames(value, column, number, embedded))
    elif isinstance(value, bytes | bytearray) and value:
        return MediaEntry(_written(bytes(value), embedded), {})
    elif isinstance(value, str) and value.strip():
        return MediaEntry(_file(value, column, number, embedded), {})
    what = f"entry {number} is {type(value).__name__} {str(value)[:40]!r}, not a path"
    remedy = f'write the media into a file and put its path here, or {{"{kind}": its path}}'
    raise RowError(column, what, remedy)


def _frames(value: list[Any], column: str, number: int, embedded: Path) -> tuple[str, ...]:
    found = []
    for place, frame in enumerate(value, start=1):
        try:
            entry = read_entry(frame, column, place, "image", embedded)
        except RowError as error:
            raise RowError(column, f"entry {number} is a list of frames whose {error.what}", error.remedy) from None
        if entry.options:
            what = f"entry {number} is a list of frames whose entry {place} has the keys {', '.join(entry.options)}"
            raise RowError(column, what, "set limits for the list, not for a frame")
        found.append(entry.path)
    if not found:
        raise RowError(column, f"entry {number} is an empty list of frames", "list the frames of the video, in order")
    return tuple(found)


def _file(path: str, column: str, number: int, embedded: Path) -> str:
    if head := _DATA.match(path):
        try:
            return _written(base64.b64decode(path[head.end() :], validate=True), embedded)
        except binascii.Error as error:
            raise RowError(column, f"entry {number} is a data URL and not base64: {error}", "write a path") from None
    found = _URL.match(path)
    if found is None:
        return path
    if found[1].lower() == "file":
        return urllib.request.url2pathname(urllib.parse.urlparse(path).path)
    what = f"entry {number} is the URL {path[:80]!r}, which is not fetched"
    raise RowError(column, what, "download the file and put its path here")


def _written(content: bytes, embedded: Path) -> str:
    suffix = next((suffix for head, suffix in _HEADS if content.startswith(head)), "")
    digest = hashlib.sha256(content).hexdigest()
    path = embedded / digest[:2] / f"{digest}{suffix}"
    if not path.exists() or path.stat().st_size != len(content):
        write_atomic(path, content)
    return str(path.absolute())


#: Keys of an entry for the frame rate (``sample_fps`` in qwen-vl-utils), and for frame times in seconds.
_RATES = ("fps", "sample_fps")
_TIMES = "timestamps"
#: Bytes of the directory name in the name of its list; file systems allow 255 in total.
_LABEL_BYTES = 80
_NUMBERS = re.compile(r"(\d+)")


def pictures_in(directory: Path) -> list[str]:
    """Absolute paths of the images in a directory, sorted by the numbers in their names. Names that begin with a dot
    and files that are neither images nor videos by name are skipped.

    Raises:
        RowError: it contains a video, an image of an unsupported format, or a name that is not UTF-8.
        OSError: the directory cannot be read.
    """
    files = [path for path in directory.iterdir() if not path.name.startswith(".") and path.is_file()]
    remedy = "keep the frames of a video in a directory of their own, or list them in the row"
    for path in files:
        shown = os.fsencode(path.name).decode(errors="replace")
        if shown != path.name:
            raise RowError("", f"directory {str(directory)!r} contains {shown!r}, a name that is not UTF-8", remedy)
        if kinds_of_name(path.name) == {"video"}:
            raise RowError("", f"directory {str(directory)!r} contains the video {shown!r} beside images", remedy)
        if form := unsupported_image(b"", path.name):
            what = f"directory {str(directory)!r} contains {shown!r}, an {form} image, which is not supported"
            raise RowError("", what, "convert it to PNG or JPEG")
    pictures = [path for path in files if "image" in kinds_of_name(path.name)]
    return [str(path.absolute()) for path in sorted(pictures, key=lambda path: (_natural(path.name), path.name))]


def write_frame_list(
    frames: Sequence[str], options: Mapping[str, Any], column: str, *, fps: float | None, directory: Path
) -> tuple[str, dict[str, Any]]:
    """Write a list of frames; returns its path and the remaining options of the entry.

    The name depends on the content, so that equal frames with equal times share one file.

    Args:
        frames: absolute paths.
        options: of the entry: ``fps``, ``sample_fps`` or ``timestamps``, and limits.
        column: the column to name in errors.
        fps: frames per second if the entry has no times.
        directory: the directory of the file.

    Raises:
        RowError: the frames have no times, or invalid ones.
    """
    rest = dict(options)
    rates = {name: rest.pop(name) for name in _RATES if rest.get(name) is not None}
    times = rest.pop(_TIMES, None)
    rate = next(iter(rates.values()), fps if times is None else None)
    if rate is None and times is None:
        what = f"has a video of {len(frames)} frames without times"
        remedy = 'write {"video": [...], "fps": frames per second} or "timestamps", or set frames_fps of the source'
        raise RowError(column, what, remedy)
    try:
        if len(rates) > 1 and len(set(rates.values())) > 1:
            raise ValueError("fps and sample_fps differ")
        frame_list(frames, fps=rate, timestamps=times)
    except ValueError as error:
        raise RowError(column, f"has an invalid list of frames: {error}", "correct the entry") from None
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


class MediaCheck:
    """Checks that media files exist and match their column. A file that many rows share is read once."""

    def __init__(self, *, touch_files: bool = True) -> None:
        """With ``touch_files=False``, only the name of a file is checked."""
        self._touch_files = touch_files
        self._seen: dict[str, RowError | frozenset[MediaKind]] = {}
        self._directories: dict[str, RowError | list[str]] = {}

    def __call__(self, field: str, path: str, kind: MediaKind) -> None:
        """Check that the file at the absolute ``path`` is of ``kind``.

        Raises:
            RowError: the file is missing, empty, unreadable, not a file, or of the other kind.
        """
        if path not in self._seen:
            try:
                self._seen[path] = self._look(path)
            except RowError as error:
                self._seen[path] = error
        found = self._seen[path]
        if isinstance(found, RowError):
            raise RowError(field, found.what, found.remedy)
        if found and kind not in found:
            other = "images" if kind == "video" else "videos"
            (actual,) = found
            remedy = f"move it to the {other} column"
            if kind == "video":
                remedy += ", or write the frames of one video as a list of their own, [[first, second, ...]]"
            raise RowError(field, f"{path!r} is {_article(actual)}, not {_article(kind)}", remedy)

    def frames_of(self, field: str, path: str) -> list[str]:
        """The images in ``path`` if it is a directory, which is then a video; else an empty list.

        Raises:
            RowError: the directory has no images, or cannot be read.
        """
        if path not in self._directories:
            self._directories[path] = self._listed(path)
        found = self._directories[path]
        if isinstance(found, RowError):
            raise RowError(field, found.what, found.remedy)
        return found

    def _listed(self, path: str) -> list[str] | RowError:
        remedy = "name a directory with the frames of one video"
        try:
            if not os.path.isdir(path):  # noqa: PTH112 - called for every row; Path.is_dir would build an object
                return []
            return pictures_in(Path(path)) or RowError("", f"directory {path!r} has no images", remedy)
        except RowError as error:
            return error
        except OSError as error:
            return RowError("", f"directory {path!r} cannot be read: {error}", remedy)

    def _look(self, path: str) -> frozenset[MediaKind]:
        if not self._touch_files:
            _refuse_unread(b"", path)
            return kinds_of_name(path)
        remedy = "correct the path, or set media_root of the source to the directory that relative paths start from"
        try:
            status = os.stat(path)  # noqa: PTH116 - called for every row; Path.stat would build an object
            if not stat.S_ISREG(status.st_mode):
                raise RowError("", f"{path!r} is not a regular file", remedy)
            if status.st_size == 0:
                raise RowError("", f"media file {path!r} is empty (0 bytes)", "fetch the file again or remove the row")
            with Path(path).open("rb") as file:
                head = file.read(HEAD_BYTES)
        except FileNotFoundError:
            raise RowError("", f"media file {path!r} does not exist", remedy) from None
        except (OSError, ValueError) as error:  # no permission, a name too long, a NUL in the name
            raise RowError("", f"media file {path!r} cannot be opened: {error}", remedy) from error
        _refuse_unread(head, path)
        return kinds_of_bytes(head) or kinds_of_name(path)


def _refuse_unread(head: bytes, path: str) -> None:
    if form := unsupported_image(head, path):
        raise RowError("", f"{path!r} is an {form} image, which is not supported", "convert it to PNG or JPEG")


def _article(kind: MediaKind) -> str:
    return "an image" if kind == "image" else "a video"
