"""Which formats are read, and what kind of media a file of each can be; from its first bytes, or else from its name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from easyvideor1.types import MediaKind

#: Formats that are read as still images; an animated GIF is a video.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

#: What Pillow's readers let out when a file is damaged: some do not check what they read before they use it.
IMAGE_ERRORS = (
    *(OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(struct.error, zlib.error, RuntimeError, AssertionError),
)

#: Containers that are read as video, by FFmpeg's names; of those with sound only, to say so. A playlist, a numbered
#: series of pictures or a description of a stream is not among them: such a file points at others, which the
#: fingerprint does not cover and the row does not name. Text is no film either, though FFmpeg can show it as one.
VIDEO_FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "matroska", "webm", "avi", "flv", "gif", "apng", "mpegts", "mpeg", "mpegvideo"),
    *("m4v", "asf", "ogg", "mxf", "nut", "rm", "dv", "ivf", "h264", "hevc", "vvc", "obu", "av1", "mjpeg", "wtv"),
    *("yuv4mpegpipe", "aac", "aiff", "flac", "mp3", "wav"),
)

#: As many leading bytes of a file as ``kinds_of_bytes`` looks at.
HEAD_BYTES = 192

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
# Brands of the ISO base media format (ISO/IEC 14496-12) that hold still pictures, which are not read (AVIF, HEIC);
# every other brand is a film.
_STILL_BRANDS = frozenset({b"avif", b"heic", b"heix", b"heim", b"mif1"})
_SEQUENCE_BRANDS = frozenset({b"avis", b"hevc", b"msf1"})
_STILL_SUFFIXES = frozenset({".avif", ".heic", ".heif"})
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip"})

_SUFFIXES: dict[str, frozenset[MediaKind]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"), _IMAGE),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".ogv", ".mpg", ".mpeg"), _VIDEO),
    **dict.fromkeys((".ts", ".wmv", ".3gp"), _VIDEO),
    ".gif": _EITHER,
}


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


def is_unread_still(head: bytes, path: str) -> bool:
    """Whether a file is a still picture of a format that is not read: AVIF or HEIC.

    Args:
        head: its leading bytes; its name alone decides when they are empty.
        path: its name.
    """
    if not head:
        return Path(path).suffix.lower() in _STILL_SUFFIXES
    return head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS
