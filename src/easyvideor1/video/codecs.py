"""How the pixels of an entry are packed: mapped as they are, compressed without loss, or nearly without loss.

Packed forms hold every frame by itself, so that frames can be unpacked side by side and none is larger than it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image

#: What a configuration may ask for.
Codec = Literal["raw", "zstd", "jpeg"]
#: What an entry may say of itself. ``zstd`` without ``-rows`` was written by earlier versions.
Packing = Literal["raw", "zstd", "zstd-rows", "jpeg"]

#: Packings that give other pixels than were put in.
LOSSY: frozenset[Packing] = frozenset({"jpeg"})

#: Zstandard's level: higher ones save a few per cent of video frames and cost several times the time.
ZSTD_LEVEL = 1
#: JPEG's quality, with colour at full resolution: 40 dB and more on noisy frames, where half the colour gives 31.
JPEG_QUALITY = 95
#: No side of a JPEG is longer, and Pillow takes pictures above some size for an attack.
_JPEG_SIDE = 65_500
_JPEG_PIXELS = 1 << 26

#: Bytes of an entry for each byte of pixels, for estimates: measured on real videos, noisy ones take twice as much.
TYPICAL_RATIO: dict[Codec, float] = {"raw": 1.0, "zstd": 0.28, "jpeg": 0.10}

Pixels = NDArray[np.uint8]
Unpack = Callable[[Any, Pixels], None]


class DamagedFrameError(Exception):
    """The bytes of a packed frame do not unpack to a frame of its size."""


def packing_for(codec: Codec, height: int, width: int) -> Packing:
    """How frames of a size are packed under ``codec``; what is too large for a JPEG is kept without loss."""
    if codec == "jpeg" and max(height, width) <= _JPEG_SIDE and height * width <= _JPEG_PIXELS:
        return "jpeg"
    return "raw" if codec == "raw" else "zstd-rows"


def pack(frames: Pixels, packing: Packing) -> list[bytes]:
    """One blob for every frame of uint8 ``(F, H, W, 3)``; not for ``raw``."""
    if packing == "jpeg":
        return [_pack_jpeg(frame) for frame in frames]
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return [compressor.compress(_minus_row_above(frame).data.cast("B")) for frame in frames]


def unpacker(packing: Packing) -> Unpack:
    """The function ``(blob, out)`` that unpacks one frame into uint8 ``(H, W, 3)``; safe in several threads.

    It raises ``DamagedFrameError``.
    """
    return {"jpeg": _unpack_jpeg, "zstd": _unpack_plain, "zstd-rows": _unpack_rows}[packing]


def unpack(
    packing: Packing,
    blobs: Iterable[Any],
    out: Pixels,
    run: Callable[[Callable[[Any, Pixels], None], Iterable[Any], Iterable[Pixels]], Iterable[None]] = map,
) -> None:
    """Unpack blobs into uint8 ``(F, H, W, 3)``.

    Args:
        packing: how they were packed.
        blobs: one for every frame, in order.
        out: is filled.
        run: ``map``, or the ``map`` of an executor to unpack frames side by side.

    Raises:
        DamagedFrameError: a blob is not a frame of this size.
    """
    for _ in run(unpacker(packing), blobs, out):
        pass


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(255^2 / mean squared error)``; infinite when they are equal."""
    squares, count = 0, 0
    for one, other in zip(first, second, strict=True):  # by frame: the differences of a whole video would be large
        squares += int(np.square(one.astype(np.int32) - other.astype(np.int32)).sum(dtype=np.int64))
        count += one.size
    return float("inf") if squares == 0 else float(10 * np.log10(255.0**2 * count / squares))


def _pack_jpeg(frame: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _unpack_jpeg(blob: Any, out: Pixels) -> None:
    try:
        with Image.open(io.BytesIO(blob), formats=("JPEG",)) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFrameError(f"a frame does not unpack: {error}") from error
    if pixels.shape != out.shape:
        raise DamagedFrameError(f"a frame unpacks to {pixels.shape}, not {out.shape}")
    out[:] = pixels


def _minus_row_above(frame: Pixels) -> Pixels:
    """Every row less the one above it, modulo 256: neighbours are alike, and small numbers pack better."""
    rows = frame.copy()
    rows[1:] -= frame[:-1]
    return rows


def _unpack_rows(blob: Any, out: Pixels) -> None:
    _unpack_plain(blob, out)
    for row in range(1, len(out)):  # row by row: the running sum over an axis is three times slower
        out[row] += out[row - 1]


def _unpack_plain(blob: Any, out: Pixels) -> None:
    try:
        packed = zstandard.ZstdDecompressor().decompress(blob, max_output_size=out.nbytes)
    except zstandard.ZstdError as error:
        raise DamagedFrameError(f"a frame does not unpack: {error}") from error
    if len(packed) != out.nbytes:
        raise DamagedFrameError(f"a frame unpacks to {len(packed)} bytes, not {out.nbytes}")
    out[:] = np.frombuffer(packed, dtype=np.uint8).reshape(out.shape)
