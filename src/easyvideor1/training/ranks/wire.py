"""The form in which ranks send each other calls and results: pickled, small, and nothing twice.

The calls of a step are about the same prompts and responses: log-probs, values, and several updates. A ``Sender`` sends
each of them once, and then its number; a ``Receiver`` keeps them until it is told to drop them.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from easyvideor1.engines.packed import PackedPrompt
from easyvideor1.types import Prompt, Turn

#: Bytes of arrays that a sender keeps at most between two rollouts; then it begins anew.
_KEPT_BYTES = 256 << 20
#: Arrays of fewer bytes are no longer than their numbers.
_SMALL = 64


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent of an object: ``body`` refers by number to ``new`` things, and to those sent before.

    ``anew`` says that those which neither are new nor among ``kept`` are dropped.
    """

    body: bytes
    new: bytes
    anew: bool
    kept: tuple[int, ...]


def packed(value: Any) -> bytes:
    """An object as compressed bytes. Of turns and prompts the texts stay behind: ranks compute with ids."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return zlib.compress(file.getvalue(), level=1)


def unpacked(data: bytes) -> Any:
    """The object of ``packed``. Ranks trust each other, as those of any group of ``torch.distributed`` do."""
    return pickle.loads(zlib.decompress(data))  # noqa: S301 - of a rank of this run


class Sender:
    """Packs objects for receivers that get all of them, in order."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[int, Any]] = {}  # by identity; the object is kept, so that it stays its own
        self._next = self._bytes = 0

    def pack(self, value: Any, *, anew: bool = False) -> bytes:
        """An object that a ``Receiver`` unpacks; with ``anew``, both sides drop whatever it has nothing of."""
        new: dict[int, Any] = {}
        used: set[int] = set()

        def number_of(part: Any) -> int:
            known = self._numbers.get(id(part))
            if known is None:
                known = self._numbers[id(part)] = self._next, part
                new[self._next] = part
                self._next += 1
                self._bytes += getattr(part, "nbytes", 0)
            used.add(known[0])
            return known[0]

        file = io.BytesIO()
        _Pickler(file, number_of).dump(value)
        _Pickler(parts := io.BytesIO()).dump(new)
        if anew := anew or self._bytes > _KEPT_BYTES:
            self._numbers = {key: entry for key, entry in self._numbers.items() if entry[0] in used}
            self._bytes = sum(getattr(part, "nbytes", 0) for _, part in self._numbers.values())
        kept = tuple(sorted(used - new.keys())) if anew else ()
        return packed(Parcel(file.getvalue(), parts.getvalue(), anew, kept))


class Receiver:
    """Unpacks what a ``Sender`` has packed."""

    def __init__(self) -> None:
        self._parts: dict[int, Any] = {}

    def unpack(self, data: bytes) -> Any:
        """The object; what was sent before is the same object again."""
        parcel = unpacked(data)
        if parcel.anew:
            self._parts = {number: self._parts[number] for number in parcel.kept}
        self._parts |= pickle.loads(parcel.new)  # noqa: S301 - of a rank of this run
        return _Unpickler(io.BytesIO(parcel.body), self._parts).load()


class _Pickler(pickle.Pickler):
    """Pickles what ranks exchange in few bytes; ``number_of`` gives what stands for prompts and arrays."""

    def __init__(self, file: io.BytesIO, number_of: Callable[[Any], int] | None = None) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._number_of = number_of

    def persistent_id(self, value: Any) -> int | None:
        """See ``pickle``."""
        if self._number_of is None:
            return None
        kind = type(value)
        if kind is Prompt or ((kind is np.ndarray or kind is torch.Tensor) and value.nbytes >= _SMALL):
            return self._number_of(value)
        return None

    def reducer_override(self, value: Any) -> Any:
        """See ``pickle``. A tensor that is a view would be pickled with all that it is a view of."""
        kind = type(value)
        if kind is torch.Tensor and value.device.type == "cpu" and value.dtype != torch.bfloat16:
            return torch.from_numpy, (np.ascontiguousarray(value.detach().numpy()).reshape(value.shape),)
        if kind is np.ndarray and value.dtype == np.int64 and value.nbytes >= _SMALL:
            small = value.astype(np.int32)
            if np.array_equal(small, value):
                return _widened, (small,)
        if kind is Prompt:
            return _prompt, (PackedPrompt.of(replace(value, text="")),)
        if kind is Turn:
            fields = (value.prompt, value.response_ids, value.response_mask, value.logprobs, value.finish, "")
            return Turn, (*fields, value.versions)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, parts: dict[int, Any]) -> None:
        super().__init__(file)
        self._parts = parts

    def persistent_load(self, number: Any) -> Any:
        """See ``pickle``."""
        return self._parts[number]


def _widened(values: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return values.astype(np.int64)


def _prompt(prompt: PackedPrompt) -> Prompt:
    return prompt.unpacked()
