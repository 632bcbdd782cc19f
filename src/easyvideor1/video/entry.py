"""The file of one store entry: a safetensors file that carries its plan, its packed pixels and their checksum.

``raw`` holds one tensor ``pixels``, uint8 ``(F, H, W, 3)``. Packed entries hold ``offsets``, int64 ``(F + 1,)``, and
``blobs``, uint8: frame ``i`` is ``blobs[offsets[i]:offsets[i + 1]]``, packed by itself, so that frames unpack in
parallel. The metadata hold the plan, the packing, a CRC-32 of everything after the header, and a SHA-256 of all these.
The header has one canonical text, which is rebuilt and compared when an entry is read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image

from easyvideor1.types import Frames, MediaPlan
from easyvideor1.video.plan import plan_from_json, plan_to_json

Tensors = dict[str, tuple[str, tuple[int, ...], int]]  # name -> (dtype, shape, bytes), in file order

FORMAT = "easyvideor1-frames/1"
#: Exact and lossy entries of one plan have different names. Both can exist, and a request for exact pixels never
#: returns lossy ones.
EXACT_SUFFIX = ".safetensors"
LOSSY_SUFFIX = ".lossy.safetensors"

#: Pixels begin at a multiple of this many bytes.
ALIGNMENT = 64
_MAX_HEADER = 1 << 24


class CorruptEntryError(Exception):
    """The file is not a valid entry; the store sets it aside and treats the entry as missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An open entry: ``payload`` is a read-only view of everything after the header.

    ``version`` is inode, size and time of change (ns) of the mapped file, which may have been replaced since.
    """

    plan: MediaPlan
    packing: Packing
    crc: str
    payload: NDArray[np.uint8]
    version: tuple[int, int, int]

    def check(self) -> None:
        """Raises ``CorruptEntryError`` if the payload is not what was written."""
        found = f"{zlib.crc32(self.payload.data):08x}"
        if found != self.crc:
            raise CorruptEntryError(f"checksum of the pixels is {found}, should be {self.crc}")

    def pixels(self, run: Callable[..., Iterable[None]] = map) -> NDArray[np.uint8]:
        """uint8 ``(F, H, W, 3)``, read-only: for ``raw`` a view of the mapped file.

        Args:
            run: ``map``, or the ``map`` of an executor to unpack frames in parallel.

        Raises:
            CorruptEntryError: a frame cannot be unpacked.
        """
        shape = _shape(self.plan)
        if self.packing == "raw":
            return self.payload.reshape(shape)
        count = shape[0]
        offsets = np.frombuffer(self.payload[: 8 * (count + 1)].tobytes(), dtype="<i8").tolist()
        blobs = self.payload[8 * (count + 1) :]
        out = np.empty(shape, dtype=np.uint8)
        try:
            unpack(self.packing, [blobs[offsets[i] : offsets[i + 1]].data for i in range(count)], out, run)
        except DamagedFrameError as error:
            raise CorruptEntryError(str(error)) from error
        out.flags.writeable = False
        return out


def write_entry(file: Any, frames: Frames, codec: Codec) -> None:
    """Write an entry to an open binary file.

    Raises:
        ValueError: the pixels do not have the type and shape of their plan.
    """
    shape = _shape(frames.plan)
    if frames.pixels.dtype != np.uint8 or frames.pixels.shape != shape:
        raise ValueError(f"pixels are {frames.pixels.dtype} {frames.pixels.shape} but their plan says uint8 {shape}")
    pixels = np.ascontiguousarray(frames.pixels)
    packing = packing_for(codec, shape[1], shape[2])
    if packing == "raw":
        parts: list[Any] = [pixels.data.cast("B")]
        tensors: Tensors = {"pixels": ("U8", shape, pixels.nbytes)}
    else:
        blobs = pack(pixels, packing)
        offsets = np.cumsum([0, *map(len, blobs)], dtype="<i8").tobytes()
        parts = [offsets, *blobs]
        tensors = _packed_tensors(len(blobs), sum(map(len, blobs)))
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    file.write(_header(frames.plan, packing, f"{crc:08x}", tensors))
    for part in parts:
        file.write(part)


def suffix_of(codec: Codec, plan: MediaPlan) -> str:
    """The suffix of the entry that ``write_entry`` writes."""
    return LOSSY_SUFFIX if packing_for(codec, plan.height, plan.width) in LOSSY else EXACT_SUFFIX


def raw_bytes(plan: MediaPlan) -> int:
    """Exact size in bytes of the ``raw`` entry of a plan."""
    pixels = int(np.prod(_shape(plan)))
    return len(_header(plan, "raw", "00000000", {"pixels": ("U8", _shape(plan), pixels)})) + pixels


def open_entry(path: Path) -> Entry:
    """Map an entry and check its header and size; the pixels are checked by ``Entry.check``.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptEntryError: the entry is not valid.
    """
    with os.fdopen(_open_unnoticed(path), "rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
            raise CorruptEntryError("the header is cut off")
        header = prefix + file.read(length)
        plan, packing, crc = _parse_header(header, size)
        if path.name != plan.digest + (LOSSY_SUFFIX if packing in LOSSY else EXACT_SUFFIX):
            raise CorruptEntryError(f"it holds the frames of {plan.digest}, packed as {packing}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    payload = np.frombuffer(mapped, dtype=np.uint8, offset=len(header))
    return Entry(plan, packing, crc, payload, (status.st_ino, size, status.st_mtime_ns))


def check_size(path: Path) -> None:
    """Compare the size of an entry's file with the size in its header; nothing else is read.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptEntryError: the file has another size, or its header cannot be read.
    """
    with os.fdopen(_open_unnoticed(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise CorruptEntryError("the header is cut off")
        try:
            tensors = json.loads(file.read(length))
            payload = max(int(tensors[name]["data_offsets"][1]) for name in tensors if name != "__metadata__")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise CorruptEntryError(f"the header cannot be read: {error}") from error
    if size != 8 + length + payload:
        raise CorruptEntryError(f"it has {size} bytes, its header says {8 + length + payload}")


def _open_unnoticed(path: Path) -> int:
    """Open for reading without updating the access time, which the store sets itself."""
    unnoticed = getattr(os, "O_NOATIME", 0)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | unnoticed)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # only the owner of a file may request that


def _parse_header(header: bytes, size: int) -> tuple[MediaPlan, Packing, str]:
    try:
        metadata = json.loads(header[8:])["__metadata__"]
        plan, crc = plan_from_json(metadata["plan"]), metadata["crc32"]
        if metadata["codec"] not in get_args(Packing):
            raise CorruptEntryError(f"unknown codec {metadata['codec']!r}")
        packing = cast("Packing", metadata["codec"])
        payload = size - len(header)
        if packing == "raw":
            tensors: Tensors = {"pixels": ("U8", _shape(plan), int(np.prod(_shape(plan))))}
        else:
            tensors = _packed_tensors(_shape(plan)[0], payload - 8 * (_shape(plan)[0] + 1))
        if sum(length for _, _, length in tensors.values()) != payload:
            raise CorruptEntryError(f"it has {payload} bytes of pixels, not what its plan says")
        if _header(plan, packing, crc, tensors) != header:
            raise CorruptEntryError("the header is damaged")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptEntryError(f"the header cannot be read: {error}") from error
    return plan, packing, crc


def _header(plan: MediaPlan, packing: Packing, crc: str, tensors: Tensors) -> bytes:
    text = plan_to_json(plan)
    seal = hashlib.sha256(f"{FORMAT}|{packing}|{crc}|{text}".encode()).hexdigest()
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "codec": packing, "crc32": crc, "plan": text, "seal": seal}
    }
    begin = 0
    for name, (dtype, shape, length) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + length]}
        begin += length
    body = json.dumps(header, separators=(",", ":")).encode()
    body += b" " * (-(8 + len(body)) % ALIGNMENT)
    return len(body).to_bytes(8, "little") + body


def _packed_tensors(frames: int, length: int) -> Tensors:
    return {"offsets": ("I64", (frames + 1,), 8 * (frames + 1)), "blobs": ("U8", (length,), length)}


def _shape(plan: MediaPlan) -> tuple[int, int, int, int]:
    return (len(plan.frame_indices), plan.height, plan.width, 3)


#: Values of ``cache.codec``.
Codec = Literal["raw", "zstd", "jpeg"]
#: Packings in the header of an entry. Earlier versions wrote ``zstd`` without ``-rows``.
Packing = Literal["raw", "zstd", "zstd-rows", "jpeg"]

#: Packings that change pixels.
LOSSY: frozenset[Packing] = frozenset({"jpeg"})

#: Zstandard level: higher levels save a few per cent on video frames and take several times as long.
ZSTD_LEVEL = 1
#: JPEG quality, without chroma subsampling: at least 40 dB on noisy frames, where subsampling gives 31.
JPEG_QUALITY = 95
#: A side of a JPEG cannot be longer, and Pillow refuses very large pictures.
_JPEG_SIDE = 65_500
_JPEG_PIXELS = 1 << 26

#: Bytes of an entry per byte of pixels, for estimates: measured on real videos; noisy videos need twice as much.
TYPICAL_RATIO: dict[Codec, float] = {"raw": 1.0, "zstd": 0.28, "jpeg": 0.10}

Pixels = NDArray[np.uint8]
Unpack = Callable[[Any, Pixels], None]


class DamagedFrameError(Exception):
    """A packed frame cannot be unpacked to a frame of its size."""


def packing_for(codec: Codec, height: int, width: int) -> Packing:
    """How frames of a size are packed under ``codec``; frames too large for JPEG are packed without loss."""
    if codec == "jpeg" and max(height, width) <= _JPEG_SIDE and height * width <= _JPEG_PIXELS:
        return "jpeg"
    return "raw" if codec == "raw" else "zstd-rows"


def pack(frames: Pixels, packing: Packing) -> list[bytes]:
    """One blob per frame of uint8 ``(F, H, W, 3)``; not for ``raw``."""
    if packing == "jpeg":
        return [_pack_jpeg(frame) for frame in frames]
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return [compressor.compress(_minus_row_above(frame).data.cast("B")) for frame in frames]


def unpacker(packing: Packing) -> Unpack:
    """The function ``(blob, out)`` that unpacks one frame into uint8 ``(H, W, 3)``. Thread-safe.

    The function raises ``DamagedFrameError``.
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
        packing: how the frames are packed.
        blobs: one per frame, in order.
        out: the array to fill.
        run: ``map``, or the ``map`` of an executor to unpack frames in parallel.

    Raises:
        DamagedFrameError: a blob does not hold a frame of this size.
    """
    for _ in run(unpacker(packing), blobs, out):
        pass


def _pack_jpeg(frame: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _unpack_jpeg(blob: Any, out: Pixels) -> None:
    try:
        with Image.open(io.BytesIO(blob), formats=("JPEG",)) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFrameError(f"a frame cannot be unpacked: {error}") from error
    if pixels.shape != out.shape:
        raise DamagedFrameError(f"a frame unpacks to {pixels.shape}, not {out.shape}")
    out[:] = pixels


def _minus_row_above(frame: Pixels) -> Pixels:
    """Every row minus the row above it, modulo 256: neighbours are similar, and small numbers compress better."""
    rows = frame.copy()
    rows[1:] -= frame[:-1]
    return rows


def _unpack_rows(blob: Any, out: Pixels) -> None:
    _unpack_plain(blob, out)
    for row in range(1, len(out)):  # np.cumsum over the axis is three times slower
        out[row] += out[row - 1]


def _unpack_plain(blob: Any, out: Pixels) -> None:
    try:
        packed = zstandard.ZstdDecompressor().decompress(blob, max_output_size=out.nbytes)
    except zstandard.ZstdError as error:
        raise DamagedFrameError(f"a frame cannot be unpacked: {error}") from error
    if len(packed) != out.nbytes:
        raise DamagedFrameError(f"a frame unpacks to {len(packed)} bytes, not {out.nbytes}")
    out[:] = np.frombuffer(packed, dtype=np.uint8).reshape(out.shape)
