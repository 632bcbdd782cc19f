"""Whether media files are there and are what their column says, from their first bytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from easyvideor1.data.frame_videos import pictures_in
from easyvideor1.data.problems import RowError
from easyvideor1.types import MediaKind
from easyvideor1.video.formats import HEAD_BYTES, kinds_of_bytes, kinds_of_name, unsupported_image


class MediaCheck:
    """Checks that media files are there and are what their column says. Many rows share a file: it is read once."""

    def __init__(self, *, touch_files: bool = True) -> None:
        """With ``touch_files`` off, the name of a file is all that is looked at."""
        self._touch_files = touch_files
        self._seen: dict[str, RowError | frozenset[MediaKind]] = {}
        self._directories: dict[str, RowError | list[str]] = {}

    def __call__(self, field: str, path: str, kind: MediaKind) -> None:
        """Accept the absolute ``path`` as media of ``kind``, or say what is wrong with it.

        Raises:
            RowError: the file is missing, empty, unreadable, no file, or of the other kind.
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
        """The pictures of ``path`` where that is a directory, which is then a video; nothing of any other path.

        Raises:
            RowError: the directory holds no picture, or cannot be read.
        """
        if path not in self._directories:
            self._directories[path] = self._listed(path)
        found = self._directories[path]
        if isinstance(found, RowError):
            raise RowError(field, found.what, found.remedy)
        return found

    def _listed(self, path: str) -> list[str] | RowError:
        remedy = "name a directory that holds the frames of one video"
        try:
            if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir builds an object per row for nothing
                return []
            return pictures_in(Path(path)) or RowError("", f"directory {path!r} holds no picture", remedy)
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
            status = os.stat(path)  # noqa: PTH116 - Path.stat builds an object per row for nothing
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
        raise RowError("", f"{path!r} is an {form} picture, which is not read", "convert it to PNG or JPEG")


def _article(kind: MediaKind) -> str:
    return "an image" if kind == "image" else "a video"
