"""Weights on their way from the trainer to engines in other processes of the machine.

``SharedWeights`` keeps the latest weights in one buffer per parameter, which every update fills again. Other processes
map the buffers; nothing goes through a pipe. Buffers of tensors on the CPU lie in an anonymous file in memory, which
disappears with the last process that uses it, however that ends, and which needs no room in ``/dev/shm``. Tensors on a
GPU have buffers there, shared by CUDA IPC (not run yet: no GPU was at hand).

``checksum`` lets both sides compare what was sent with what was taken.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from easyvideor1.engines.worker_messages import LoadWeights, WeightSource, WeightsTaken
from easyvideor1.types import ConfigError, EasyVideoError

#: Buffers begin at multiples of this many bytes, so that they can be looked at as any type.
ALIGNMENT = 64
#: Bytes of the file at first. It grows by doubling; pages that nothing was written to take no memory.
_FIRST_BYTES = 1 << 24
#: 8-byte words that are multiplied at a time: they and the multipliers stay in the cache of a core.
_WORDS = 1 << 17


def checksum(name: str, tensor: torch.Tensor) -> int:
    """64 bits that stand for name, type, shape and bytes of a tensor.

    Each 8-byte word is multiplied by an odd number that depends on its place, modulo ``2 ** 64``, and the products are
    added; so an exchange of two values shows, too. It runs where the tensor lies, and finds accidents, not attacks.
    """
    digest = hashlib.blake2b(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=8)
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    whole = len(flat) // 8 * 8
    words = flat[:whole].view(torch.int64)
    multipliers = _multipliers(flat.device)
    products = torch.empty_like(multipliers)
    sums = []
    for start in range(0, len(words), _WORDS):
        part = words[start : start + _WORDS]
        count = len(part)
        sums.append(torch.mul(part, multipliers[:count], out=products[:count]).sum())
    if sums:
        digest.update(torch.stack(sums).cpu().numpy().tobytes())
    digest.update(bytes(flat[whole:].tolist()))
    return int.from_bytes(digest.digest(), "little")


@lru_cache(maxsize=4)
def _multipliers(device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(20240229)
    return (torch.randint(-(2**62), 2**62, (_WORDS,), generator=generator) | 1).to(device)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor lies in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Its length."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def view(self, memory: torch.Tensor) -> torch.Tensor:
        """The tensor in the file's bytes."""
        return memory[self.start : self.start + self.bytes].view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class SharedSource:
    """The ``WeightSource`` of ``SharedWeights``.

    ``path`` and ``size`` are of the file, ``inode`` tells it from an earlier one of that name. ``on_device`` are what
    rebuilds a tensor on a GPU, by ``torch.multiprocessing``.
    """

    path: str
    inode: int
    size: int
    slots: Mapping[str, Slot]
    on_device: Mapping[str, tuple[Callable[..., torch.Tensor], tuple[Any, ...]]]

    def read(self) -> Iterator[tuple[str, torch.Tensor]]:
        """See ``WeightSource``."""
        for name, slot in self.slots.items():
            yield name, slot.view(_mapped(self.path, self.inode, self.size))
        for name, (rebuild, arguments) in self.on_device.items():
            yield name, rebuild(*arguments)


@lru_cache(maxsize=1)
def _mapped(path: str, inode: int, size: int) -> torch.Tensor:
    """The bytes of a file; the mapping is kept, as to make one costs as much as to copy it."""
    memory: torch.Tensor = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
    return memory


