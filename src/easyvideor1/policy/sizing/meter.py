"""The bytes that operations allocate, counted on tensors without memory.

``FakeTensorMode`` runs real code on tensors that have shape, type and device only, and a dispatch mode sees every
operation with its results. So a forward and backward pass of an 8B model is measured in milliseconds and in no memory.
What a kernel allocates inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that are made while it is on. What there was before counts nothing, views neither.

    ``live`` are bytes of the device; those that are made within ``on_host`` are ``host``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.host = 0
        self._peak = 0
        self._host_is_meant = False
        #: Bytes of the device and of the host by address of the storage, which is used again once it is freed.
        self._known: dict[int, tuple[int, int]] = {}

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """Within, memory of the host is taken."""
        self._host_is_meant = True
        try:
            yield
        finally:
            self._host_is_meant = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs or {})):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor, 0)
        result = _grouped(*args[:3]) if func is _GROUPED else func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor, None)
        return result

    def _note(self, tensor: torch.Tensor, size: int | None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        made = storage.nbytes() if size is None else size
        self._known[key] = (0, made) if self._host_is_meant else (made, 0)
        self._count(self._known[key], 1)
        self._peak = max(self._peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._count(self._known.pop(key, (0, 0)), -1)

    def _count(self, made: tuple[int, int], sign: int) -> None:
        self.live += sign * made[0]
        self.host += sign * made[1]

    def take_peak(self) -> int:
        """Most bytes alive at a time since the last call."""
        peak, self._peak = self._peak, self.live
        return peak


#: The product of experts with their tokens. Its shapes are known to torch for bfloat16 alone, its kernels take more.
_GROUPED = torch.ops.aten._grouped_mm.default


def _grouped(left: torch.Tensor, right: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Rows ``(T, K)`` by matrices ``(E, K, N)``, or the gradient of these, ``(K, T)`` by ``(T, N)``."""
    experts = (ends.shape[0],) if right.dim() == 2 else ()
    return left.new_empty(*experts, left.shape[0], right.shape[-1])


@contextmanager
def without_memory() -> Iterator[None]:
    """Within, tensors have no memory: they are made in an instant, whatever their size, and hold no values."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
