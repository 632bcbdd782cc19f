"""Read selected frames of a video with PyAV, decoding as little as possible.

There are two ways to decode a file. Sparse decoding seeks to the key frame before the next wanted frame, drops
unreferenced pictures before they are decoded, and stops after the last wanted packet. The pixels of every frame that it
returns stay the same: a picture depends only on its references, which are all decoded. If anything differs from the
packet index (a seek lands elsewhere, a packet is damaged, a frame is missing), sparse decoding gives up and sequential
decoding reads everything from the start.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from easyvideor1.video.packets import PacketIndex, open_video, packets_of

#: Cost of a seek, which restarts the decoder, as the number of pixels that could be decoded in that time. Measured:
#: about 40 microseconds, H.264 in mp4 and mkv. In pixels, not frames, it holds for any picture size.
SEEK_PIXELS = 20_000

# Decoders that can skip exactly the unreferenced pictures, at any packet: these formats mark such pictures. VP9 is not
# one of them, because every picture adapts the probabilities of the next; AV1's decoder takes the option only when it
# is opened.
_DROPPING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "vp8"})

# Containers with an index of key frames. In others (MPEG-TS and -PS, ASF, FLV) a seek is a guess that rarely lands
# right and may land where the decoder returns wrong pictures without an error.
_INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})

#: Called with the position of a frame in the index and its RGB pixels, uint8 ``(h, w, 3)``, valid during the call.
Keep = Callable[[int, NDArray[np.uint8]], None]


class _SeekMissedError(Exception):
    """A seek landed behind its key frame, or so far before it that it saved nothing."""


class _NotAsIndexedError(Exception):
    """A packet is damaged, or a wanted frame was not decoded."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Packets decoded without a seek: from ``keyframe`` (None: the start of the file) to the last wanted frame."""

    keyframe: int | None
    wanted: tuple[int, ...]


def read_frames(path: str, index: PacketIndex, wanted: list[int], keep: Keep, threads: int) -> int:
    """Pass every wanted frame to ``keep``; if it is called several times for a frame, the last call counts.

    A frame that cannot be decoded is replaced by the frame on screen before it, or by the next if there is none.

    Args:
        path: the video.
        index: its packet index.
        wanted: positions in the index, sorted and distinct.
        keep: receives the pictures.
        threads: decoding threads; 0 lets FFmpeg choose.

    Returns:
        Number of replaced frames; all of them if none could be decoded.

    Raises:
        MediaError: the file cannot be opened.
        av.FFmpegError: reading fails.
    """
    convert = _Converter()
    if index.timed:
        for seek in (True, False):
            try:
                for position, picture in decode_sparse(path, index, wanted, threads, seek=seek):
                    keep(position, convert(picture))
            except _SeekMissedError:
                continue
            except _NotAsIndexedError:
                break
            return 0
    return _decode_sequentially(
        path, index, wanted, lambda position, picture: keep(position, convert(picture)), threads
    )


def segments(index: PacketIndex, wanted: Iterable[int], threads: int = 1) -> list[Segment]:
    """Split the wanted frames where a seek to the next key frame costs less than decoding up to it.

    Args:
        index: packet index of the video.
        wanted: positions, sorted.
        threads: pictures decoded in parallel; a seek waits for all of them.
    """
    worthwhile = SEEK_PIXELS / (index.width * index.height) + (threads or os.cpu_count() or 1) - 1
    found: list[Segment] = []
    for frame in wanted:
        before = bisect_right(index.keyframes, frame) - 1
        reached = found[-1].wanted[-1] if found else -1
        if before >= 0 and index.keyframes[before] - reached - 1 > worthwhile:
            found.append(Segment(index.keyframes[before], (frame,)))
        elif found:
            found[-1] = Segment(found[-1].keyframe, (*found[-1].wanted, frame))
        else:
            found.append(Segment(None, (frame,)))
    return found


def decode_sparse(
    path: str, index: PacketIndex, wanted: list[int], threads: int, *, seek: bool
) -> Iterator[tuple[int, Any]]:
    """The wanted frames as ``(position, picture)``, each once; the order within a segment varies.

    Args:
        path: the video.
        index: its packet index, with presentation times.
        wanted: positions in the index, sorted and distinct.
        threads: as in ``read_frames``.
        seek: whether to seek between segments if the container has an index of key frames.

    Raises:
        _SeekMissedError, _NotAsIndexedError: another way must be tried; some frames may have been returned.
    """
    container, stream = open_video(path)
    with container:
        context = stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = threads
        drop = can_skip_unreferenced(context.name, context.extradata)
        seek = seek and container.format.name in _INDEXED
        reached = index.pts[0] - 1
        for segment in segments(index, wanted, threads) if seek else [Segment(None, tuple(wanted))]:
            if segment.keyframe is not None:
                container.seek(index.pts[segment.keyframe], stream=stream, backward=True)
            yield from _read_segment(container, stream, index, segment, reached, drop=drop)
            reached = index.pts[segment.wanted[-1]]


