"""Inputs of checkpointed layers in the memory of the host, between forward and backward pass.

With gradient checkpointing the input of every layer is all that a forward pass keeps, ``layers * tokens * width``
numbers: at 256k tokens, 28 layers and a width of 2,048 in bfloat16, 28 GiB. Here each goes to the host while the
next layer computes, and comes back while the layer above it is recomputed (as in ZeRO-Infinity: Rajbhandari et al.
2021, sec. 5.2.3). On a GPU the copies have a stream of their own and pinned memory, so nothing waits for them unless
the bus is slower than the layers. Values are those of a run without it, to the bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class HostActivations:
    """Checkpointing that keeps its inputs on the host.

    One object serves all layers of a model, in any number of passes. ``host`` is entered where memory of the host is
    taken, for whoever counts it.
    """

    def __init__(self) -> None:
        self.host: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._last: weakref.ref[_Kept] | None = None
        self._streams: dict[torch.device, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> HostActivations:
        return HostActivations()  # a copied model has copies of its own under way

    def checkpoint(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """``function(*inputs)``, computed again in the backward pass from inputs that were on the host meanwhile.

        What ``function`` keeps for its backward pass is checkpointing's; the hooks see the inputs alone.
        """
        with torch.autograd.graph.saved_tensors_hooks(self._keep, self._give_back):
            return checkpoint(function, *inputs, use_reentrant=False)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor | _Kept:
        if not tensor.is_floating_point():
            return tensor
        kept = _Kept(tensor, self._stream(tensor.device), self.host, self._last)
        self._last = weakref.ref(kept)
        return kept

    def _give_back(self, kept: torch.Tensor | _Kept) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        found = kept.take()
        if (earlier := kept.before()) is not None:
            earlier.fetch()  # the layer below is next: its input comes while this one is computed again
        return found

    def _stream(self, device: torch.device) -> Any:
        if device.type != "cuda":
            return None
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._streams[device]


class _Kept:
    """A tensor on the host, and on its way back.

    Args:
        tensor: on the device; free for others once it is copied.
        stream: of the copies, None where the device is the host.
        host: see ``HostActivations``.
        before: what was kept before this.
    """

    def __init__(
        self,
        tensor: torch.Tensor,
        stream: Any,
        host: Callable[[], AbstractContextManager[Any]],
        before: weakref.ref[_Kept] | None,
    ) -> None:
        self.device, self.stream = tensor.device, stream
        self._before = before
        self._there: torch.Tensor | None = None
        self._arrived: Any = None
        with host():
            self._host = torch.empty_like(tensor, device="cpu", pin_memory=stream is not None)
            if stream is None:
                self._host.copy_(tensor)
                return
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self._host.copy_(tensor, non_blocking=True)
        tensor.record_stream(stream)

    def before(self) -> _Kept | None:
        """What was kept before this, while it is still wanted."""
        return None if self._before is None else self._before()

    def fetch(self) -> None:
        """Begin the way back, if it has not begun."""
        if self._there is not None:
            return
        self._there = torch.empty_like(self._host, device=self.device)
        if self.stream is None:
            self._there.copy_(self._host)
            return
        # Its memory may be that of a tensor which the device still computes with.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            self._there.copy_(self._host, non_blocking=True)
        self._there.record_stream(self.stream)
        self._arrived = self.stream.record_event()

    def take(self) -> torch.Tensor:
        """The tensor on its device."""
        self.fetch()
        found = self._there
        assert found is not None
        self._there = None
        if self._arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(self._arrived)
        return found


def keep_inputs_on_host(model: Any, apart_from: Iterable[torch.nn.Module] = ()) -> HostActivations:
    """Have a model whose layers are checkpointed keep their inputs on the host, but those in some of its modules."""
    found = HostActivations()
    others = {module for root in apart_from for module in root.modules()}
    for module in model.modules():
        if hasattr(module, "_gradient_checkpointing_func") and module not in others:
            module._gradient_checkpointing_func = found.checkpoint
    return found
