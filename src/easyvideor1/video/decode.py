"""Decode a plan into pixels in this process, without a deadline or memory limit; ``worker_pool`` adds both."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easyvideor1.types import Frames, MediaError, MediaPlan
from easyvideor1.video import pyav, torchcodec
from easyvideor1.video.images import is_picture_sequence, read_image, read_picture_sequence
from easyvideor1.video.media_files import fingerprint, media_error, media_version
from easyvideor1.video.packets import packet_index

Backend = Literal["pyav", "torchcodec"]

#: A video is refused if more than this share of its wanted frames cannot be decoded (one missing frame is allowed).
MISSING_SHARE = 0.1


def decode(path: str, plan: MediaPlan, *, threads: int = 1, backend: Backend = "pyav") -> Frames:
    """Decode the frames of a plan.

    A frame that cannot be decoded (a damaged packet, a leading picture without its reference) is replaced by the
    frame on screen before it.

    Args:
        path: a file with the planned content.
        plan: what to read.
        threads: decoding threads; 0 lets FFmpeg choose. Does not change the pixels.
        backend: the decoder of videos. Does not change the pixels.

    Raises:
        MediaError: ``changed`` when the content is not the planned one, ``incomplete`` when too many frames cannot be
            decoded, ``memory``, and the reasons of probing.
        ConfigError: the backend is not installed or does not load.
    """
    version = media_version(path, regular=False)
    if fingerprint(path) != plan.fingerprint:
        raise _changed(path, "since it was planned")
    try:
        pixels = _pixels(path, plan, threads, backend)
    except MemoryError as error:
        raise MediaError(f"{path} needs more memory than it may take", path=path, reason="memory") from error
    except MediaError:
        if media_version(path, regular=False) != version:
            raise _changed(path, "while it was read") from None
        raise
    if media_version(path, regular=False) != version:
        raise _changed(path, "while it was read")
    return Frames(pixels=pixels, plan=plan)


def _pixels(path: str, plan: MediaPlan, threads: int, backend: Backend) -> NDArray[np.uint8]:
    if plan.kind == "image":
        return read_image(path, plan.width, plan.height)[None]
    if is_picture_sequence(path):
        return read_picture_sequence(path, plan.frame_indices, plan.width, plan.height)
    return _decode_video(path, plan, threads, backend)


def _changed(path: str, when: str) -> MediaError:
    return MediaError(f"{path} has changed {when}; probe and plan it again", path=path, reason="changed")


def _decode_video(path: str, plan: MediaPlan, threads: int, backend: Backend) -> NDArray[np.uint8]:
    index = packet_index(path)
    wanted = sorted(set(plan.frame_indices))
    if wanted[-1] >= len(index.pts):
        raise MediaError(
            f"{path}: frame {wanted[-1]} was planned but it has {len(index.pts)}", path=path, reason="changed"
        )
    pixels = np.empty((len(plan.frame_indices), plan.height, plan.width, 3), dtype=np.uint8)
    slots: dict[int, list[int]] = {}
    for slot, frame in enumerate(plan.frame_indices):
        slots.setdefault(frame, []).append(slot)

    def keep(frame: int, rgb: NDArray[np.uint8]) -> None:
        first, *others = slots[frame]
        pixels[first] = orient_and_resize(
            rgb, rotation=index.rotation, mirror=index.mirror, height=plan.height, width=plan.width
        )
        for slot in others:
            pixels[slot] = pixels[first]

    reader = (torchcodec if backend == "torchcodec" else pyav).read_frames
    try:
        missing = reader(path, index, wanted, keep, threads)
    except av.FFmpegError as error:
        raise media_error(path, error) from error
    if missing > max(1, int(MISSING_SHARE * len(wanted))) or missing == len(wanted):
        raise MediaError(
            f"{path}: {missing} of {len(wanted)} wanted frames cannot be decoded; the file is damaged",
            path=path,
            reason="incomplete",
        )
    return pixels


def orient_and_resize(
    rgb: NDArray[np.uint8], *, rotation: int, mirror: bool, height: int, width: int
) -> NDArray[np.uint8]:
    """Rotate and resize a picture.

    Resizing is Pillow's antialiased bicubic filter. torch's antialiased uint8 kernel gives the same up to rounding, the
    image processors use exactly this filter, and it keeps torch out of the worker processes.

    Args:
        rgb: uint8 ``(h, w, 3)``, as coded.
        rotation: counter-clockwise rotation in degrees, a multiple of 90, that makes it upright.
        mirror: whether to flip it from left to right before the rotation.
        height: height after the rotation, in pixels.
        width: width after the rotation, in pixels.

    Returns:
        uint8 ``(height, width, 3)``; possibly a view of ``rgb``.
    """
    if mirror:
        rgb = rgb[:, ::-1]
    if rotation:
        rgb = np.rot90(rgb, rotation // 90)
    if rgb.shape[:2] == (height, width):
        return rgb
    resized = Image.fromarray(np.ascontiguousarray(rgb)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)
