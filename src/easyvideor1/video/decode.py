"""Turn a plan into pixels, in this process and without a guard: ``easyvideor1.video.guard`` puts one around it.

Resizing is Pillow's bicubic, which is antialiased: it is the filter that torch's uint8 antialiased kernel reproduces
(equal up to rounding), it is exactly what the image path of the oracles does, and it keeps torch out of the workers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from easyvideor1.types import Frames, MediaError, MediaPlan
from easyvideor1.video.content import fingerprint
from easyvideor1.video.formats import IMAGE_FORMATS
from easyvideor1.video.packets import PacketIndex, media_error, open_video, packet_index

#: Frames that are rather decoded and thrown away than jumped over: a jump empties the decoder.
SEEK_GAP = 12

#: A video is refused when more than this share of its wanted frames cannot be decoded (one is always forgiven).
MISSING_SHARE = 0.1


class _SeekUnreliableError(Exception):
    """A jump did not land where the packet index said; the video is read from its start instead."""


def decode(path: str, plan: MediaPlan, *, threads: int = 1) -> Frames:
    """Decode the frames of a plan.

    A wanted frame that the decoder cannot produce (a damaged packet, a leading picture whose reference was cut off) is
    replaced by the one on screen before it.

    Args:
        path: a file whose content is the one that was planned.
        plan: what to read.
        threads: decoding threads; 0 lets FFmpeg choose. The pixels do not depend on it.

    Raises:
        MediaError: ``changed`` when the content is not the planned one, ``incomplete`` when too many frames cannot be
            decoded, ``memory``, and the reasons of probing.
    """
    if fingerprint(path) != plan.fingerprint:
        raise MediaError(
            f"{path} has changed since it was planned; probe and plan it again", path=path, reason="changed"
        )
    try:
        pixels = _decode_image(path, plan) if plan.kind == "image" else _decode_video(path, plan, threads)
    except MemoryError as error:
        raise MediaError(f"{path} needs more memory than it may take", path=path, reason="memory") from error
    return Frames(pixels=pixels, plan=plan)


def _decode_image(path: str, plan: MediaPlan) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            upright = _rgb(ImageOps.exif_transpose(image))
            resized = upright.resize((plan.width, plan.height), Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise media_error(path, error) from error
    return np.asarray(resized, dtype=np.uint8)[None].copy()


def _rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, and 16-bit grey keeps its high byte."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGB", layered.size, (255, 255, 255))
        white.paste(layered, mask=layered.getchannel("A"))
        return white
    return image.convert("RGB")


def _decode_video(path: str, plan: MediaPlan, threads: int) -> NDArray[np.uint8]:
    index = packet_index(path)
    wanted = sorted(set(plan.frame_indices))
    if wanted[-1] >= len(index.pts):
        raise MediaError(
            f"{path}: frame {wanted[-1]} was planned but it has {len(index.pts)}", path=path, reason="changed"
        )
    pixels = np.empty((len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.uint8)
    slots = {frame: [k for k, f in enumerate(plan.frame_indices) if f == frame] for frame in wanted}

    def keep(frame: int, picture: Any) -> None:
        pixels[slots[frame]] = _upright(picture, index.rotation, plan.height, plan.width)

    try:
        try:
            missing = _collect(path, index, wanted, keep, threads, seek=index.timed)
        except _SeekUnreliableError:
            missing = _collect(path, index, wanted, keep, threads, seek=False)
    except av.FFmpegError as error:
        raise media_error(path, error) from error
    if missing > max(1, int(MISSING_SHARE * len(wanted))) or missing == len(wanted):
        raise MediaError(
            f"{path}: {missing} of {len(wanted)} wanted frames cannot be decoded; the file is damaged",
            path=path,
            reason="incomplete",
        )
    return pixels


def _collect(path: str, index: PacketIndex, wanted: list[int], keep: Any, threads: int, *, seek: bool) -> int:
    """Hand every wanted frame to ``keep``; returns how many were replaced by the frame before them.

    Raises:
        _SeekUnreliableError: only with ``seek``: a wanted frame did not come where it should.
    """
    missing, at = 0, 0
    previous: Any = None
    for position, exact, picture in _pictures(path, index, wanted, threads, seek=seek):
        while at < len(wanted) and wanted[at] < position:
            if seek:
                raise _SeekUnreliableError
            keep(wanted[at], previous if previous is not None else picture)
            missing, at = missing + 1, at + 1
        if at < len(wanted) and wanted[at] == position:
            if seek and not exact:
                raise _SeekUnreliableError
            keep(position, picture)
            at += 1
        previous = picture
        if at == len(wanted):
            return missing
    if seek:
        raise _SeekUnreliableError
    if previous is None:
        return len(wanted)
    for frame in wanted[at:]:
        keep(frame, previous)
    return missing + len(wanted) - at


def _pictures(
    path: str, index: PacketIndex, wanted: list[int], threads: int, *, seek: bool
) -> Iterator[tuple[int, bool, Any]]:
    """Decoded frames in presentation order: ``(position, its time is exactly the index's, frame)``.

    With ``seek`` it jumps to the key frame before the next wanted frame when that lies far enough ahead.
    """
    exact_position = {tick: i for i, tick in enumerate(index.pts)}
    container, stream = open_video(path)
    with container:
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        position, landed = -1, -1
        while True:
            jump = _next_jump(index, wanted, position) if seek else None
            if jump is not None:
                if jump == landed:
                    raise _SeekUnreliableError  # it lands before the key frame every time
                container.seek(index.pts[jump], stream=stream, backward=True)
                landed, position = jump, jump - 1
            jumped = False
            for picture in _decoded(container, stream):
                if index.timed and picture.pts is not None:
                    exact = picture.pts in exact_position
                    position = bisect_right(index.pts, picture.pts) - 1
                else:
                    # No times: the n-th picture out is the n-th shown, which holds only when reading from the start.
                    if seek:
                        raise _SeekUnreliableError
                    exact, position = True, position + 1
                yield position, exact, picture
                if seek and _next_jump(index, wanted, position) is not None:
                    jumped = True
                    break
            if not jumped:
                return


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of the packets from here on; a damaged packet gives none, and the gap is seen by its missing time."""
    for packet in container.demux(stream):
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            continue
        yield from pictures


def _next_jump(index: PacketIndex, wanted: list[int], position: int) -> int | None:
    """The key frame to jump to when the next wanted frame after ``position`` is cheaper reached from there."""
    after = bisect_right(wanted, position)
    if after == len(wanted) or not index.keyframes:
        return None
    before = bisect_right(index.keyframes, wanted[after]) - 1
    if before < 0:
        return None
    keyframe = index.keyframes[before]
    return keyframe if keyframe - position > SEEK_GAP else None


def _upright(picture: Any, rotation: int, height: int, width: int) -> NDArray[np.uint8]:
    """RGB of the wanted size; the picture's own colour matrix and range are honoured by the conversion."""
    rgb: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    if rotation:
        rgb = np.ascontiguousarray(np.rot90(rgb, rotation // 90))
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC), dtype=np.uint8)