class SharedWeights:
    """The latest weights, in memory that processes of the same user on this machine can map.

    It serves any number of engines: ``write`` once, and send ``source`` to each.
    """

    def __init__(self) -> None:
        self._file, self._path = _open_file()
        self._inode = os.fstat(self._file).st_ino
        self._used = 0
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._slots: dict[str, Slot] = {}
        self._on_device: dict[str, torch.Tensor] = {}
        #: Of each tensor that is there, by name.
        self.checksums: dict[str, int] = {}
        #: Changes whenever other tensors are here, or some are lost.
        self.edition = 0
        #: The names that a reader must find; those before the last update; and those that it wrote.
        self._known: set[str] = set()
        self._known_before: set[str] = set()
        self._written: dict[str, None] = {}

    def write(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
        """Take tensors, one after the other; those that do not come stay. No reader may be reading.

        If the iterator raises, what came is not kept.

        Returns:
            The names that came.

        Raises:
            ConfigError: a name comes twice.
        """
        self._written = {}
        self._known_before = set(self._known)
        try:
            for name, tensor in tensors:
                if name in self._written:
                    raise ConfigError(f"weights have {name!r} twice; give each tensor once")
                tensor = tensor.detach()
                self._written[name] = None
                self.checksums[name] = checksum(name, tensor)
                self._buffer(name, tensor).copy_(tensor)
        except BaseException:
            self._drop()
            raise
        self._known.update(self._written)
        self.edition += 1
        if self._on_device:
            torch.cuda.synchronize()
        return list(self._written)

    def source(self, names: Collection[str] | None = None) -> SharedSource:
        """What a worker reads: the tensors of these names, or all."""
        from torch.multiprocessing import reductions

        share: Any = reductions.reduce_tensor
        wanted = self.checksums.keys() if names is None else names
        return SharedSource(
            self._path,
            self._inode,
            len(self._memory),
            {name: self._slots[name] for name in wanted if name in self._slots},
            {name: share(self._on_device[name]) for name in wanted if name in self._on_device},
        )

    def slots(self, names: Collection[str] | None = None) -> dict[str, Slot]:
        """Shape and type of the tensors of these names, or of all; the place of one on a GPU means nothing."""
        wanted = self.checksums.keys() if names is None else names
        return {name: self._slots[name] if name in self._slots else _slot_of(self._on_device[name]) for name in wanted}

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor as it stands here."""
        return self._slots[name].view(self._memory) if name in self._slots else self._on_device[name]

    @property
    def missing(self) -> set[str]:
        """Names that came once, but not again after an update that was not good."""
        return self._known - self.checksums.keys()

    def require_all(self, version: int) -> None:
        """Check that the tensors of ``version`` can be sent.

        Raises:
            ConfigError: an update was not good, and this one does not have all that came before.
        """
        if missing := self.missing:
            raise ConfigError(
                f"weights of version {version}: those before did not come through, and {len(missing)} tensors did not "
                f"come again, such as {min(missing)!r}; update all of them"
            )

    def bytes(self, names: Collection[str]) -> int:
        """Bytes of some tensors."""
        on_device = (self._on_device[name].nbytes for name in names if name in self._on_device)
        return sum(self._slots[name].bytes for name in names if name in self._slots) + sum(on_device)

    def taken(self, names: Collection[str]) -> None:
        """An engine has these tensors of the last update: the next one must bring them if this one is not good."""
        self._known.update(names)
        self._known_before.update(names)

    def spoil(self) -> None:
        """Forget the tensors of the last update, which an engine refused; those before it are overwritten."""
        self.edition += 1
        self._drop()

    def _drop(self) -> None:
        for name in self._written:
            self.checksums.pop(name, None)
        self._known = set(self._known_before)

    def close(self) -> None:
        """Release the memory; may be called again."""
        for kept in (self.checksums, self._slots, self._on_device):
            kept.clear()
        self._memory = torch.empty(0, dtype=torch.uint8)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self._path.startswith("/proc/"):
                Path(self._path).unlink()

    def _buffer(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The buffer of a parameter: that of the last update, if it is of this form still."""
        form = (tuple(tensor.shape), tensor.dtype)
        if tensor.is_cuda:
            kept = self._on_device.get(name)
            if kept is None or (tuple(kept.shape), kept.dtype, kept.device) != (*form, tensor.device):
                kept = self._on_device[name] = torch.empty_like(tensor, memory_format=torch.contiguous_format)
                self._slots.pop(name, None)
            return kept
        slot = self._slots.get(name)
        if slot is None or (slot.shape, slot.dtype) != form:
            slot = Slot(self._used, *form)
            self._used += -(-slot.bytes // ALIGNMENT) * ALIGNMENT
            self._slots[name] = slot
            self._on_device.pop(name, None)
            if self._used > len(self._memory):
                size = max(_FIRST_BYTES, 1 << (self._used - 1).bit_length())
                os.ftruncate(self._file, size)
                self._memory = torch.from_file(self._path, shared=True, size=size, dtype=torch.uint8)
        return slot.view(self._memory)


@dataclass(frozen=True, slots=True)
class _Update:
    """Weights on their way: the number of the message, their version, and the checksum of each tensor."""

    number: int
    version: int
    checksums: dict[str, int]


class WorkerWeights:
    """What one worker has been given of the shared weights, and whether it came through.

    ``source`` is how it reads the tensors of some names; by default it maps the shared memory.
    """

    def __init__(self, shared: SharedWeights, source: Callable[[Collection[str]], WeightSource] | None = None) -> None:
        self.shared = shared
        self._source = shared.source if source is None else source
        #: Of the weights that the worker has.
        self.version = 0
        #: Why the worker's weights cannot be trusted; empty if they can.
        self.refusal = ""
        self._numbers = 0
        self._held: int | None = None
        self._edition = 0
        self._update: _Update | None = None

    @property
    def on_their_way(self) -> bool:
        """Whether the worker has not answered yet."""
        return self._update is not None

    def begin(self, version: int) -> None:
        """Have the shared weights be those of ``version``, also for a worker that starts now.

        Raises:
            ConfigError: an update was not good, and this one does not have all that came before.
        """
        self.shared.require_all(version)
        self._held, self._edition = version, self.shared.edition

    def message(self, names: Collection[str]) -> LoadWeights:
        """What to send for the tensors of these names."""
        assert self._held is not None
        self._numbers += 1
        checksums = {name: self.shared.checksums[name] for name in names}
        self._update = _Update(self._numbers, self._held, checksums)
        return LoadWeights(self._numbers, self._held, self._source(names))

    def again(self) -> LoadWeights | None:
        """What to send to a new worker; ``None`` if it has what it needs in its checkpoint."""
        self._update = None
        if self._held is None or self.refusal:
            return None
        if self.shared.missing or self._edition != self.shared.edition:
            self.refusal = f"the worker that had the weights of version {self.version} ended, and they are lost"
            return None
        return self.message(self.shared.checksums)

    def drop(self) -> None:
        """The worker will not answer any more."""
        self._update = None

    def take(self, message: WeightsTaken) -> bool:
        """Take the worker's answer; whether it was waited for.

        Raises:
            EasyVideoError: the engine refused the weights, or took others than were sent; the message names them.
        """
        update = self._update
        if update is None or message.number != update.number:
            return False
        self._update = None
        error: EasyVideoError | None = None
        if message.fault is not None:
            error = message.fault.error()
        elif message.checksums != update.checksums:
            names = sorted({name for name, _ in {*update.checksums.items()} ^ {*message.checksums.items()}})
            error = EasyVideoError(
                f"weights of version {update.version}: the engine took {len(names)} tensors otherwise than they were "
                f"sent, such as {names[0]!r}, whose checksum is {message.checksums.get(names[0], 'missing')} there and "
                f"{update.checksums.get(names[0], 'missing')} here"
            )
        if error is not None:
            self.refusal = f"the weights of version {update.version} did not come through: {error}"
            if isinstance(error, ConfigError):  # else the tensors are right here, and others may have taken them
                self.shared.spoil()
            raise error
        self.shared.taken(update.checksums)
        self.refusal, self.version = "", update.version
        return True


def _slot_of(tensor: torch.Tensor) -> Slot:
    return Slot(0, tuple(tensor.shape), tensor.dtype)


def _open_file() -> tuple[int, str]:
    """The descriptor of a file, and the path by which other processes open it; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("easyvideor1-weights")
        return file, f"/proc/{os.getpid()}/fd/{file}"
    return tempfile.mkstemp(prefix="easyvideor1-weights-")
