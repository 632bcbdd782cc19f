"""Moving pictures that FFmpeg does not read as one file: lists of frames, and animated WebP."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import MediaError, MediaInfo
from easyvideor1.video.content import fingerprint
from easyvideor1.video.formats import is_webp
from easyvideor1.video.frame_lists import is_frame_list, read_frame_list
from easyvideor1.video.images import open_image, read_frame, read_image, shown_size, upright_size

#: What a frame of a WebP without a duration counts, in milliseconds, as in browsers.
_WEBP_DEFAULT_MS = 100


def made_of_pictures(path: str) -> bool:
    """Whether a video is read here, and not by FFmpeg."""
    return is_frame_list(path) or is_webp(path)


def frame_list_info(path: str) -> MediaInfo:
    """What is to be known of a list of frames. The head of every frame is read: all must have one size.

    Raises:
        MediaError: the list or a frame cannot be read, or frames differ in size (``unreadable``).
    """
    frames = read_frame_list(path)
    size, codec = (0, 0), ""
    for number, frame in enumerate(frames.frames, start=1):
        try:
            found = upright_size(frame)
        except MediaError as error:
            raise MediaError(f"{path}: its frame {number}, {error}", path=path, reason=error.reason) from error
        if found is None:
            what = f"{path}: its frame {number}, {frame}, is no still picture that can be read; convert or remove it"
            raise MediaError(what, path=path, reason="unreadable")
        if number > 1 and found[0] != size:
            what = (
                f"{path}: its frame {number}, {frame}, has {found[0][0]}x{found[0][1]} pixels, the first one "
                f"{size[0]}x{size[1]}; bring all frames of a video to one size"
            )
            raise MediaError(what, path=path, reason="unreadable")
        size, codec = found
    return MediaInfo(
        path=path,
        kind="video",
        fingerprint=fingerprint(path),
        codec=f"{codec} frames",
        width=size[0],
        height=size[1],
        fps=frames.fps,
        duration=frames.duration,
        timestamps=frames.timestamps,
    )


def webp_info(path: str) -> MediaInfo:
    """What is to be known of an animated WebP, from its chunks.

    Raises:
        MediaError: ``truncated``, ``unreadable``.
    """
    with open_image(path) as image:
        (width, height), count = shown_size(image), int(getattr(image, "n_frames", 1))
    lengths = _webp_lengths(Path(path).read_bytes())
    if len(lengths) != count:
        what = f"{path} is damaged: {count} frames can be read, {len(lengths)} are described; write it again"
        raise MediaError(what, path=path, reason="truncated")
    starts = np.concatenate([[0], np.cumsum(lengths)]) / 1000
    return MediaInfo(
        path=path,
        kind="video",
        fingerprint=fingerprint(path),
        codec="webp",
        width=width,
        height=height,
        fps=count / float(starts[-1]),
        duration=float(starts[-1]),
        timestamps=tuple(starts[:-1].tolist()),
    )


def read_pictures(path: str, indices: Sequence[int], width: int, height: int) -> NDArray[np.uint8]:
    """Frames of a list or of an animated WebP, upright and resized, as uint8 ``(F, H, W, 3)``.

    Args:
        path: what ``made_of_pictures``.
        indices: the wanted frames, ascending.
        width: of the result, in pixels.
        height: of the result, in pixels.

    Raises:
        MediaError: a frame cannot be read.
    """
    if is_frame_list(path):
        frames = read_frame_list(path).frames
        return _stacked(indices, width, height, lambda index: read_image(frames[index], width, height))
    with open_image(path) as image:

        def shown(index: int) -> NDArray[np.uint8]:
            image.seek(index)  # frames build on each other: Pillow goes on from where it is
            return read_frame(image, width, height)

        return _stacked(indices, width, height, shown)


def _stacked(
    indices: Sequence[int], width: int, height: int, read: Callable[[int], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Ascending indices, each read once; a repeated one is copied."""
    pixels = np.empty((len(indices), height, width, 3), dtype=np.uint8)
    for slot, index in enumerate(indices):
        pixels[slot] = pixels[slot - 1] if slot and index == indices[slot - 1] else read(index)
    return pixels


def _webp_lengths(content: bytes) -> list[int]:
    """Milliseconds of each frame: the ``ANMF`` chunks of the WebP container."""
    lengths = []
    place = 12
    while place + 8 <= len(content):
        name, size = content[place : place + 4], struct.unpack_from("<I", content, place + 4)[0]
        if name == b"ANMF" and place + 8 + 16 <= len(content):
            # Offset, width and height take 3 bytes each, twice over; then 3 bytes of milliseconds.
            lengths.append(int.from_bytes(content[place + 20 : place + 23], "little") or _WEBP_DEFAULT_MS)
        place += 8 + size + size % 2
    return lengths
