"""Read everything about a media file that planning needs, without decoding a pixel."""

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
    """Describe a media file. If this process has probed the file before, this costs one stat.

    With a cache, a file that any process has probed is not read again, nor does decoding read it for its fingerprint
    and packets.

    Times are presentation times from the packets, so variable frame rates and edit lists are respected; the first
    frame is at 0. ``fps`` is the container's average rate if it agrees with the packets, else frames over duration,
    else 1. Pixels count as square. A list of frames has its own times.

    Raises:
        MediaError: ``missing``, ``permission``, ``not_a_file``, ``empty``, ``no_video``, ``truncated``, ``unreadable``.
    """
    key = media_version(path)
    return _INFOS.get(key, lambda: _probe(path) if cache is None else _probe_cached(path, key, cache))


def _probe(path: str) -> MediaInfo:
    if is_frame_list(path):
        return frame_list_info(path)
    return _probe_image(path) or (webp_info(path) if is_webp(path) else _probe_video(path))


def recall(path: str, cache: ProbeCache) -> MediaInfo | None:
    """The cached description of a file, or None; decoding then reuses its fingerprint and packet index.

    Raises:
        MediaError: ``missing`` or ``permission``.
    """
    return _recall(path, media_version(path, regular=False), cache)


def _probe_cached(path: str, key: FileVersion, cache: ProbeCache) -> MediaInfo:
    known = _recall(path, key, cache)
    if known is not None:
        return known
    info = _probe(path)
    cache.put(key, info, packet_index(path) if info.kind == "video" and not is_picture_sequence(path) else None)
    return info


def _recall(path: str, key: FileVersion, cache: ProbeCache) -> MediaInfo | None:
    known = cache.recall(key)
    if known is None:
        return None
    info, index = known
    remember_fingerprint(key, info.fingerprint)
    if index is not None:
        remember_index(key, index)
    return replace(info, path=path)


def _probe_image(path: str) -> MediaInfo | None:
    """None if the file is not a still image."""
    found = still_image_size(path)
    if found is None:
        return None
    (width, height), codec = found
    return MediaInfo(path=path, kind="image", fingerprint=fingerprint(path), codec=codec, width=width, height=height)


def _probe_video(path: str) -> MediaInfo:
    return video_info(path, fingerprint(path), packet_index(path))
