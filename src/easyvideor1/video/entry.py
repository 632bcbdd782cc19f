"""The file of one store entry: a safetensors file that carries its plan, and that proves itself byte by byte.

``raw`` holds one tensor ``pixels``, uint8 ``(F, H, W, 3)``. ``zstd`` holds ``offsets``, int64 ``(F + 1,)``, and
``blobs``, uint8: frame ``i`` is the Zstandard frame ``blobs[offsets[i]:offsets[i + 1]]``. The metadata hold the plan,
a CRC-32 of everything after the header, and a SHA-256 of the plan with that CRC; the header's text is canonical, so it
is rebuilt and compared when read.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zstandard
from numpy.typing import NDArray

from easyvideor1.types import Frames, MediaPlan
from easyvideor1.video.plan import plan_from_json, plan_to_json

Codec = Literal["raw", "zstd"]
Tensors = dict[str, tuple[str, tuple[int, ...], int]]  # name -> (dtype, shape, bytes), in file order

FORMAT = "easyvideor1-frames/1"
SUFFIX = ".safetensors"

#: Pixels begin at a multiple of this many bytes.
ALIGNMENT = 64
#: Zstandard's level: higher ones save a few per cent of video frames and cost several times the time.
ZSTD_LEVEL = 3
_MAX_HEADER = 1 << 24


class CorruptEntryError(Exception):
    """The bytes are not a valid entry; the store sets the file aside and treats it as a miss."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An open entry: ``payload`` is a read-only view of everything after the header.

    ``version`` is inode, size and time of change (ns) of the file that is mapped, which need not be the one that has
    its name by now.
    """

    plan: MediaPlan
    codec: Codec
    crc: str
    payload: NDArray[np.uint8]
    version: tuple[int, int, int]

    def check(self) -> None:
        """Raises ``CorruptEntryError`` when the payload is not the one that was written."""
        found = f"{zlib.crc32(self.payload.data):08x}"
        if found != self.crc:
            raise CorruptEntryError(f"checksum of the pixels is {found}, should be {self.crc}")

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 ``(F, H, W, 3)``, read-only: for ``raw`` a view of the mapped file."""
        shape = _shape(self.plan)
        if self.codec == "raw":
            return self.payload.reshape(shape)
        count = shape[0]
        offsets = np.frombuffer(self.payload[: 8 * (count + 1)].tobytes(), dtype="<i8")
        blobs = self.payload[8 * (count + 1) :]
        out = np.empty(shape, dtype=np.uint8)
        unpack = zstandard.ZstdDecompressor()
        size = int(np.prod(shape[1:]))
        for i in range(count):
            frame = unpack.decompress(blobs[offsets[i] : offsets[i + 1]].data, max_output_size=size)
            out[i] = np.frombuffer(frame, dtype=np.uint8).reshape(shape[1:])
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
    if codec == "raw":
        parts: list[Any] = [pixels.data.cast("B")]
        tensors: Tensors = {"pixels": ("U8", shape, pixels.nbytes)}
    else:
        pack = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        blobs = [pack.compress(frame.data.cast("B")) for frame in pixels]
        offsets = np.cumsum([0, *map(len, blobs)], dtype="<i8").tobytes()
        parts = [offsets, *blobs]
        tensors = _zstd_tensors(len(blobs), sum(map(len, blobs)))
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    file.write(_header(frames.plan, codec, f"{crc:08x}", tensors))
    for part in parts:
        file.write(part)


def open_entry(path: Path) -> Entry:
    """Map an entry and check its header and size; the pixels are checked by ``Entry.check``.

    Raises:
        FileNotFoundError: there is none.
        CorruptEntryError: it is not valid.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
            raise CorruptEntryError("the header is cut off")
        header = prefix + file.read(length)
        plan, codec, crc = _parse_header(header, size)
        if plan.digest != path.name.removesuffix(SUFFIX):
            raise CorruptEntryError(f"it holds the frames of {plan.digest}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    payload = np.frombuffer(mapped, dtype=np.uint8, offset=len(header))
    return Entry(plan, codec, crc, payload, (status.st_ino, size, status.st_mtime_ns))


def _parse_header(header: bytes, size: int) -> tuple[MediaPlan, Codec, str]:
    try:
        metadata = json.loads(header[8:])["__metadata__"]
        plan, codec, crc = plan_from_json(metadata["plan"]), metadata["codec"], metadata["crc32"]
        payload = size - len(header)
        if codec == "raw":
            tensors: Tensors = {"pixels": ("U8", _shape(plan), int(np.prod(_shape(plan))))}
        elif codec == "zstd":
            tensors = _zstd_tensors(_shape(plan)[0], payload - 8 * (_shape(plan)[0] + 1))
        else:
            raise CorruptEntryError(f"unknown codec {codec!r}")
        if sum(length for _, _, length in tensors.values()) != payload:
            raise CorruptEntryError(f"it has {payload} bytes of pixels, not what its plan says")
        if _header(plan, codec, crc, tensors) != header:
            raise CorruptEntryError("the header is damaged")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptEntryError(f"the header cannot be read: {error}") from error
    return plan, codec, crc


def _header(plan: MediaPlan, codec: str, crc: str, tensors: Tensors) -> bytes:
    text = plan_to_json(plan)
    seal = hashlib.sha256(f"{FORMAT}|{codec}|{crc}|{text}".encode()).hexdigest()
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "codec": codec, "crc32": crc, "plan": text, "seal": seal}
    }
    begin = 0
    for name, (dtype, shape, length) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, begin + length]}
        begin += length
    body = json.dumps(header, separators=(",", ":")).encode()
    body += b" " * (-(8 + len(body)) % ALIGNMENT)
    return len(body).to_bytes(8, "little") + body


def _zstd_tensors(frames: int, length: int) -> Tensors:
    return {"offsets": ("I64", (frames + 1,), 8 * (frames + 1)), "blobs": ("U8", (length,), length)}


def _shape(plan: MediaPlan) -> tuple[int, int, int, int]:
    return (len(plan.frame_indices), plan.height, plan.width, 3)
