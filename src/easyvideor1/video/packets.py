"""The packet index of a video: what every frame's true presentation time is, found without decoding a pixel."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.logging

from easyvideor1.types import MediaError
from easyvideor1.video.content import FileMemo, file_error, stat_key


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """Frames of the first video stream, in presentation order.

    ``pts`` are ticks of ``time_base``, sorted and distinct: packets that share a time are one frame. ``timed`` is False
    when the container gives no presentation times: then frames are told apart by counting, and ``pts`` come from decode
    times or the frame rate. ``keyframes`` are positions in ``pts``. ``end`` is where the last frame ends, in ticks.
    ``width`` and ``height`` are as coded; ``rotation`` is the counter-clockwise turn (0, 90, 180, 270) that shows the
    picture upright.
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

    def seconds(self, ticks: int) -> float:
        return ticks * self.time_base.numerator / self.time_base.denominator


_INDEXES: FileMemo[PacketIndex] = FileMemo(limit=1_000_000, weigh=lambda index: len(index.pts))
_LOG_LOCK = threading.Lock()
_ROTATION = re.compile(r"rotation of (-?\d+(?:\.\d+)?) degrees")


def packet_index(path: str) -> PacketIndex:
    """Read all packet headers of a video.

    Raises:
        MediaError: ``missing``, ``not_a_file``, ``unreadable``, ``no_video``, ``empty`` or ``truncated``.
    """
    return _INDEXES.get(stat_key(path), lambda: _read_index(path))


def open_video(path: str) -> tuple[Any, Any]:
    """Open a media file and choose its video stream: ``(container, stream)``; the caller closes the container.

    Raises:
        MediaError: it cannot be opened or has no moving picture (cover art does not count).
    """
    try:
        # The explicit protocol keeps names with a colon from being read as addresses, and playlists from leaving disk.
        container = av.open(f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"})
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


def media_error(path: str, error: Exception) -> MediaError:
    """The ``MediaError`` that an error of the decoding library amounts to."""
    if isinstance(error, MemoryError):
        return MediaError(f"{path} needs more memory than it may take: {error}", path=path, reason="memory")
    if isinstance(error, FileNotFoundError | PermissionError):
        return file_error(path, error)
    return MediaError(
        f"{path} cannot be read as a video or an image: {error}; re-encode or remove it", path=path, reason="unreadable"
    )


def _read_index(path: str) -> PacketIndex:
    size = stat_key(path)[1]
    if size == 0:
        raise MediaError(f"{path} is an empty file", path=path, reason="empty")
    container, stream = open_video(path)
    with container:
        _refuse_truncated(path, stream, size)
        rotation = _rotation(container, stream)
        try:
            # The flush packet at the end has no data; discarded packets lie outside the edit list.
            packets = [
                (p.pts, p.dts, bool(p.is_keyframe), int(p.duration or 0))
                for p in container.demux(stream)
                if p.size and not p.is_discard
            ]
        except av.FFmpegError as error:
            raise media_error(path, error) from error
        if not packets:
            raise MediaError(f"{path}: its video stream holds no frame", path=path, reason="empty")
        context = stream.codec_context
        if not context.width or not context.height:
            raise MediaError(f"{path}: its video stream has no size", path=path, reason="unreadable")
        rate = stream.average_rate or stream.guessed_rate
        pts, keyframes, end, time_base, timed = _order(packets, stream.time_base, rate)
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
        )


def _order(
    packets: list[tuple[int | None, int | None, bool, int]], time_base: Fraction | None, rate: Fraction | None
) -> tuple[tuple[int, ...], tuple[int, ...], int, Fraction, bool]:
    """Presentation order, key frames, end, time base, and whether the times are the container's own."""
    timed = time_base is not None and all(p[0] is not None for p in packets)
    if timed:
        times = [p[0] or 0 for p in packets]
    elif time_base is not None and all(p[1] is not None for p in packets):
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


def _refuse_truncated(path: str, stream: Any, size: int) -> None:
    """A container with an index (mp4, avi) says where its last frames lie; a cut file does not reach that far."""
    entries = stream.index_entries
    count = len(entries)
    reach = max((entries[i].pos + entries[i].size for i in range(max(0, count - 8), count)), default=0)
    if reach > size:
        raise MediaError(
            f"{path} is cut off: its index reaches to byte {reach}, the file ends at {size}; fetch it again",
            path=path,
            reason="truncated",
        )


def _rotation(container: Any, stream: Any) -> int:
    """Counter-clockwise degrees from the display matrix, to the nearest quarter turn; mirroring is not applied.

    Without decoding, PyAV shows the matrix only in FFmpeg's description of the file, which follows the log level.
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
            return round(float(found.group(1)) / 90) * 90 % 360 if found else 0
    return 0
