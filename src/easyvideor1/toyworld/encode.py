"""Encodes frames as real media files, in the codecs and containers that decoders meet in practice.

Files are written under a temporary name, flushed to disk and renamed: a file with its final name is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from easyvideor1.files import atomic_path
from easyvideor1.types import MediaError

#: Default codec of a suffix.
DEFAULT_CODECS = {
    ".mp4": "libx264",
    ".mkv": "libx264",
    ".mov": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".gif": "gif",
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_VARIABLE_RATE = (".mp4", ".mkv", ".mov", ".webm", ".gif")
_ROTATABLE = (".mp4", ".mov", ".mkv")
_LOSSLESS = ("ffv1", "gif")
_CRF = ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9", "libvpx")
_B_FRAMES = ("libx264", "libx265", "mpeg4", "mpeg2video")
_ODD_IN_444 = ("libx264", "libx265", "libvpx-vp9", "libaom-av1")
_EVEN_ONLY = ("libsvtav1", "prores_ks")
_PIXEL_FORMATS = {"gif": "pal8", "ffv1": "bgr0", "mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a clip is written.

    Attributes:
        codec: Encoder name of FFmpeg; ``None`` is the default of the suffix.
        crf: Quality of rate-controlled codecs, smaller is better; older codecs take it as a quantiser (crf / 6).
        gop: Distance of key frames, in frames.
        bframes: Consecutive B-frames; only for codecs that have them.
        rotation: Counter-clockwise quarter turns in degrees that a player must apply: 0, 90, 180 or 270. Pixels are
            stored turned the other way, so that the displayed picture is the one that was given.
    """

    codec: str | None = None
    crf: int = 18
    gop: int = 12
    bframes: int = 0
    rotation: int = 0


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float,
    timestamps: Sequence[float] | None = None,
    encoding: Encoding | None = None,
) -> None:
    """Write a clip; the container follows from the suffix (mp4, mkv, mov, webm, avi, gif).

    Args:
        path: File to write; its directory must exist.
        frames: uint8 RGB frames ``(H, W, 3)`` as they are to be seen, all of one size; taken one at a time.
        fps: Frames a second; with ``timestamps`` only a hint for the encoder.
        timestamps: Presentation times in seconds, increasing, one per frame: a variable frame rate. Kept to the
            millisecond (GIF: to the hundredth).
        encoding: Codec, quality and structure.

    Raises:
        MediaError: the options are not supported (unknown codec, odd size, container without a feature) or encoding
            failed.
    """
    target = Path(path)
    encoding = encoding or Encoding()
    codec = _checked_codec(target, encoding, variable=timestamps is not None)
    stream_of_frames = iter(frames)
    first = next(stream_of_frames, None)
    if first is None:
        raise _unwritable(target, "there is no frame to write; give at least one")
    turned = np.rot90(first, -encoding.rotation // 90)
    pixel_format = _pixel_format(target, codec, turned.shape[1], turned.shape[0])
    with atomic_path(target) as temporary:
        try:
            with av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
                stream = _add_stream(target, container, codec, fps, encoding, timestamps is not None)
                stream.width, stream.height, stream.pix_fmt = turned.shape[1], turned.shape[0], pixel_format
                for frame in _timed(target, _chain(first, stream_of_frames), timestamps, stream, encoding.rotation):
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        except av.error.FFmpegError as error:
            raise _unwritable(
                target, f"codec {codec} in a {target.suffix} container failed: {error}; try another codec or .mkv"
            ) from error


def write_image(path: str | os.PathLike[str], pixels: NDArray[np.uint8], *, quality: int = 92) -> None:
    """Write ``(H, W, 3)`` uint8 RGB pixels as PNG or JPEG, by suffix; ``quality`` is for JPEG.

    Raises:
        MediaError: the suffix is neither.
    """
    target = Path(path)
    if target.suffix not in IMAGE_SUFFIXES:
        raise _unwritable(target, f"images can be written as {', '.join(IMAGE_SUFFIXES)}")
    with atomic_path(target) as temporary:
        if target.suffix == ".png":
            Image.fromarray(pixels).save(temporary, format="PNG")
        else:
            Image.fromarray(pixels).save(temporary, format="JPEG", quality=quality)


def _unwritable(path: Path, what: str) -> MediaError:
    return MediaError(f"cannot write {path}: {what}", path=str(path), reason="unwritable")


def _checked_codec(target: Path, encoding: Encoding, *, variable: bool) -> str:
    if target.suffix not in DEFAULT_CODECS:
        raise _unwritable(target, f"unknown container {target.suffix!r}; known: {', '.join(DEFAULT_CODECS)}")
    codec = encoding.codec or DEFAULT_CODECS[target.suffix]
    try:
        av.codec.Codec(codec, "w")
    except ValueError as error:  # PyAV's UnknownCodecError
        raise _unwritable(target, f"this build of PyAV has no encoder {codec!r}") from error
    if variable and target.suffix not in _VARIABLE_RATE:
        raise _unwritable(target, f"{target.suffix} cannot have a variable frame rate; use {', '.join(_VARIABLE_RATE)}")
    if encoding.rotation not in (0, 90, 180, 270):
        raise _unwritable(target, f"rotation {encoding.rotation} is not 0, 90, 180 or 270")
    if encoding.rotation and target.suffix not in _ROTATABLE:
        raise _unwritable(target, f"{target.suffix} cannot have a rotation; use {', '.join(_ROTATABLE)}")
    if encoding.bframes and codec not in _B_FRAMES:
        raise _unwritable(target, f"codec {codec} has no B-frames to set; use {', '.join(_B_FRAMES)}")
    if encoding.bframes and target.suffix == ".avi":
        raise _unwritable(target, "AVI shifts the times of clips with B-frames; use .mp4 or .mkv")
    return codec


def _pixel_format(target: Path, codec: str, width: int, height: int) -> str:
    odd = width % 2 == 1 or height % 2 == 1
    if odd and codec in _EVEN_ONLY:
        raise _unwritable(target, f"codec {codec} needs even sides, got {width}x{height}")
    if odd and codec in _ODD_IN_444:
        return "yuv444p"  # no chroma subsampling, so odd sides work
    return _PIXEL_FORMATS.get(codec, "yuv420p")


def _add_stream(target: Path, container: Any, codec: str, fps: float, encoding: Encoding, variable: bool) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    options: dict[str, str] = {}
    if codec in _CRF:
        options["crf"] = str(encoding.crf)
    elif codec not in _LOSSLESS and codec != "prores_ks":
        # Quantiser scale: FFmpeg counts it in units of 118 (FF_QP2LAMBDA).
        options |= {"flags": "+qscale", "global_quality": str(118 * max(2, encoding.crf // 6))}
    if codec in _B_FRAMES:
        options["bf"] = str(encoding.bframes)
    if codec == "libx265":  # its thread pool would cost more than these small clips
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    if codec == "libvpx-vp9":
        options |= {"b": "0", "cpu-used": "5", "row-mt": "0"}
    if codec == "libsvtav1":
        options |= {"preset": "10", "svtav1-params": "lp=1"}
        os.environ.setdefault("SVT_LOG", "1")  # errors only: there is no option for it
    try:
        stream = container.add_stream(codec, rate=rate, options=options)
    except ValueError as error:
        raise _unwritable(target, f"{error}; choose another codec, or .mkv which holds nearly all") from error
    context = stream.codec_context
    context.thread_count = 1  # the same bytes on every machine
    context.gop_size = encoding.gop
    ticks = 100 if codec == "gif" else 1000
    context.time_base = Fraction(1, ticks) if variable or codec == "gif" else 1 / rate
    if encoding.rotation:
        stream.set_display_rotation(encoding.rotation)
    return stream


def _timed(
    target: Path,
    pictures: Iterator[NDArray[np.uint8]],
    timestamps: Sequence[float] | None,
    stream: Any,
    rotation: int,
) -> Iterator[Any]:
    """Frames for the encoder: rotated, in its pixel format, with increasing presentation times."""
    time_base: Fraction = stream.codec_context.time_base
    rate: Fraction = stream.codec_context.framerate
    reformatter = av.video.reformatter.VideoReformatter()  # reused: creating one costs more than converting a frame
    count, last = 0, -1
    for count, pixels in enumerate(pictures, start=1):
        if timestamps is not None and count > len(timestamps):
            raise _unwritable(target, f"there are more frames than the {len(timestamps)} timestamps")
        seconds = Fraction(count - 1) / rate if timestamps is None else Fraction(timestamps[count - 1])
        turned = np.ascontiguousarray(np.rot90(pixels, -rotation // 90))
        if stream.pix_fmt == "pal8":
            frame = _paletted(turned)
        else:
            frame = reformatter.reformat(av.VideoFrame.from_ndarray(turned, format="rgb24"), format=stream.pix_fmt)
        frame.time_base = time_base
        frame.pts = round(seconds / time_base)
        if frame.pts <= last:
            raise _unwritable(target, f"timestamp {float(seconds)} s of frame {count - 1} does not increase")
        last = frame.pts
        yield frame
    if timestamps is not None and count < len(timestamps):
        raise _unwritable(target, f"there are {count} frames but {len(timestamps)} timestamps")


def _paletted(pixels: NDArray[np.uint8]) -> Any:
    """A frame with its own palette: FFmpeg's fixed 8-bit palette would be off by tens of grey levels."""
    image = Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255  # alpha comes first
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((np.asarray(image), palette), format="pal8")


def _chain(first: NDArray[np.uint8], rest: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    yield first
    yield from rest
