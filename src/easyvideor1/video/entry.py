"""The file of one store entry: a safetensors file that carries its plan, and that proves itself byte by byte.

``raw`` holds one tensor ``pixels``, uint8 ``(F, H, W, 3)``. Packed entries hold ``offsets``, int64 ``(F + 1,)``, and
``blobs``, uint8: frame ``i`` is the packed frame ``blobs[offsets[i]:offsets[i + 1]]`` (see ``codecs``). The metadata
hold the plan, how it is packed, a CRC-32 of everything after the header, and a SHA-256 of all these; the header's text
is canonical, so it is rebuilt and compared when read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import Frames, MediaPlan
from easyvideor1.video.codecs import LOSSY, Codec, DamagedFrameError, Packing, pack, packing_for, unpack
from easyvideor1.video.plan import plan_from_json, plan_to_json

Tensors = dict[str, tuple[str, tuple[int, ...], int]]  # name -> (dtype, shape, bytes), in file order

FORMAT = "easyvideor1-frames/1"
#: Entries that hold exactly the decoded pixels, and entries that hold them nearly, have names of their own, so that
#: both can be there and who asks for the exact ones is never given the others.
EXACT_SUFFIX = ".safetensors"
LOSSY_SUFFIX = ".lossy.safetensors"

#: Pixels begin at a multiple of this many bytes.
ALIGNMENT = 64
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
    packing: Packing
    crc: str
    payload: NDArray[np.uint8]
    version: tuple[int, int, int]

    def check(self) -> None:
        """Raises ``CorruptEntryError`` when the payload is not the one that was written."""
        found = f"{zlib.crc32(self.payload.data):08x}"
        if found != self.crc:
            raise CorruptEntryError(f"checksum of the pixels is {found}, should be {self.crc}")

    def pixels(self, run: Callable[..., Iterable[None]] = map) -> NDArray[np.uint8]:
        """uint8 ``(F, H, W, 3)``, read-only: for ``raw`` a view of the mapped file.

        Args:
            run: ``map``, or the ``map`` of an executor to unpack frames side by side.

        Raises:
            CorruptEntryError: frames do not unpack.
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
    """The end of the name of the entry that ``write_entry`` makes."""
    return LOSSY_SUFFIX if packing_for(codec, plan.height, plan.width) in LOSSY else EXACT_SUFFIX


def raw_bytes(plan: MediaPlan) -> int:
    """Exact size in bytes of the ``raw`` entry of a plan."""
    pixels = int(np.prod(_shape(plan)))
    return len(_header(plan, "raw", "00000000", {"pixels": ("U8", _shape(plan), pixels)})) + pixels


def open_entry(path: Path) -> Entry:
    """Map an entry and check its header and size; the pixels are checked by ``Entry.check``.

    Raises:
        FileNotFoundError: there is none.
        CorruptEntryError: it is not valid.
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
    """Compare the size of an entry's file with what its header says; nothing else of it is read.

    Raises:
        FileNotFoundError: there is none.
        CorruptEntryError: it is cut off, or has grown, or its header cannot be read.
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
    """Open for reading. The system is asked not to note it: what an entry's use is, the store records itself."""
    unnoticed = getattr(os, "O_NOATIME", 0)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | unnoticed)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # only the owner of a file may ask for that


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
