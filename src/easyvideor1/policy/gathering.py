"""Whole tensors of what ranks hold in parts, one at a time, on the rank that writes them.

The first rank asks for a tensor by its number, and each other sends the rows that it holds: so the first may take them
in any order, keep none, and stop at any time, as where the disk is full. No other rank ever has more than its part.
Parts travel over a process group of their own, between the memories of the hosts; so this can be done by a thread while
the ranks train.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.families.weight_files import LazyTensor
from easyvideor1.policy.spread import is_spread, local, rows_of

_END = -1


class Gathering:
    """Tensors that can be had whole on one rank, or in a process that is alone.

    Args:
        tensors: by name: the same on all ranks, in the same order.
        group: of the ranks that hold parts, the first of which is rank 0 of all; ``None`` where there are none, and on
            a rank whose parts others hold as well.
        writes: whether this is the rank that has them whole.
        copied: take what it has to give now, into the memory of the host; else, when it is asked.
        fixed: names of tensors that do not change meanwhile, so that they need no copy.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        group: dist.ProcessGroup | None,
        *,
        writes: bool,
        copied: bool = False,
        fixed: Container[str] = (),
    ) -> None:
        self._group, self._writes, self._ended = group, writes, False
        #: Called before each tensor that is had or sent.
        self.on_tensor: Callable[[], None] = _nothing
        self._kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        self._spread = [name for name, tensor in tensors.items() if is_spread(tensor)]
        self._numbers = {name: number for number, name in enumerate(self._spread)}
        held = [*tensors] if writes else self._spread if group is not None else []
        self._held = {name: local(tensors[name].detach()) for name in held}
        if copied:
            for name in held:
                if name not in fixed:
                    self._held[name] = self._held[name].to("cpu", copy=True)

    def lazy(self, name: str) -> LazyTensor:
        """A tensor by name, which is whole once it is loaded."""
        dtype, shape = self._kinds[name]
        return LazyTensor(dtype, shape, partial(self._load, name))

    def _load(self, name: str) -> torch.Tensor:
        self.on_tensor()
        held = self._held[name]
        if name not in self._numbers:
            return held
        assert self._group is not None
        self._ask(self._numbers[name])
        dtype, shape = self._kinds[name]
        ranks, whole = dist.get_world_size(self._group), torch.empty(shape, dtype=dtype)
        for rank in range(ranks):
            begin, end = rows_of(shape[0], ranks, rank)
            if rank == 0:
                whole[begin:end] = held
            elif end > begin:
                dist.recv(_bytes(whole[begin:end]), src=rank, group=self._group)
        return whole

    def answer(self) -> None:
        """Send what is asked for, until the first rank needs nothing more; on all ranks but the first."""
        while self._group is not None:
            asked = torch.empty(1, dtype=torch.int64)
            dist.broadcast(asked, src=0, group=self._group)
            if (number := int(asked)) == _END:
                return
            self.on_tensor()
            part = self._held[self._spread[number]].cpu().contiguous()
            if part.numel():
                dist.send(_bytes(part), dst=0, group=self._group)

    def end(self) -> None:
        """Need nothing more, and let go of everything; may be called again."""
        if self._writes and self._group is not None and not self._ended:
            with suppress(RuntimeError):  # a rank that is gone waits for nothing
                self._ask(_END)
        self._ended = True
        self._held = {}

    def _ask(self, number: int) -> None:
        dist.broadcast(torch.tensor([number]), src=0, group=self._group)


def _nothing() -> None:
    """What is called where nobody wants to know."""


def _bytes(tensor: torch.Tensor) -> Any:
    """Contiguous memory, of any type, as bytes."""
    return tensor.view(-1).view(torch.uint8)
