"""Read the wanted frames of a video with PyAV, decoding no more of it than they need.

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

#: What a seek costs (seek, and start the decoder anew), as a number of pixels that could be decoded in that time.
#: Measured (about 40 microseconds, H.264 in mp4 and mkv); as pixels and not frames it holds for any picture size.
SEEK_PIXELS = 20_000

# Decoders that drop exactly the pictures nothing refers to when asked to, at any packet: the formats themselves mark
# these. VP9 is not among them because every picture adapts the probabilities of the next ones; AV1's decoder takes
# the wish only when it is opened.
_DROPPING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "vp8"})

# Containers that say where their key frames are. In a stream without that (MPEG-TS and -PS, ASF, FLV) a seek is a guess
# that seldom lands right, and may land where the decoder shows wrong pictures without noticing.
_INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"})

#: Called with the frame's position in the index and its RGB pixels, uint8 ``(h, w, 3)``, valid during the call.
Keep = Callable[[int, NDArray[np.uint8]], None]


class _SeekMissedError(Exception):
    """A seek did not land before its key frame, or so far before it that it saved nothing."""


class _NotAsIndexedError(Exception):
    """A packet is damaged, or a wanted frame did not come out."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Packets that are decoded in one go: from ``keyframe`` (None: the start of the file) to the last wanted frame."""

    keyframe: int | None
    wanted: tuple[int, ...]


def read_frames(path: str, index: PacketIndex, wanted: list[int], keep: Keep, threads: int) -> int:
    """Hand every wanted frame to ``keep``, some perhaps more than once; of several calls for a frame the last holds.

    A frame that cannot be decoded is replaced by the one on screen before it, or by the next when there is none.

    Args:
        path: the video.
        index: its packet index.
        wanted: positions in the index, sorted and distinct.
        keep: is given the pictures.
        threads: decoding threads; 0 lets FFmpeg choose.

    Returns:
        How many frames were replaced, all of them when none could be decoded.

    Raises:
        MediaError: the file cannot be opened.
        av.FFmpegError: it cannot be read on.
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
    """Cut the wanted frames where jumping to the next key frame costs less than decoding on to it.

    Args:
        index: of the video.
        wanted: positions, sorted.
        threads: pictures that are decoded at a time; a seek waits for all of them.
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
    path: str, index: PacketIndex, wanted: list[int], threads: int, *, seek: bool, drop: bool = True
) -> Iterator[tuple[int, Any]]:
    """The wanted frames as ``(position, picture)``, each once; in any order within a segment.

    Args:
        path: the video.
        index: its packet index, with times.
        wanted: positions in the index, sorted and distinct.
        threads: as for ``read_frames``.
        seek: whether to seek between segments, where the container says where key frames are.
        drop: whether to drop pictures that nothing refers to, where the codec marks them.

    Raises:
        _SeekMissedError, _NotAsIndexedError: something else must be tried; some frames may have been delivered.
    """
    container, stream = open_video(path)
    with container:
        context = stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = threads
        drop = drop and can_skip_unreferenced(context.name, context.extradata)
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
    """Decode one segment from where the container stands; ``reached`` is the time at which the one before it ended."""
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
            break  # not at the last wanted packet itself: two fields of one picture may come in two packets
        if drop:
            context.skip_frame = "DEFAULT" if wanted else "NONREF"
        unsent.pop(packet.pts, None)
        try:
            pictures = packet.decode()
        except av.InvalidDataError as error:
            if packet.pts is not None and packet.pts < begin:
                continue  # leading pictures of an open group: what they refer to was jumped over
            raise _NotAsIndexedError from error
        yield from due(pictures)
        if not missing:
            return
    if not landed:
        raise _SeekMissedError  # beyond the last packet
    try:
        yield from due(context.decode(None))
    except av.InvalidDataError as error:
        raise _NotAsIndexedError from error
    if missing:
        raise _NotAsIndexedError


def can_skip_unreferenced(codec: str, extradata: bytes | None) -> bool:
    """Whether the decoder of this name can leave out pictures that nothing refers to, and no others.

    HEVC marks pictures that nothing *of the same temporal layer* refers to, so it must have one layer.

    Args:
        codec: FFmpeg's name of the decoder.
        extradata: the stream's parameter sets, as the container has them.
    """
    return codec in _DROPPING or (codec == "hevc" and _temporal_layers(extradata or b"") == 1)


def _temporal_layers(extradata: bytes) -> int:
    """Temporal layers of an HEVC stream; 0 when its parameter sets do not tell."""
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
    """Every picture that can be decoded, in the order of presentation, as ``(position, picture)``."""
    container, stream = open_video(path)
    with container:
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        position = -1
        for picture in _decodable(container, stream):
            if index.timed and picture.pts is not None:
                position = bisect_right(index.pts, picture.pts) - 1
            else:  # without times the n-th picture out is the n-th shown
                position += 1
            yield position, picture


def _decodable(container: Any, stream: Any) -> Iterator[Any]:
    """Pictures of all packets that are not damaged; a gap shows by its missing time."""
    for packet in packets_of(container, stream):
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            continue
        yield from pictures
    with suppress(av.InvalidDataError):
        yield from stream.codec_context.decode(None)


class _Converter:
    """Pictures to RGB by their own colour matrix and range, at full size, with one conversion context for all."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: Any) -> NDArray[np.uint8]:
        # One thread: for one picture, starting more costs more than they bring.
        rgb = self._reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
        return cast("NDArray[np.uint8]", rgb)
