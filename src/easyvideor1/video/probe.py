"""Find out everything about a media file that planning needs, without decoding a pixel."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image, UnidentifiedImageError

from easyvideor1.types import MediaError, MediaInfo
from easyvideor1.video.content import FileMemo, StatKey, fingerprint, remember_fingerprint, stat_key
from easyvideor1.video.formats import IMAGE_ERRORS, IMAGE_FORMATS
from easyvideor1.video.memo import ProbeMemo
from easyvideor1.video.packets import media_error, packet_index, remember_index, video_info

#: EXIF orientation tag, and its values that exchange width and height.
_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
_TRANSPOSED = frozenset({5, 6, 7, 8})

_INFOS: FileMemo[MediaInfo] = FileMemo(limit=4_000_000, weigh=lambda info: info.frame_count)


def probe(path: str, memo: ProbeMemo | None = None) -> MediaInfo:
    """Describe a media file. Costs one stat when the file was probed before in this process.

    With a memo it also costs next to nothing when another process has probed it: neither is the file read, nor will
    decoding read it for its fingerprint and packets.

    Times are presentation times from the packets, so that variable frame rates and edit lists are honoured; the first
    shown frame is at 0. ``fps`` is the container's average rate when it agrees with the packets, else frames over
    duration, else 1. Non-square pixels are taken as square.

    Raises:
        MediaError: ``missing``, ``permission``, ``not_a_file``, ``empty``, ``no_video``, ``truncated``, ``unreadable``.
    """
    key = stat_key(path)
    return _INFOS.get(key, lambda: _probe(path) if memo is None else _remembered(path, key, memo))


def _probe(path: str) -> MediaInfo:
    return _probe_image(path) or _probe_video(path)


def recall(path: str, memo: ProbeMemo) -> MediaInfo | None:
    """What a memo says of a file, None if nothing; afterwards decoding need not read the file to know the same.

    Raises:
        MediaError: ``missing`` or ``permission``.
    """
    return _recalled(path, stat_key(path, regular=False), memo)


def _remembered(path: str, key: StatKey, memo: ProbeMemo) -> MediaInfo:
    known = _recalled(path, key, memo)
    if known is not None:
        return known
    info = _probe(path)
    memo.put(key, info, packet_index(path) if info.kind == "video" else None)
    return info


def _recalled(path: str, key: StatKey, memo: ProbeMemo) -> MediaInfo | None:
    known = memo.recall(key)
    if known is None:
        return None
    info, index = known
    remember_fingerprint(key, info.fingerprint)
    if index is not None:
        remember_index(key, index)
    return replace(info, path=path)


def _probe_image(path: str) -> MediaInfo | None:
    """None when the file is not a still image."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.format == "GIF" and getattr(image, "n_frames", 1) > 1:
                return None
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _TRANSPOSED and not _is_turned(image):
                width, height = height, width
            codec = (image.format or "").lower()
    except UnidentifiedImageError:
        return None
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: {error}; reduce the image first", path=path, reason="memory") from error
    except IMAGE_ERRORS as error:
        raise media_error(path, error) from error
    return MediaInfo(path=path, kind="image", fingerprint=fingerprint(path), codec=codec, width=width, height=height)


def _is_turned(image: Image.Image) -> bool:
    """Whether Pillow has exchanged width and height by itself, as it does for TIFF."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.size != (tags.get(_TIFF_WIDTH), tags.get(_TIFF_HEIGHT))


def _probe_video(path: str) -> MediaInfo:
    return video_info(path, fingerprint(path), packet_index(path))
