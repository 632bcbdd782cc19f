"""Read selected frames of a video with torchcodec (an extra) where it gives the pixels of PyAV; else with PyAV.

Both convert 8-bit YUV with FFmpeg's arithmetic, so their frames are equal, and one store entry serves both. torchcodec
treats pictures of more than 8 bits and mirrored ones differently, and cannot index streams without times. PyAV reads
these, and files at which torchcodec fails, so the backend never changes the frames.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import ConfigError
from easyvideor1.video import pyav
from easyvideor1.video.packets import PacketIndex, open_video

# Pixel formats that both convert identically; tests compare them.
_SAME_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})


def require() -> Any:
    """torchcodec's decoder class.

    Raises:
        ConfigError: torchcodec is not installed, or does not load.
    """
    try:
        decoders = importlib.import_module("torchcodec.decoders")
    except ImportError as error:
        raise ConfigError(
            'the decoder "torchcodec" is not installed: pip install "easyvideor1[torchcodec]", or set '
            "cache.decoder=pyav"
        ) from error
    except (RuntimeError, OSError) as error:  # its import looks for the shared libraries of FFmpeg
        raise ConfigError(
            'the decoder "torchcodec" does not load; it needs the shared libraries of FFmpeg 4 to 8 (those inside '
            "PyAV do not serve) and the PyTorch it was built for. Install FFmpeg, or set cache.decoder=pyav. It says: "
            + str(error).strip().splitlines()[0]
        ) from error
    return decoders.VideoDecoder


def read_frames(path: str, index: PacketIndex, wanted: list[int], keep: pyav.Keep, threads: int) -> int:
    """Like ``pyav.read_frames``, with the same pixels.

    Raises:
        ConfigError: torchcodec is not installed, or does not load.
        MediaError, av.FFmpegError: as ``pyav.read_frames``.
    """
    decoder_class = require()
    container, stream = open_video(path)
    with container:
        place, pixel_format = int(stream.index), stream.codec_context.pix_fmt
    if not index.timed or index.mirror or pixel_format not in _SAME_FORMATS:
        return pyav.read_frames(path, index, wanted, keep, threads)
    try:
        decoder = decoder_class(
            f"file:{path}",
            stream_index=place,
            dimension_order="NHWC",
            num_ffmpeg_threads=threads,
            custom_frame_mappings=_mappings(index),
        )
        for frame in wanted:
            picture = decoder.get_frame_at(frame)
            if abs(picture.pts_seconds - index.seconds(index.pts[frame])) > 1e-6:
                return pyav.read_frames(path, index, wanted, keep, threads)
            keep(frame, _as_coded(picture.data.numpy(), index))
    except (RuntimeError, ValueError, IndexError):
        return pyav.read_frames(path, index, wanted, keep, threads)
    return 0


def _mappings(index: PacketIndex) -> str:
    """The packet index in torchcodec's format, so that both number frames alike and the file is not scanned again."""
    keyframes = frozenset(index.keyframes)
    ends = (*index.pts[1:], index.end)
    return json.dumps(
        {
            "frames": [
                {"pts": tick, "duration": end - tick, "key_frame": int(position in keyframes)}
                for position, (tick, end) in enumerate(zip(index.pts, ends, strict=True))
            ]
        }
    )


def _as_coded(rgb: NDArray[np.uint8], index: PacketIndex) -> NDArray[np.uint8]:
    """Undo the rotation that torchcodec has applied: the picture as coded."""
    return np.rot90(rgb, -index.rotation // 90) if index.rotation else rgb
