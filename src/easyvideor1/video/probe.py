"""Find out everything about a media file that planning needs, without decoding a pixel."""

from __future__ import annotations

from dataclasses import replace

from easyvideor1.types import MediaInfo
from easyvideor1.video.formats import is_webp
from easyvideor1.video.images import frame_list_info, is_picture_sequence, still_image_size, webp_info
from easyvideor1.video.media_files import (
    FileVersion,
    VersionCache,
    fingerprint,
    is_frame_list,
    media_version,
    remember_fingerprint,
)
from easyvideor1.video.packets import packet_index, remember_index, video_info
from easyvideor1.video.probe_cache import ProbeCache

_INFOS: VersionCache[MediaInfo] = VersionCache(limit=4_000_000, weigh=lambda info: info.frame_count)


def probe(path: str, cache: ProbeCache | None = None) -> MediaInfo:
    """Describe a media file. Costs one stat when the file was probed before in this process.

    With a cache it also costs next to nothing when another process has probed it: neither is the file read, nor will
    decoding read it for its fingerprint and packets.

    Times are presentation times from the packets, so that variable frame rates and edit lists are honoured; the first
    shown frame is at 0. ``fps`` is the container's average rate when it agrees with the packets, else frames over
    duration, else 1. Non-square pixels are taken as square. A list of frames has the times that it gives.

    Raises:
        MediaError: ``missing``, ``permission``, ``not_a_file``, ``empty``, ``no_video``, ``truncated``, ``unreadable``.
    """
    key = media_version(path)
    return _INFOS.get(key, lambda: _probe(path) if cache is None else _remembered(path, key, cache))


def _probe(path: str) -> MediaInfo:
    if is_frame_list(path):
        return frame_list_info(path)
    return _probe_image(path) or (webp_info(path) if is_webp(path) else _probe_video(path))


def recall(path: str, cache: ProbeCache) -> MediaInfo | None:
    """What a cache says of a file, None if nothing; afterwards decoding need not read the file to know the same.

    Raises:
        MediaError: ``missing`` or ``permission``.
    """
    return _recalled(path, media_version(path, regular=False), cache)


def _remembered(path: str, key: FileVersion, cache: ProbeCache) -> MediaInfo:
    known = _recalled(path, key, cache)
    if known is not None:
        return known
    info = _probe(path)
    cache.put(key, info, packet_index(path) if info.kind == "video" and not is_picture_sequence(path) else None)
    return info


def _recalled(path: str, key: FileVersion, cache: ProbeCache) -> MediaInfo | None:
    known = cache.recall(key)
    if known is None:
        return None
    info, index = known
    remember_fingerprint(key, info.fingerprint)
    if index is not None:
        remember_index(key, index)
    return replace(info, path=path)


def _probe_image(path: str) -> MediaInfo | None:
    """None when the file is not a still image."""
    found = still_image_size(path)
    if found is None:
        return None
    (width, height), codec = found
    return MediaInfo(path=path, kind="image", fingerprint=fingerprint(path), codec=codec, width=width, height=height)


def _probe_video(path: str) -> MediaInfo:
    return video_info(path, fingerprint(path), packet_index(path))
