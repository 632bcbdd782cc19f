"""The media of a request as files: uploads are written into a directory of the request, paths are checked.

Nothing is fetched from a network. A path must lie below a directory that the server may read, after all links are
followed.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.config import DataConfig, SourceConfig
from easyvideor1.data.bad_rows import RowError
from easyvideor1.data.budgets import Budgets
from easyvideor1.data.media import MediaCheck, write_frame_list
from easyvideor1.serving.chat_messages import MediaPart
from easyvideor1.serving.errors import RequestError
from easyvideor1.types import MediaKind, MediaRef
from easyvideor1.video.media_files import is_frame_list

_DATA = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{1,20}):")


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Largest numbers of videos and of images of a request and of frames of one list, and the longest clip in seconds.

    A client that has no other way to send a video sends its frames as images, so there may be as many of these.
    """

    videos: int = 16
    images: int = 1024
    frames: int = 1024
    seconds: float = 3600.0


class RequestMedia:
    """The media of one request.

    Args:
        roots: directories that paths may lie in, without links.
        directory: where uploads are written; it belongs to this request.
        limits: of a request.
        data: the budgets that a request may change, for its own media.
    """

    def __init__(self, roots: Sequence[Path], directory: Path, limits: MediaLimits, data: DataConfig) -> None:
        self._roots = roots
        self._directory = directory
        self._limits = limits
        self._budgets = Budgets.of(SourceConfig(path=""), data)
        self._names: dict[str, str] = {}

    def refs(self, parts: Sequence[MediaPart]) -> list[MediaRef]:
        """The media of a request, in order.

        Raises:
            RequestError: there are too many; one is no file that may be read, is of the other kind, or its clip, budget
                or times are wrong.
        """
        for kind, most in (("video", self._limits.videos), ("image", self._limits.images)):
            own = [part for part in parts if part.kind == kind]
            if len(own) > most:
                what = f"the request has {len(own)} {kind}s, this server takes {most}; send fewer, or start it with "
                what += f"--max-{kind}s {len(own)}"
                raise RequestError(what, status=413, param=own[most].where, code="too_many_media")
        return [self._ref(part) for part in parts]

    def _ref(self, part: MediaPart) -> MediaRef:
        options = dict(part.options)
        try:
            if isinstance(part.source, tuple):
                path, options = self._frame_list(part, options)
            else:
                path = self._file(part.source, part.kind, part.where)
            ref = MediaRef(part.kind, path)
            return self._budgets.of_entry(ref, part.where, options)
        except RowError as error:
            what = self.named(f"{error.field or part.where}: {error.what} - {error.remedy}")
            raise RequestError(what, param=part.where, code="invalid_media") from error

    def _frame_list(self, part: MediaPart, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        if len(part.source) > self._limits.frames:
            what = f"{part.where} has {len(part.source)} frames, this server takes {self._limits.frames}; send fewer, "
            what += f"or start it with --max-frames {len(part.source)}"
            raise RequestError(what, status=413, param=part.where, code="too_many_frames")
        frames = [self._file(frame, "image", f"{part.where}[{n}]") for n, frame in enumerate(part.source)]
        path, rest = write_frame_list(frames, options, part.where, fps=None, directory=self._directory)
        self._names[path] = part.where
        return path, rest

    def _file(self, source: str, kind: MediaKind, where: str) -> str:
        """The path of an uploaded or a named file, which exists and is of a kind by its first bytes."""
        if source[:5].lower() == "data:":
            path = self._uploaded(source, where)
        else:
            path = self._readable(_path_of(source, where), where)
        MediaCheck()(where, path, kind)
        return path

    def _uploaded(self, url: str, where: str) -> str:
        head = _DATA.match(url)
        if head is None or head[1] is None:
            what = f"{where}: this data: URL is not base64; write data:video/mp4;base64, and the bytes"
            raise RequestError(what, param=where, code="invalid_media")
        try:
            content = base64.b64decode(url[head.end() :], validate=True)
        except (binascii.Error, ValueError) as error:
            what = f"{where}: this data: URL is not base64: {error}"
            raise RequestError(what, param=where, code="invalid_media") from error
        path = self._directory / f"upload{len(self._names)}"
        path.write_bytes(content)
        self._names[str(path)] = where
        return str(path)

    def _readable(self, path: Path, where: str) -> str:
        """``path`` without links. Whether a file outside of the roots exists is not told."""
        if not self._roots:
            what = f"{where}: this server reads no files; send a data: URL, or start it with --media-root DIR"
            raise RequestError(what, param=where, code="invalid_media")
        for candidate in [path] if path.is_absolute() else [root / path for root in self._roots]:
            try:
                found = candidate.resolve(strict=True)
            except (OSError, ValueError, RuntimeError):  # not there, a NUL in its name, links in a circle
                continue
            inside = any(found.is_relative_to(root) for root in self._roots)
            # A list of frames names further files, which nobody has checked.
            if inside and found.is_file() and not is_frame_list(str(found)):
                self._names[str(found)] = str(path)
                return str(found)
        what = f"{where}: {str(path)[:200]!r} is no media file below a media root of this server"
        raise RequestError(what, param=where, code="invalid_media")

    def named(self, message: str) -> str:
        """A message that names media as the request does, and not by the server's paths."""
        for path, name in sorted(self._names.items(), key=lambda item: -len(item[0])):
            message = message.replace(path, name)
        # What failed before may have been the upload of another request with the same bytes.
        return re.sub(rf"{re.escape(str(self._directory.parent))}/[\w./-]*\w", "the upload", message)


def _path_of(source: str, where: str) -> Path:
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Path(source)
    if scheme[1].lower() != "file":
        what = f"{where}: {source[:80]!r} is not fetched: this server opens no addresses; send a data: URL or a path"
        raise RequestError(what, param=where, code="invalid_media")
    try:
        url = urllib.parse.urlsplit(source)
    except ValueError as error:
        raise RequestError(f"{where}: {source[:80]!r}: {error}", param=where, code="invalid_media") from error
    if url.netloc not in ("", "localhost"):
        raise RequestError(f"{where}: {source[:80]!r} is a file of another machine", param=where, code="invalid_media")
    return Path(urllib.request.url2pathname(url.path))
