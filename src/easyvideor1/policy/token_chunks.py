"""What looks at one token alone, computed for some tokens of a long row at a time.

Of a decoder layer only attention looks at other tokens. The MLP holds several tensors of its inner width, and in the
backward pass their gradients; a norm holds two or three of the model's width in float32. At 256k tokens of the 2B shape
an inner tensor is 6 GiB in float32. Here an MLP or a norm gives a row's result part by part and keeps its input alone.
In the backward pass each part is computed again and left behind, as logits are (``packing.logprobs``), so that of one
part alone there is more (sequence tiling, "TiledMLP": Bekman et al. 2025, "Arctic Long Sequence Training", sec. 3.3).
Outputs are those of the whole row; gradients of weights are sums over parts, in another order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from easyvideor1.families.family import Family


def tokenwise_modules(family: Family, model: Any) -> Iterator[torch.nn.Module]:
    """MLPs and norms of the language model that take hidden states ``(B, T, ...)`` and nothing else."""
    for root in family.groups(model)["language"]:
        for name, module in root.named_modules():
            mlp = name.rpartition(".")[2] == "mlp"
            if (mlp or "RMSNorm" in type(module).__name__) and _takes_one(module):
                yield module


def _takes_one(module: torch.nn.Module) -> bool:
    return len(inspect.signature(type(module).forward).parameters) == 2  # itself, and hidden states


def chunk_tokenwise(family: Family, model: Any, size: int) -> None:
    """Have these modules compute at most ``size`` tokens at a time, in passes with gradients and without."""
    for module in tokenwise_modules(family, model):
        module.token_chunk = size  # type: ignore[assignment]
        module.forward = MethodType(_forward, module)


def _forward(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    if hidden.dim() > 2 and hidden.shape[0] * hidden.shape[1] > module.token_chunk:
        found: torch.Tensor = _in_chunks(module, hidden)
    else:
        found = type(module).forward(module, hidden)
    return found


# Compiled layers stop here: rows of every length would be another number of parts.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _in_chunks(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    row = hidden.flatten(0, 1)[None]
    found: torch.Tensor = _Chunks.apply(row, module, *_trained(module))  # type: ignore[no-untyped-call]
    return found.view(*hidden.shape[:2], *found.shape[2:])


def _trained(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


class _Chunks(torch.autograd.Function):
    """A module of ``(1, T, ...)``, part by part; keeps what it is given."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, module: Any, *trained: torch.Tensor) -> torch.Tensor:
        kind = hidden.device.type
        # Without the cache of autocast: what it keeps from here has no gradient, and it would hand that to others.
        ctx.autocast = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": False,
        }
        ctx.module = module
        ctx.save_for_backward(hidden)
        out: torch.Tensor | None = None
        with torch.autocast(**ctx.autocast):
            for part in _parts(hidden, module):
                found = type(module).forward(module, hidden[:, part])
                if out is None:
                    out = found.new_empty(1, hidden.shape[1], *found.shape[2:])
                out[:, part] = found
        assert out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,), (hidden,) = gradients, ctx.saved_tensors
        into = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        totals = [torch.zeros_like(parameter) for parameter in _trained(ctx.module)]
        with torch.autocast(**ctx.autocast):
            for part in _parts(hidden, ctx.module):
                _add_part(ctx.module, hidden[:, part], grad[:, part], None if into is None else into[:, part], totals)
        return (into, None, *totals)


def _parts(hidden: torch.Tensor, module: Any) -> Iterator[slice]:
    length = hidden.shape[1]
    if isinstance(hidden, FakeTensor):  # its memory alone is asked for (policy.sizing), and parts take the same
        length = min(length, 2 * module.token_chunk)
    for start in range(0, length, module.token_chunk):
        yield slice(start, start + module.token_chunk)


def _add_part(
    module: Any, hidden: torch.Tensor, grad: torch.Tensor, into: torch.Tensor | None, totals: list[torch.Tensor]
) -> None:
    """Fill ``into`` with a part's gradient at its input, and add those of the weights to ``totals``.

    A function of its own, so that nothing of a part is there when the next one begins.
    """
    with torch.enable_grad():
        given = hidden.detach().requires_grad_(into is not None)
        out = type(module).forward(module, given)
    wanted = [*([] if into is None else [given]), *_trained(module)]
    found = list(torch.autograd.grad(out, wanted, grad, allow_unused=True))
    if into is not None:
        into.copy_(found.pop(0))
    for total, one in zip(totals, found, strict=True):
        if one is not None:  # an expert that no token of the part went to
            total += one
