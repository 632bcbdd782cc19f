"""The packet index of a video: the true presentation time of every frame, found without decoding a pixel."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np

from easyvideor1.types import MediaError, MediaInfo
from easyvideor1.video.formats import VIDEO_FORMATS
from easyvideor1.video.media_files import FileVersion, VersionCache, media_error, media_version


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """Frames of the first video stream, in presentation order.

    ``pts`` are presentation times in ticks of ``time_base``, sorted and distinct: packets with the same time are one
    frame. ``timed`` is False if the container has no valid presentation times: frames are then identified by counting,
    and ``pts`` come from decode times or the frame rate. ``keyframes`` are positions in ``pts``. ``end`` is the end of
    the last frame, in ticks. ``width`` and ``height`` are as coded. To display a picture, flip it left to right if
    ``mirror``, then rotate it by ``rotation`` degrees counter-clockwise (0, 90, 180, 270).
    """

    pts: tuple[int, ...]
    keyframes: tuple[int, ...]
    time_base: Fraction
    end: int
    timed: bool
    rate: Fraction | None
    codec: str
    width: int
    height: int
    rotation: int
    mirror: bool = False

    def seconds(self, ticks: int) -> float:
        return ticks * self.time_base.numerator / self.time_base.denominator

    def timestamps(self) -> tuple[float, ...]:
        """Times of all frames in seconds, the first at 0: each is the float64 nearest to the exact time."""
        first = self.pts[0]
        top, bottom = self.time_base.numerator, self.time_base.denominator
        if (self.pts[-1] - first) * top < _EXACT and bottom < _EXACT:
            # Numerator and denominator are exact in float64, so one division rounds like division of Python integers.
            ticks = np.array(self.pts, dtype=np.int64) - first
            return tuple((ticks * top / bottom).tolist())
        return tuple(self.seconds(tick - first) for tick in self.pts)


_OPENING = {"protocol_whitelist": "file", "format_whitelist": ",".join(VIDEO_FORMATS)}
_INDEXES: VersionCache[PacketIndex] = VersionCache(limit=1_000_000, weigh=lambda index: len(index.pts))
#: MPEG programme streams may have several pictures between two times; FFmpeg then guesses times, sometimes the same
#: time twice. It joins the two fields of a picture there. In other containers two packets with one time may be fields.
_WHOLE_PICTURES = frozenset({"mpeg"})
_LOG_LOCK = threading.Lock()
_ROTATION = re.compile(r"rotation of (-?\d+(?:\.\d+)?|nan) degrees")
#: All integers below this are exact in float64.
_EXACT = 1 << 53


def packet_index(path: str) -> PacketIndex:
    """Read all packet headers of a video.

    Raises:
        MediaError: ``missing``, ``not_a_file``, ``unreadable``, ``no_video``, ``empty`` or ``truncated``.
    """
    return _INDEXES.get(media_version(path), lambda: _read_index(path))


def remember_index(key: FileVersion, index: PacketIndex) -> None:
    """Cache an index that another process read from this file version."""
    _INDEXES.get(key, lambda: index)


def video_info(path: str, fingerprint: str, index: PacketIndex) -> MediaInfo:
    """Describe a video from its index; see ``probe``."""
    timestamps = index.timestamps()
    duration = index.seconds(index.end - index.pts[0])
    count = len(timestamps)
    fps = count / duration if duration > 0 else 1.0
    # The rate in the header is an exact fraction, while ticks of packets may be rounded (Matroska: milliseconds).
    if index.rate and abs(float(index.rate) * duration - count) <= max(1.0, 0.01 * count):
        fps = float(index.rate)
    width, height = (index.height, index.width) if index.rotation in (90, 270) else (index.width, index.height)
    return MediaInfo(
        path=path,
        kind="video",
        fingerprint=fingerprint,
        codec=index.codec,
        width=width,
        height=height,
        rotation=index.rotation,
        fps=fps,
        duration=duration,
        timestamps=timestamps,
    )


def open_video(path: str) -> tuple[Any, Any]:
    """Open a media file and choose its video stream: ``(container, stream)``; the caller closes the container.

    Raises:
        MediaError: it cannot be opened or has no video stream (cover art does not count).
    """
    try:
        # With an explicit protocol, a name with a colon is not read as an address.
        container = av.open(f"file:{path}", metadata_errors="ignore", options=_OPENING)
    except av.ArgumentError as error:
        raise MediaError(
            f"{path} is not in a format that is read as video (playlists, lists and numbered series of files are not "
            "followed); name the media file itself",
            path=path,
            reason="unreadable",
        ) from error
    except (av.FFmpegError, ValueError) as error:
        raise media_error(path, error) from error
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                container.close()
                raise MediaError(f"{path}: no decoder for its video stream", path=path, reason="unreadable")
            return container, stream
    container.close()
    raise MediaError(f"{path} has no video stream; is it an audio file?", path=path, reason="no_video")


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of a stream with data, from the current position; the decoder is not flushed at the end."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except IndexError:  # PyAV raises it at the end if a damaged transport stream added streams while it was read
            return
        if packet.size and packet.stream_index == stream.index:
            yield packet


def _read_index(path: str) -> PacketIndex:
    size = media_version(path)[1]
    if size == 0:
        raise MediaError(f"{path} is an empty file", path=path, reason="empty")
    container, stream = open_video(path)
    with container:
        _refuse_truncated(path, stream, size)
        turned = _angle(container, stream)
        try:
            # Discarded packets are outside the edit list.
            packets = [
                (p.pts, p.dts, bool(p.is_keyframe), int(p.duration or 0))
                for p in packets_of(container, stream)
                if not p.is_discard
            ]
        except av.FFmpegError as error:
            raise media_error(path, error) from error
        if not packets:
            raise MediaError(f"{path}: its video stream holds no frame", path=path, reason="empty")
        context = stream.codec_context
        if not context.width or not context.height:
            raise MediaError(f"{path}: its video stream has no size", path=path, reason="unreadable")
        rotation, mirror = (0, False) if turned is None else _orientation(path, turned)
        rate = stream.average_rate or stream.guessed_rate
        whole = container.format.name in _WHOLE_PICTURES
        pts, keyframes, end, time_base, timed = _order(packets, stream.time_base, rate, whole=whole)
        return PacketIndex(
            pts=pts,
            keyframes=keyframes,
            time_base=time_base,
            end=end,
            timed=timed,
            rate=rate,
            codec=str(context.codec.canonical_name),
            width=int(context.width),
            height=int(context.height),
            rotation=rotation,
            mirror=mirror,
        )


def _order(
    packets: list[tuple[int | None, int | None, bool, int]],
    time_base: Fraction | None,
    rate: Fraction | None,
    *,
    whole: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], int, Fraction, bool]:
    """Presentation order, key frames, end, time base, and whether the container has valid presentation times.

    Args:
        packets: presentation time, decode time, key frame and duration, in file order.
        time_base: of the times.
        rate: in frames per second.
        whole: every packet is a whole picture, so that equal times are wrong.
    """
    timed = time_base is not None and _usable([p[0] for p in packets], distinct=whole)
    if timed:
        times = [p[0] or 0 for p in packets]
    elif time_base is not None and _usable([p[1] for p in packets], distinct=whole):
        # Presentation times are the decode times in another order, shifted by a constant.
        times = sorted(p[1] or 0 for p in packets)
    else:
        time_base = 1 / (rate or Fraction(1))
        times = list(range(len(packets)))
    assert time_base is not None
    pts = tuple(sorted(set(times)))
    position = {tick: i for i, tick in enumerate(pts)}
    keyframes = tuple(sorted({position[t] for t, p in zip(times, packets, strict=True) if p[2]})) if timed else ()
    last = max(range(len(times)), key=times.__getitem__)
    length = packets[last][3] if timed else 0
    if length <= 0 and len(pts) > 1:
        length = round((pts[-1] - pts[0]) / (len(pts) - 1))
    if length <= 0:
        length = round(1 / (rate or Fraction(1)) / time_base)
    return pts, keyframes, pts[-1] + max(length, 1), time_base, timed


def _usable(times: list[int | None], *, distinct: bool) -> bool:
    return None not in times and not (distinct and len(set(times)) < len(times))


def _refuse_truncated(path: str, stream: Any, size: int) -> None:
    """Refuse a file that is shorter than its index (mp4, avi) or the size in its header (Matroska, AVI) requires."""
    entries = stream.index_entries
    count = len(entries)
    reach = max((entries[i].pos + entries[i].size for i in range(max(0, count - 8), count)), default=0)
    if reach > size:
        raise MediaError(
            f"{path} is cut off: its index reaches to byte {reach}, the file ends at {size}; fetch it again",
            path=path,
            reason="truncated",
        )
    declared = declared_size(path)
    if declared is not None and declared > size:
        raise MediaError(
            f"{path} is cut off: its header declares {declared} bytes, the file ends at {size}; fetch it again",
            path=path,
            reason="truncated",
        )


def _angle(container: Any, stream: Any) -> float | None:
    """Counter-clockwise rotation in degrees of the stream's display matrix; None if it has none.

    Without decoding, PyAV shows only the angle of the matrix, in FFmpeg's description of the file, which depends on the
    log level.
    """
    with _LOG_LOCK:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text = str(container.dumps_format())
        finally:
            av.logging.set_level(level)
    for block in re.split(r"(?=\n  Stream #)", text):
        if re.match(rf"\n  Stream #\d+:{stream.index}\b", block):
            found = _ROTATION.search(block)
            return float(found.group(1)) if found else None
    return None


def _orientation(path: str, angle: float) -> tuple[int, bool]:
    """Rotation in quarter turns, and whether the picture is mirrored first, for a stream with a display matrix.

    The angle of a mirroring matrix is ambiguous (a flip reads as half a turn), and only frames carry the whole matrix.
    So one frame is decoded, of these files only. If that fails, the picture counts as not mirrored.
    """
    matrix = _display_matrix(path)
    if matrix is None:
        return (round(angle / 90) * 90 % 360 if math.isfinite(angle) else 0), False
    # A point (x, y) is shown at (a x + c y, b x + d y), with y downwards.
    a, b, c, d = matrix
    mirror = a * d - b * c < 0
    if mirror:
        a, b = -a, -b  # the rotation that remains after x has changed its sign
    return round(math.degrees(-math.atan2(b, a)) / 90) * 90 % 360, mirror


def _display_matrix(path: str) -> tuple[int, int, int, int] | None:
    container, stream = open_video(path)
    with container:
        try:
            for frame in container.decode(stream):
                data = frame.side_data.get("DISPLAYMATRIX")
                if data is None:
                    return None
                a, b, _, c, d, *_ = np.frombuffer(bytes(data), dtype=np.int32).tolist()
                return (a, b, c, d) if a * d - b * c else None
        except av.FFmpegError:
            return None
    return None


_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
#: Leading bytes that contain the declared sizes.
_HEAD = 4096


def declared_size(path: str) -> int | None:
    """Size in bytes that the header of a Matroska, WebM or AVI file declares; None for other files, and if the header
    declares none, as in a streamed file.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(_EBML):
        return _matroska(head)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if size else None
    return None


def _matroska(head: bytes) -> int | None:
    """The end of the segment, which follows the EBML header (RFC 8794 and RFC 9559)."""
    found = _sized(head, len(_EBML))
    if found is None or found[0] is None:
        return None
    at = found[1] + found[0]
    if head[at : at + 4] != _SEGMENT:
        return None
    segment = _sized(head, at + 4)
    return None if segment is None or segment[0] is None else segment[1] + segment[0]


def _sized(head: bytes, at: int) -> tuple[int | None, int] | None:
    """The size of an element and the start of its content; the size is None if unknown."""
    if at >= len(head) or head[at] == 0:
        return None
    length = 9 - head[at].bit_length()
    raw = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if raw == (1 << 7 * length) - 1 else raw), at + length