def _read_segment(
    container: Any, stream: Any, index: PacketIndex, segment: Segment, reached: int, *, drop: bool
) -> Iterator[tuple[int, Any]]:
    """Decode one segment from the current position; ``reached`` is the end time of the previous segment."""
    context = stream.codec_context
    begin = index.pts[segment.keyframe or 0]
    missing = {index.pts[frame]: frame for frame in segment.wanted}
    unsent = dict(missing)
    landed = segment.keyframe is None

    def due(pictures: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        for picture in pictures:
            if picture.pts is None or (picture.is_corrupt and picture.pts >= begin):
                raise _NotAsIndexedError
            frame = missing.pop(picture.pts, None)
            if frame is not None:
                yield frame, picture

    for packet in packets_of(container, stream):
        if not landed:
            if packet.pts is None or not reached < packet.pts <= begin:
                raise _SeekMissedError
            landed = True
        wanted = packet.pts in missing
        if not unsent and not wanted:
            break  # not at the last wanted packet itself: a picture may be two fields in two packets
        if drop:
            context.skip_frame = "DEFAULT" if wanted else "NONREF"
        unsent.pop(packet.pts, None)
        try:
            pictures = packet.decode()
        except av.InvalidDataError as error:
            if packet.pts is not None and packet.pts < begin:
                continue  # leading pictures of an open GOP, whose references were skipped
            raise _NotAsIndexedError from error
        yield from due(pictures)
        if not missing:
            return
    if not landed:
        raise _SeekMissedError  # behind the last packet
    try:
        yield from due(context.decode(None))
    except av.InvalidDataError as error:
        raise _NotAsIndexedError from error
    if missing:
        raise _NotAsIndexedError


def can_skip_unreferenced(codec: str, extradata: bytes | None) -> bool:
    """Whether a decoder can skip exactly the unreferenced pictures.

    HEVC marks pictures that are unreferenced *in the same temporal layer*, so it must have only one layer.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: the parameter sets of the stream, as stored in the container.
    """
    return codec in _DROPPING or (codec == "hevc" and _temporal_layers(extradata or b"") == 1)


def _temporal_layers(extradata: bytes) -> int:
    """Number of temporal layers of an HEVC stream; 0 if its parameter sets do not state it."""
    if len(extradata) > 22 and extradata[0] == 1:  # ISO/IEC 14496-15, HEVCDecoderConfigurationRecord
        return (extradata[21] >> 3) & 7
    layers = 0
    at = extradata.find(b"\0\0\1")
    while 0 <= at < len(extradata) - 5:
        if (extradata[at + 3] >> 1) & 63 == 33:  # ITU-T H.265, 7.3.2.2: sps_max_sub_layers_minus1
            layers = max(layers, ((extradata[at + 5] >> 1) & 7) + 1)
        at = extradata.find(b"\0\0\1", at + 3)
    return layers


def _decode_sequentially(
    path: str, index: PacketIndex, wanted: list[int], keep: Callable[[int, Any], None], threads: int
) -> int:
    """Decode everything from the start to the last wanted frame; see ``read_frames``."""
    replaced, at = 0, 0
    previous: Any = None
    for position, picture in all_pictures(path, index, threads):
        while at < len(wanted) and wanted[at] < position:
            keep(wanted[at], previous if previous is not None else picture)
            replaced, at = replaced + 1, at + 1
        if at < len(wanted) and wanted[at] == position:
            keep(position, picture)
            at += 1
        previous = picture
        if at == len(wanted):
            return replaced
    if previous is None:
        return len(wanted)
    for frame in wanted[at:]:
        keep(frame, previous)
    return replaced + len(wanted) - at


def all_pictures(path: str, index: PacketIndex, threads: int) -> Iterator[tuple[int, Any]]:
    """All decodable pictures in presentation order, as ``(position, picture)``."""
    container, stream = open_video(path)
    with container:
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        position = -1
        for picture in _decodable(container, stream):
            if index.timed and picture.pts is not None:
                position = bisect_right(index.pts, picture.pts) - 1
            else:  # without times, the n-th decoded picture is the n-th frame
                position += 1
            yield position, picture


def _decodable(container: Any, stream: Any) -> Iterator[Any]:
    """Pictures of all undamaged packets; times show the gaps."""
    for packet in packets_of(container, stream):
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            continue
        yield from pictures
    with suppress(av.InvalidDataError):
        yield from stream.codec_context.decode(None)


class _Converter:
    """Converts pictures to RGB by their own colour matrix and range, at full size, with one conversion context."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: Any) -> NDArray[np.uint8]:
        # One thread: for one picture, starting more costs more than they save.
        rgb = self._reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
        return cast("NDArray[np.uint8]", rgb)
