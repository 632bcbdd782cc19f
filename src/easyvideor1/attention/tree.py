"""Attention over a forest of text: fused kernels compute parts, which are joined by their normalisers.

Instead of masking a ``T x T`` product, every stretch of the forest is attended to twice: causally by its own tokens,
and wholly by the tokens that continue it, which lie right behind it in the row. The parts are joined by their
log-sum-exp. So a group of G responses costs its visible pairs only, and no key is copied.

The backward pass of attention needs, of the softmax, its normaliser and its output alone. Given those of the joined
result, the backward pass of every part yields that part's share of the exact gradient (as in ring attention: Liu et al.
2023, sec. 3, with the recomputation of FlashAttention-2: Dao 2023, sec. 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

#: ``(start, stop, end)`` of every stretch: see ``attention.layout.Layout``.
Stretches = tuple[tuple[int, int, int], ...]
Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

#: Tokens whose outputs are joined at once: what that needs in float32 does not grow with the row.
_JOINED = 2048


class Kernel(Protocol):
    """Fused attention of one part: queries ``(1, H, Q, D)``, keys and values ``(1, K, S, D)``, K a divisor of H."""

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output ``(1, H, Q, D)`` and the log of the softmax's normaliser ``(1, H, Q)``."""
        ...

    def backward(
        self,
        grad: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        out: torch.Tensor,
        normaliser: torch.Tensor,
        causal: bool,
        scale: float,
    ) -> Parts:
        """Gradients at queries, keys and values, for an output and a normaliser that may be of more keys."""
        ...


class CpuKernel:
    """FlashAttention as torch has it for processors: float32, float64, bfloat16, any width of head."""

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Kernel.forward``."""
        forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, normaliser = forward(query, key, value, 0.0, causal, scale=scale)
        return out, normaliser

    def backward(
        self,
        grad: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        out: torch.Tensor,
        normaliser: torch.Tensor,
        causal: bool,
        scale: float,
    ) -> Parts:
        """See ``Kernel.backward``."""
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        found: Parts = backward(grad, query, key, value, out, normaliser, 0.0, causal, scale=scale)
        return found


class CudaKernel:
    """FlashAttention as torch has it for NVIDIA GPUs: 16-bit floats, heads of up to 256 in steps of 8."""

    @staticmethod
    def takes(query: torch.Tensor) -> bool:
        """Whether there is a kernel for such queries."""
        width = query.shape[-1]
        return query.dtype in (torch.bfloat16, torch.float16) and width % 8 == 0 and width <= 256

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Kernel.forward``."""
        found = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
        return found[0], found[1]

    def backward(
        self,
        grad: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        out: torch.Tensor,
        normaliser: torch.Tensor,
        causal: bool,
        scale: float,
    ) -> Parts:
        """See ``Kernel.backward``."""
        state = torch.empty(2, dtype=torch.int64, device=query.device)  # of dropout, which there is none of
        backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
        # Lengths of sequences packed in another way than ours, and their longest: None, and ours.
        lengths = (None, None, query.shape[2], key.shape[2])
        found: Parts = backward(
            grad, query, key, value, out, normaliser.contiguous(), *lengths, 0.0, causal, state, state, scale=scale
        )
        return found


class TreeAttention(torch.autograd.Function):
    """The parts, joined; keeps queries, keys, values, output and normaliser, like the kernels it is made of."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        stretches: Stretches,
        scale: float,
        kernel: Kernel,
    ) -> torch.Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        out = torch.empty_like(query)  # laid out like it: transformers' queries are transposed, and so is what it wants
        normaliser = query.new_empty(query.shape[:3], dtype=wide)
        for start, stop, _ in stretches:
            own = slice(start, stop)
            out[:, :, own], normaliser[:, :, own] = kernel.forward(
                query[:, :, own], key[:, :, own], value[:, :, own], True, scale
            )
        for start, stop, end in stretches:
            if stop == end:
                continue
            own, after = slice(start, stop), slice(stop, end)
            part, part_normaliser = kernel.forward(query[:, :, after], key[:, :, own], value[:, :, own], False, scale)
            before = normaliser[:, :, after]
            joined = torch.logaddexp(before, part_normaliser)
            shares = [(each - joined).exp()[..., None] for each in (before, part_normaliser)]
            _join(out[:, :, after], part, shares)
            normaliser[:, :, after] = joined
        ctx.save_for_backward(query, key, value, out, normaliser)
        ctx.stretches, ctx.scale, ctx.kernel = stretches, scale, kernel
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        query, key, value, out, normaliser = ctx.saved_tensors
        totals: list[torch.Tensor] = []

        def part(queries: slice, keys: slice, causal: bool) -> Parts:
            found: Parts = ctx.kernel.backward(
                grad[:, :, queries],
                query[:, :, queries],
                key[:, :, keys],
                value[:, :, keys],
                out[:, :, queries],
                normaliser[:, :, queries],
                causal,
                ctx.scale,
            )
            return found

        for start, stop, _ in ctx.stretches:
            own = slice(start, stop)
            parts = list(part(own, own, True))
            for number, like in enumerate((query, key, value)):
                if len(totals) == number:  # made now: the first stretch may be nearly all of a long row
                    totals.append(torch.empty_like(like))
                totals[number][:, :, own] = parts.pop(0)
        for start, stop, end in ctx.stretches:
            if stop < end:
                own, after = slice(start, stop), slice(stop, end)
                for total, found, where in zip(totals, part(after, own, False), (after, own, own), strict=True):
                    total[:, :, where] += found
        return (*totals, None, None, None, None)


def _join(out: torch.Tensor, part: torch.Tensor, shares: Sequence[torch.Tensor]) -> None:
    """Replace ``out`` by the sum of both outputs, ``(1, H, Q, D)``, in shares ``(1, H, Q, 1)``; it is rounded once."""
    for start in range(0, out.shape[2], _JOINED):
        own = slice(start, start + _JOINED)
        out[:, :, own] = (out[:, :, own] * shares[0][:, :, own]).add_(part[:, :, own] * shares[1][:, :, own])
