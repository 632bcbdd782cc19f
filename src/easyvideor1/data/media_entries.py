"""One entry of a media column: a path, a mapping that names one, the bytes of a picture, or the frames of a video."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.data.problems import RowError
from easyvideor1.files import write_atomic
from easyvideor1.types import MediaKind

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{1,20})://")
_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
#: What a mapping calls its file, in the order they are looked for.
_NAMES = ("path", "url", "file", "file_name", "filename")
_HEADS = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


#: What a mapping may call the frames of a video, beside ``video``.
_FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class Entry:
    """A path as the row gives it, and what else its mapping holds; or, of a video, ``frames`` in place of the path."""

    path: str
    options: Mapping[str, Any]
    frames: tuple[str, ...] = ()


def read_entry(value: Any, column: str, number: int, kind: MediaKind, embedded: Path) -> Entry:
    """The file that an entry of a media column names.

    Bytes in the row itself, and those of a ``data:`` URL, are written once, named by their SHA-256, into ``embedded``.

    Raises:
        RowError: it names none, or one that is no local file.
    """
    if isinstance(value, Mapping):
        named = {name: entry for name, entry in value.items() if entry is not None}
        content = named.pop("bytes", None)
        if isinstance(content, bytes | bytearray) and content:
            return Entry(_written(bytes(content), embedded), {key: named[key] for key in named if key not in _NAMES})
        frames = next((name for name in (kind, _FRAMES) if isinstance(named.get(name), list)), None)
        if kind == "video" and frames is not None:
            listed = named.pop(frames)
            return Entry("", named, _frames(listed, column, number, embedded))
        for name in (kind, *_NAMES):
            if isinstance(named.get(name), str):
                path = named.pop(name)
                rest = {key: named[key] for key in named if key not in _NAMES}
                return Entry(_file(path, column, number, embedded), rest)
    elif isinstance(value, list) and kind == "video":
        return Entry("", {}, _frames(value, column, number, embedded))
    elif isinstance(value, bytes | bytearray) and value:
        return Entry(_written(bytes(value), embedded), {})
    elif isinstance(value, str) and value.strip():
        return Entry(_file(value, column, number, embedded), {})
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
            raise RowError(column, what, "give limits to the list, not to a frame")
        found.append(entry.path)
    if not found:
        raise RowError(column, f"entry {number} is a list without frames", "list the frames of the video, in order")
    return tuple(found)


def _file(path: str, column: str, number: int, embedded: Path) -> str:
    if head := _DATA.match(path):
        try:
            return _written(base64.b64decode(path[head.end() :], validate=True), embedded)
        except binascii.Error as error:
            raise RowError(column, f"entry {number} is a data URL that is no base64: {error}", "write a path") from None
    found = _URL.match(path)
    if found is None:
        return path
    if found[1].lower() == "file":
        return urllib.request.url2pathname(urllib.parse.urlparse(path).path)
    what = f"entry {number} is the URL {path[:80]!r}, and nothing is fetched while a model trains"
    raise RowError(column, what, "download the file and put its path here")


def _written(content: bytes, embedded: Path) -> str:
    suffix = next((suffix for head, suffix in _HEADS if content.startswith(head)), "")
    digest = hashlib.sha256(content).hexdigest()
    path = embedded / digest[:2] / f"{digest}{suffix}"
    if not path.exists() or path.stat().st_size != len(content):
        write_atomic(path, content)
    return str(path.absolute())
