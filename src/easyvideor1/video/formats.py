"""Supported formats, the kinds of media a file can be, and the media files named on a command line."""

from __future__ import annotations

import glob
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import features

from easyvideor1.types import MediaError, MediaKind, MediaRef
from easyvideor1.video.media_files import is_frame_list

#: Formats read as still images. Pillow reads AVIF only if it was built with AVIF.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))

#: Image formats that can be animated; with more than one frame they are videos.
MOVING_FORMATS = frozenset({"GIF", "PNG", "WEBP"})

#: Exceptions that Pillow raises for damaged files: some readers use values before they check them.
IMAGE_ERRORS = (
    *(OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(struct.error, zlib.error, RuntimeError, AssertionError),
)

#: Containers read as video, by FFmpeg's names; audio formats are included so that the error can name the cause.
#: Playlists, numbered image series and stream descriptions are excluded: they refer to other files, which the
#: fingerprint does not cover and the row does not name. Text formats, which FFmpeg can render, are excluded too.
VIDEO_FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "matroska", "webm", "avi", "flv", "gif", "apng", "mpegts", "mpeg", "mpegvideo"),
    *("m4v", "asf", "ogg", "mxf", "nut", "rm", "dv", "ivf", "h264", "hevc", "vvc", "obu", "av1", "mjpeg", "wtv"),
    *("yuv4mpegpipe", "aac", "aiff", "flac", "mp3", "wav"),
)

#: Number of leading bytes that ``kinds_of_bytes`` reads.
HEAD_BYTES = 192

#: Marks of animation: ``acTL`` before the pixels of a PNG, a flag of ``VP8X`` in a WebP.
_PNG_ANIMATION = b"acTL"
_PNG_PIXELS = b"IDAT"
_WEBP_FLAGS, _WEBP_ANIMATED = 20, 0x02

_IMAGE: frozenset[MediaKind] = frozenset({"image"})
_VIDEO: frozenset[MediaKind] = frozenset({"video"})
_EITHER: frozenset[MediaKind] = frozenset({"image", "video"})

_PNG = b"\x89PNG\r\n\x1a\n"

# Formats recognised by their leading bytes. A GIF may be an image or a video: both columns accept it.
_SIGNATURES: tuple[tuple[bytes, frozenset[MediaKind]], ...] = (
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
# Brands of the ISO base media format (ISO/IEC 14496-12) for still images (AVIF, HEIC); all others are videos.
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"mif1"})
_SEQUENCE_BRANDS = frozenset({b"avis", b"hevc", b"msf1"})
_STILL_SUFFIXES = {".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC"}
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})

_SUFFIXES: dict[str, frozenset[MediaKind]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".avif"), _IMAGE),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ogv", ".mpg", ".mpeg"), _VIDEO),
    **dict.fromkeys((".ts", ".wmv", ".3gp"), _VIDEO),
    ".gif": _EITHER,
}


def kinds_of_bytes(head: bytes) -> frozenset[MediaKind]:
    """The kinds of media that a file starting with ``head`` can be; empty if the format is unknown."""
    for signature, kinds in _SIGNATURES:
        if head.startswith(signature):
            return kinds
    if head.startswith(_PNG):
        # Large text or colour chunks may precede both marks; then the head does not decide.
        return _IMAGE if _PNG_PIXELS in head and _PNG_ANIMATION not in head else _EITHER
    if head.startswith(b"RIFF"):
        moves = head[12:16] == b"VP8X" and any(flags & _WEBP_ANIMATED for flags in head[_WEBP_FLAGS : _WEBP_FLAGS + 1])
        return {b"WEBP": _EITHER if moves else _IMAGE, b"AVI ": _VIDEO}.get(head[8:12], frozenset())
    box, brand = head[4:8], head[8:12]
    if box == b"ftyp":
        return _IMAGE if brand in _STILL_BRANDS else _EITHER if brand in _SEQUENCE_BRANDS else _VIDEO
    if box in _QUICKTIME_ATOMS:
        return _VIDEO
    if len(head) > 188 and head[0] == head[188] == 0x47:  # two sync bytes of an MPEG transport stream
        return _VIDEO
    return frozenset()


def kinds_of_name(path: str) -> frozenset[MediaKind]:
    """The kinds of media that a file of this name can be; empty if the suffix is unknown."""
    if is_frame_list(path):
        return _VIDEO
    return _SUFFIXES.get(Path(path).suffix.lower(), frozenset())


def unsupported_image(head: bytes, path: str) -> str:
    """The format of a still image that cannot be read: HEIC, or AVIF if Pillow was built without it; else empty.

    Args:
        head: its leading bytes; if empty, the name decides.
        path: its name.
    """
    if head:
        if head[4:8] != b"ftyp" or head[8:12] not in _STILL_BRANDS:
            return ""
        brands = head[8 : int.from_bytes(head[:4], "big")]  # the major brand may be common to both
        found = "AVIF" if b"avif" in brands else "HEIC"
    else:
        found = _STILL_SUFFIXES.get(Path(path).suffix.lower(), "")
    return "" if found in IMAGE_FORMATS else found


def is_webp(path: str) -> bool:
    """Whether a file is a WebP by its first bytes."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(b"RIFF") and head.endswith(b"WEBP")


def find_media(places: Sequence[str], kind: MediaKind) -> list[MediaRef]:
    """The media in ``places``, each once, in order; those of one directory or pattern sorted by name.

    A named file is always included. In a directory and below it, files of ``kind`` are included, by their first bytes
    or, if these are unknown (a damaged file), by their name; names that begin with a dot are skipped. Other names are
    patterns, in which ``**`` crosses directories.

    Raises:
        MediaError: a place has no such media.
    """
    found: dict[MediaRef, None] = {}
    for place in places:
        paths = list(_files(place, kind))
        found.update({MediaRef(kind, str(path.absolute())): None for path in paths})
        if not paths:
            raise MediaError(
                f"{place!r}: no such file, no {kind} in that directory, and nothing matches it as a pattern",
                path=place,
                reason="missing",
            )
    return list(found)


def _files(place: str, kind: MediaKind) -> Iterator[Path]:
    path = Path(place)
    if not place:  # an unset shell variable, not the working directory
        return
    if path.is_dir():
        for below in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in below.relative_to(path).parts)
            # A broken link is included by its name, so that the missing file is reported.
            there = below.is_file() or (below.is_symlink() and not below.exists())
            if not hidden and there and _is(below, kind):
                yield below
    elif path.exists():
        yield path
    else:
        for match in sorted(map(Path, glob.glob(place, recursive=True))):  # noqa: PTH207 (absolute patterns too)
            if match.is_dir():
                yield from _files(str(match), kind)
            else:
                yield match


def _is(path: Path, kind: MediaKind) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        head = b""  # probing reports the fault
    return kind in (kinds_of_bytes(head) or kinds_of_name(str(path)))
