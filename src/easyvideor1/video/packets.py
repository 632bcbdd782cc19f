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

    ``pts`` are ticks of ``time_base``, sorted and distinct: packets that share a time are one frame. ``timed`` is False
    when the container gives no presentation times, or impossible ones: then frames are told apart by counting, and
    ``pts`` come from decode times or the frame rate. ``keyframes`` are positions in ``pts``. ``end`` is where the last
    frame ends, in ticks. ``width`` and ``height`` are as coded. The picture is shown by flipping it left to right if
    ``mirror``, and then turning it by ``rotation`` degrees counter-clockwise (0, 90, 180, 270).
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
        """Seconds of all frames, the first at 0: each the float64 nearest to its exact time."""
        first = self.pts[0]
        top, bottom = self.time_base.numerator, self.time_base.denominator
        if (self.pts[-1] - first) * top < _EXACT and bottom < _EXACT:
            # Numerator and denominator are exact in float64, so that one division rounds as Python's integers do.
            ticks = np.array(self.pts, dtype=np.int64) - first
            return tuple((ticks * top / bottom).tolist())
        return tuple(self.seconds(tick - first) for tick in self.pts)


_OPENING = {"protocol_whitelist": "file", "format_whitelist": ",".join(VIDEO_FORMATS)}
_INDEXES: VersionCache[PacketIndex] = VersionCache(limit=1_000_000, weigh=lambda index: len(index.pts))
#: Programme streams: several pictures may lie between two times of theirs, and FFmpeg then guesses, sometimes the same
#: time twice. It joins both fields of a picture there; elsewhere two packets of one time may be just these.
_WHOLE_PICTURES = frozenset({"mpeg"})
_LOG_LOCK = threading.Lock()
_ROTATION = re.compile(r"rotation of (-?\d+(?:\.\d+)?|nan) degrees")
#: Integers below this are all float64 numbers.
_EXACT = 1 << 53


def packet_index(path: str) -> PacketIndex:
    """Read all packet headers of a video.

    Raises:
        MediaError: ``missing``, ``not_a_file``, ``unreadable``, ``no_video``, ``empty`` or ``truncated``.
    """
    return _INDEXES.get(media_version(path), lambda: _read_index(path))


def remember_index(key: FileVersion, index: PacketIndex) -> None:
    """Take over what another process read of this file version."""
    _INDEXES.get(key, lambda: index)


def video_info(path: str, fingerprint: str, index: PacketIndex) -> MediaInfo:
    """What an index says of a video; see ``probe``."""
    timestamps = index.timestamps()
    duration = index.seconds(index.end - index.pts[0])
    count = len(timestamps)
    fps = count / duration if duration > 0 else 1.0
    # The header's rate is an exact fraction where the packets' ticks are rounded (matroska: milliseconds).
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
        MediaError: it cannot be opened or has no moving picture (cover art does not count).
    """
    try:
        # The explicit protocol keeps names with a colon from being read as addresses.
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
    """Packets of a stream that hold data, from where the container stands; the decoder is not flushed at the end."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (
            IndexError
        ):  # at the end, in PyAV, when a damaged transport stream gave birth to streams while it was read
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
            # Discarded packets lie outside the edit list.
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
    """Presentation order, key frames, end, time base, and whether the times are the container's own.

    Args:
        packets: presentation time, decode time, key frame, duration; in the order of the file.
        time_base: of the times.
        rate: in frames per second.
        whole: every packet is a picture, so that packets which share a time have wrong ones.
    """
    timed = time_base is not None and _usable([p[0] for p in packets], distinct=whole)
    if timed:
        times = [p[0] or 0 for p in packets]
    elif time_base is not None and _usable([p[1] for p in packets], distinct=whole):
        # Frames are shown in another order than they are decoded, but at the same set of moments, a constant later.
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
    """A container with an index (mp4, avi) says where its last frames lie, and others say how long they are; a cut file
    does not reach that far."""
    entries = stream.index_entries
    count = len(entries)
    reach = max((entries[i].pos + entries[i].size for i in range(max(0, count - 8), count)), default=0)
    if reach > size:
        raise MediaError(
            f"{path} is cut off: its index reaches to byte {reach}, the file ends at {size}; fetch it again",
            path=path,
            reason="truncated",
        )
    promised = declared_size(path)
    if promised is not None and promised > size:
        raise MediaError(
            f"{path} is cut off: by its header it has {promised} bytes, the file ends at {size}; fetch it again",
            path=path,
            reason="truncated",
        )


def _angle(container: Any, stream: Any) -> float | None:
    """Degrees, counter-clockwise, of the stream's display matrix; None when it has none.

    Without decoding, PyAV shows the matrix only in FFmpeg's description of the file, which follows the log level, and
    of the matrix only the angle.
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
    """Rotation to the nearest quarter turn, and whether it is of the mirrored picture, for a stream with a matrix.

    The angle of a mirroring matrix means nothing by itself (a flip reads as half a turn), and the whole matrix comes
    with frames only. So of these files, and no others, one frame is decoded. When that fails there is no mirroring.
    """
    matrix = _display_matrix(path)
    if matrix is None:
        return (round(angle / 90) * 90 % 360 if math.isfinite(angle) else 0), False
    # A point (x, y) is shown at (a x + c y, b x + d y), with y downwards.
    a, b, c, d = matrix
    mirror = a * d - b * c < 0
    if mirror:
        a, b = -a, -b  # what is left to do after x has changed its sign
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
#: The beginning of a file that holds all sizes that are looked at.
_HEAD = 4096


def declared_size(path: str) -> int | None:
    """Bytes that a Matroska, WebM or AVI file should have by its own header; None for other files, and where the
    header says nothing, as that of a file that was written while it was sent.

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
    """The end of the segment, behind the header of EBML (RFC 8794 and RFC 9559)."""
    found = _sized(head, len(_EBML))
    if found is None or found[0] is None:
        return None
    at = found[1] + found[0]
    if head[at : at + 4] != _SEGMENT:
        return None
    segment = _sized(head, at + 4)
    return None if segment is None or segment[0] is None else segment[1] + segment[0]


def _sized(head: bytes, at: int) -> tuple[int | None, int] | None:
    """The size of an element and where its content begins; the size is None if it is not known."""
    if at >= len(head) or head[at] == 0:
        return None
    length = 9 - head[at].bit_length()
    raw = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (None if raw == (1 << 7 * length) - 1 else raw), at + length
