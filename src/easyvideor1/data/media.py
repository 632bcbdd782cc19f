"""What kind of media a file is, from its first bytes rather than from its name or column."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from easyvideor1.data.problems import RowError
from easyvideor1.types import MediaKind

_IMAGE: frozenset[MediaKind] = frozenset({"image"})
_VIDEO: frozenset[MediaKind] = frozenset({"video"})
_EITHER: frozenset[MediaKind] = frozenset({"image", "video"})

# Formats that are recognised by their leading bytes. A GIF may be a picture or a clip: both columns may hold one.
_SIGNATURES: tuple[tuple[bytes, frozenset[MediaKind]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _IMAGE),
    (b"\xff\xd8\xff", _IMAGE),  # JPEG
    (b"BM", _IMAGE),  # BMP
    (b"II*\x00", _IMAGE),  # TIFF, little-endian
    (b"MM\x00*", _IMAGE),  # TIFF, big-endian
    (b"GIF87a", _EITHER),
    (b"GIF89a", _EITHER),
    (b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (b"FLV\x01", _VIDEO),
    (b"OggS", _VIDEO),
    (b"\x00\x00\x01\xba", _VIDEO),  # MPEG programme stream
    (b"\x00\x00\x01\xb3", _VIDEO),  # MPEG video sequence
    (b"0&\xb2u\x8ef\xcf\x11", _VIDEO),  # ASF, WMV
)
# Brands of the ISO base media format (ISO/IEC 14496-12) that hold still pictures; every other brand is a film.
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"mif1"})
_SEQUENCE_BRANDS = frozenset({b"avis", b"hevc", b"msf1"})
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})

_SUFFIXES: dict[str, frozenset[MediaKind]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic"), _IMAGE),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ogv", ".mpg", ".mpeg"), _VIDEO),
    **dict.fromkeys((".ts", ".wmv", ".3gp"), _VIDEO),
    ".gif": _EITHER,
}

_HEAD_BYTES = 192


def kinds_of_bytes(head: bytes) -> frozenset[MediaKind]:
    """The kinds of media that a file starting with ``head`` can be; empty when the format is not recognised."""
    for signature, kinds in _SIGNATURES:
        if head.startswith(signature):
            return kinds
    if head.startswith(b"RIFF"):
        return {b"WEBP": _IMAGE, b"AVI ": _VIDEO}.get(head[8:12], frozenset())
    box, brand = head[4:8], head[8:12]
    if box == b"ftyp":
        return _IMAGE if brand in _STILL_BRANDS else _EITHER if brand in _SEQUENCE_BRANDS else _VIDEO
    if box in _QUICKTIME_ATOMS:
        return _VIDEO
    if len(head) > 188 and head[0] == head[188] == 0x47:  # two sync bytes of an MPEG transport stream
        return _VIDEO
    return frozenset()


def kinds_of_name(path: str) -> frozenset[MediaKind]:
    """The kinds of media that a file of this name can be; empty when the suffix is not known."""
    return _SUFFIXES.get(Path(path).suffix.lower(), frozenset())


class MediaCheck:
    """Checks that media files are there and are what their column says. Many rows share a file: it is read once."""

    def __init__(self, *, touch_files: bool = True) -> None:
        """With ``touch_files`` off, the name of a file is all that is looked at."""
        self._touch_files = touch_files
        self._seen: dict[str, RowError | frozenset[MediaKind]] = {}

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
            raise RowError(
                field, f"{path!r} is {_article(actual)}, not {_article(kind)}", f"move it to the {other} column"
            )

    def _look(self, path: str) -> frozenset[MediaKind]:
        if not self._touch_files:
            return kinds_of_name(path)
        remedy = "correct the path, or set media_root of the source to the directory that relative paths start from"
        try:
            status = os.stat(path)  # noqa: PTH116 - Path.stat builds an object per row for nothing
            if not stat.S_ISREG(status.st_mode):
                raise RowError("", f"{path!r} is not a regular file", remedy)
            if status.st_size == 0:
                raise RowError("", f"media file {path!r} is empty (0 bytes)", "fetch the file again or remove the row")
            with Path(path).open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except FileNotFoundError:
            raise RowError("", f"media file {path!r} does not exist", remedy) from None
        except (OSError, ValueError) as error:  # no permission, a name too long, a NUL in the name
            raise RowError("", f"media file {path!r} cannot be opened: {error}", remedy) from error
        return kinds_of_bytes(head) or kinds_of_name(path)


def _article(kind: MediaKind) -> str:
    return "an image" if kind == "image" else "a video"
