"""The weights of a checkpoint's safetensors files, read and written one tensor at a time.

The format (https://huggingface.co/docs/safetensors): eight bytes with the length of the header, little-endian; the
header, JSON of ``{name: {dtype, shape, data_offsets}}``; then the tensors without gaps. Knowing the shapes, one can
write the header first and the tensors after it, so that no more than one of them is in memory. Files are read with
plain reads, not mapped: mapped pages would count as memory of the process.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from easyvideor1.files import json_bytes, read_json
from easyvideor1.types import DataError

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: Bytes of a file of weights unless somebody says otherwise, as in transformers.
SHARD_BYTES = 50 * 10**9

_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
#: The format allows no longer header.
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is made when it is needed: ``load`` gives it, on any device.

    ``load_rows(begin, end)`` gives some of its rows alone, where they can be had without the others.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    load: Callable[[], torch.Tensor]
    load_rows: Callable[[int, int], torch.Tensor] | None = None

    @classmethod
    def of(cls, tensor: torch.Tensor) -> LazyTensor:
        """One that is there."""
        return cls(tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, begin: int, end: int) -> torch.Tensor:
        """The rows ``begin`` to ``end`` of its first dimension; from a file, these alone are read."""
        return self.load()[begin:end] if self.load_rows is None else self.load_rows(begin, end)

    def to(self, dtype: torch.dtype) -> LazyTensor:
        """The same in another type; whole numbers stay what they are."""
        if dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return LazyTensor(dtype, self.shape, lambda: self.load().to(dtype))


def stored_weights(checkpoint: Path) -> dict[str, LazyTensor]:
    """The weights of a checkpoint by the names in its files, in the order of the files; only headers are read.

    Raises:
        DataError: there are none, a file is damaged, or files and index name different tensors.
    """
    if not (checkpoint / INDEX).is_file():
        if not (checkpoint / WHOLE).is_file():
            raise DataError(f"{checkpoint}: no weights: there is neither {WHOLE} nor {INDEX}")
        return stored_tensors(checkpoint / WHOLE)
    index = read_json(checkpoint / INDEX)
    if not isinstance(places := index.get("weight_map"), dict):
        raise DataError(f"{checkpoint / INDEX}: has no weight_map; write the checkpoint again")
    found: dict[str, LazyTensor] = {}
    for name in sorted(set(places.values())):
        tensors = stored_tensors(checkpoint / name)
        listed = {key for key, file in places.items() if file == name}
        if differing := sorted(listed ^ tensors.keys()):
            fault = "is missing there" if differing[0] in listed else f"is not in {INDEX}"
            raise DataError(
                f"{checkpoint / name}: the tensor {differing[0]!r} {fault} ({len(differing)} tensors differ between "
                "file and index); write the checkpoint again"
            )
        found.update(tensors)
    return found


def stored_tensors(file: Path) -> dict[str, LazyTensor]:
    """The tensors of a safetensors file by name, in its order.

    Raises:
        DataError: the file is missing or damaged.
    """
    header, start = _header(file)
    size = file.stat().st_size
    found: dict[str, LazyTensor] = {}
    end = start
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = _TYPES[entry["dtype"]], tuple(map(int, entry["shape"]))
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            load_rows = partial(_read_rows, file, begin, dtype, shape) if shape else None
            found[name] = LazyTensor(dtype, shape, partial(_read, file, begin, dtype, shape), load_rows)
            if end - begin != found[name].nbytes:
                raise ValueError(f"{name!r} has {end - begin} bytes")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: is damaged: its header cannot be understood ({error})") from error
    if end != size:
        raise DataError(f"{file}: is damaged: it has {size} bytes, its header says {end}")
    return found


def stored_settings(file: Path) -> dict[str, str]:
    """What ``write_tensors`` was given as ``settings``.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _header(file, metadata=True)[0]


def _header(file: Path, metadata: bool = False) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _MAX_HEADER:
                raise ValueError("it is too long")
            header = json.loads(stream.read(length))
            settings = header.pop("__metadata__", {})
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}: is damaged: its header cannot be read ({error})") from error
    return (settings if metadata else header), 8 + length


def _read(file: Path, begin: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    with file.open("rb", buffering=0) as stream:
        stream.seek(begin)
        view = _bytes(tensor)
        while len(view):
            if not (count := stream.readinto(view)):
                raise DataError(f"{file}: ended while it was read")
            view = view[count:]
    return tensor


def _read_rows(
    file: Path, start: int, dtype: torch.dtype, shape: tuple[int, ...], begin: int, end: int
) -> torch.Tensor:
    row = math.prod(shape[1:]) * dtype.itemsize
    return _read(file, start + begin * row, dtype, (end - begin, *shape[1:]))


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data


def write_tensors(
    file: Path,
    tensors: Mapping[str, LazyTensor],
    settings: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Write a safetensors file; one tensor at a time is loaded.

    Args:
        file: is overwritten.
        tensors: by name. The file has them by falling size of their values, so that each is aligned to it.
        settings: text that goes with them.
        on_bytes: is told the size of each tensor once it is written.

    Raises:
        OSError: the disk refused.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(settings or {})}}
    end = 0
    for name in order:
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": tensor.shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            loaded = tensors[name].load().detach().cpu().contiguous()
            if (loaded.dtype, tuple(loaded.shape)) != (tensors[name].dtype, tensors[name].shape):
                raise RuntimeError(f"{name}: {loaded.dtype} {tuple(loaded.shape)} is not as announced")
            stream.write(_bytes(loaded))
            del loaded  # before the next one is made
            if on_bytes is not None:
                on_bytes(tensors[name].nbytes)
        if on_bytes is not None:  # progress says how far the disk is; else whoever makes the directory whole syncs it
            stream.flush()
            os.fsync(stream.fileno())


def write_weights(
    directory: Path,
    tensors: Mapping[str, LazyTensor],
    shard_bytes: int = SHARD_BYTES,
    on_bytes: Callable[[int, int], None] | None = None,
    stem: str = "model",
) -> None:
    """Write ``model.safetensors``, or where that would exceed ``shard_bytes``, numbered files and their index.

    Args:
        directory: must exist.
        tensors: by name; they are written in this order.
        shard_bytes: of a file's tensors; one that is larger has a file of its own.
        on_bytes: is told the bytes written so far, and those of all.
        stem: of the files' names.

    Raises:
        OSError: the disk refused.
    """
    total, done = sum(tensor.nbytes for tensor in tensors.values()), 0

    def add(size: int) -> None:
        nonlocal done
        assert on_bytes is not None
        done += size
        on_bytes(done, total)

    count = None if on_bytes is None else add
    shards: list[dict[str, LazyTensor]] = [{}]
    room = shard_bytes
    for name, tensor in tensors.items():
        if shards[-1] and tensor.nbytes > room:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        write_tensors(directory / f"{stem}.safetensors", shards[0], on_bytes=count)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(directory / file, shard, on_bytes=count)
        places.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (directory / f"{stem}.safetensors.index.json").write_bytes(json_bytes(index, indent=2))
