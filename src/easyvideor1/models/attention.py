"""Attention over a packed row: what tokens have in common is computed once, and nothing else of a row is seen.

A row holds a forest of text in depth-first order (``models.packing``). A token sees what lies on the path from its root
to itself. Instead of masking a ``T x T`` product, every stretch of the forest is attended to twice: causally by its own
tokens, and wholly by the tokens that continue it, which lie right behind it in the row. The parts are joined by their
log-sum-exp. A group of G responses so costs what its visible pairs cost, and no key is copied.

The backward pass of attention needs, of the softmax, its normaliser and its output alone. Given those of the joined
result, the backward pass of every part yields that part's share of the exact gradient (as in ring attention: Liu et al.
2023, sec. 3, with the recomputation of FlashAttention-2: Dao 2023, sec. 3.1).

transformers calls the function by the name it is registered under; the layout of a row reaches it through the keyword
arguments of the language model. Without a layout (vision tower, decoding with a cache) it is transformers' ``sdpa``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from easyvideor1.types import ConfigError

#: Name of the attention in transformers. It contains "sdpa", which is what transformers checks support for.
PREFIX_TREE = "sdpa_prefix_tree"


@dataclass(frozen=True, slots=True)
class Layout:
    """Who sees whom in one packed row of ``length`` tokens.

    ``stretches`` are ``(start, stop, end)`` in the order of the row, without gaps: the tokens of a stretch are columns
    ``[start, stop)``; those that continue it, directly or through others, are ``[stop, end)``.
    """

    stretches: tuple[tuple[int, int, int], ...]
    length: int

    def reach(self) -> torch.Tensor:
        """The column behind the last one that sees a key, int64 ``(length,)``; none before the key does."""
        starts, stops, ends = torch.tensor(self.stretches, dtype=torch.int64).reshape(-1, 3).unbind(1)
        return torch.repeat_interleave(ends, stops - starts)

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees."""
        return sum((b - a) * (b - a + 1) // 2 + (b - a) * (end - b) for a, b, end in self.stretches)


def dense_mask(reach: torch.Tensor) -> torch.Tensor:
    """Bool ``(B, 1, L, L)`` of ``reach`` ``(B, L)``, true where a query may look at a key: for small rows only."""
    column = torch.arange(reach.shape[1], device=reach.device)
    causal = column[:, None] >= column
    return (causal & (column[:, None] < reach[:, None, :]))[:, None]


def attention_arguments(mask: torch.Tensor | Layout, config: Any, dtype: torch.dtype) -> dict[str, Any]:
    """What a language model of transformers is called with so that it attends as ``mask`` says.

    Args:
        mask: bool ``(B, 1, T, S)``, or a layout if ``config`` asks for ``PREFIX_TREE``.
        config: of the language model.
        dtype: of its activations.
    """
    implementation = config._attn_implementation
    if isinstance(mask, Layout):
        if implementation != PREFIX_TREE:
            raise ValueError(f"a layout needs the attention {PREFIX_TREE!r}, and this model has {implementation!r}")
        return {"attention_mask": None, "prefix_layout": mask}
    if implementation != "eager":
        return {"attention_mask": mask}
    # The eager implementation adds its mask: a bool would raise seen keys by 1 and hide nothing.
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return {"attention_mask": added.masked_fill(~mask, torch.finfo(dtype).min)}


def takes_layout(model: Any) -> bool:
    """Whether the language model of ``model`` was loaded with ``PREFIX_TREE``."""
    return bool(model.config.get_text_config()._attn_implementation == PREFIX_TREE)


def register() -> str:
    """Make ``PREFIX_TREE`` known to transformers, and return the name; needed before a model is loaded with it."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PREFIX_TREE, _attention_forward)
    AttentionMaskInterface.register(PREFIX_TREE, sdpa_mask)
    return PREFIX_TREE


def _attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefix_layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' contract: ``(1, H, T, D)`` queries, ``(1, K, T, D)`` keys and values to ``(1, T, H, D)``."""
    if prefix_layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return out, None
    window = options.get("sliding_window")
    if dropout or (window is not None and window < prefix_layout.length):
        raise ConfigError(
            "model.attention: this model drops attention weights out, or looks at a window of the text only, which "
            "packed rows do not do; set model.attention to eager"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = tree_attention(query, key, value, prefix_layout, scale)
    return out.transpose(1, 2).contiguous(), None


def tree_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """Attention of one packed row, ``(1, H, T, D)``, exact but for the order of sums.

    On the CPU by parts (see above), on CUDA by flex attention, elsewhere with a dense mask.

    Args:
        query: ``(1, H, T, D)``.
        key: ``(1, K, T, D)`` with K a divisor of H.
        value: like ``key``.
        layout: of the row, ``layout.length == T``.
        scale: of the products.
    """
    if query.shape[0] != 1 or query.shape[2] != layout.length or key.shape[2] != layout.length:
        raise ValueError(
            f"a layout of {layout.length} tokens, but queries {tuple(query.shape)} and keys {tuple(key.shape)}"
        )
    kind = query.device.type
    # The kernels below are not among those that autocast prepares arguments for.
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if kind == "cpu":
        out: torch.Tensor = _TreeAttention.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
        return out
    if kind == "cuda":
        return flex_tree_attention(query, key, value, layout, scale, compiled=True)
    mask = dense_mask(layout.reach()[None].to(query.device))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=True
    )


class _TreeAttention(torch.autograd.Function):
    """The parts, joined; keeps queries, keys, values, output and normaliser, like the kernels it is made of."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
    ) -> torch.Tensor:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        wide = torch.promote_types(query.dtype, torch.float32)
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        normaliser = query.new_empty(query.shape[:3], dtype=wide)
        for start, stop, _ in layout.stretches:
            own = slice(start, stop)
            out[:, :, own], normaliser[:, :, own] = flash(
                query[:, :, own], key[:, :, own], value[:, :, own], 0.0, True, scale=scale
            )
        for start, stop, end in layout.stretches:
            if stop == end:
                continue
            own, after = slice(start, stop), slice(stop, end)
            part, part_normaliser = flash(query[:, :, after], key[:, :, own], value[:, :, own], 0.0, False, scale=scale)
            before = normaliser[:, :, after]
            joined = torch.logaddexp(before, part_normaliser)
            shares = [(each - joined).exp()[..., None] for each in (before, part_normaliser)]
            out[:, :, after] = out[:, :, after] * shares[0] + part * shares[1]
            normaliser[:, :, after] = joined
        ctx.save_for_backward(query, key, value, out, normaliser)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = gradients
        query, key, value, out, normaliser = ctx.saved_tensors
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        totals = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (query, key, value)]

        def part(queries: slice, keys: slice, causal: bool) -> Any:
            return backward(
                grad[:, :, queries],
                query[:, :, queries],
                key[:, :, keys],
                value[:, :, keys],
                out[:, :, queries],
                normaliser[:, :, queries],
                0.0,
                causal,
                scale=ctx.scale,
            )

        for start, stop, _ in ctx.layout.stretches:
            own = slice(start, stop)
            for total, found in zip(totals, part(own, own, True), strict=True):
                total[:, :, own] = found
        for start, stop, end in ctx.layout.stretches:
            if stop < end:
                own, after = slice(start, stop), slice(stop, end)
                for total, found, where in zip(totals, part(after, own, False), (after, own, own), strict=True):
                    total[:, :, where] += found
        return (*totals, None, None)


def flex_tree_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float, *, compiled: bool
) -> torch.Tensor:
    """The same by flex attention: only blocks that hold a visible pair are computed.

    Args:
        query: ``(1, H, T, D)``.
        key: ``(1, K, T, D)``.
        value: like ``key``.
        layout: of the row.
        scale: of the products.
        compiled: use the fused kernel; without, flex attention forms the whole product, which is for tests.
    """
    kernel = _flex_kernel(compiled)
    blocks = _block_mask(layout, query.device)
    out: torch.Tensor = kernel(query, key, value, block_mask=blocks, scale=scale, enable_gqa=True)
    return out


@functools.cache
def _flex_kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Rows differ in length: with dynamic shapes one kernel serves them all.
    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel, dynamic=True) if compiled else kernel


@functools.lru_cache(maxsize=4)
def _block_mask(layout: Layout, device: torch.device) -> Any:
    """Made once for all layers of a pass; the reference model's pass over the same row uses it again."""
    from torch.nn.attention.flex_attention import create_block_mask

    reach = layout.reach().to(device)

    def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (query < reach[key])

    return create_block_mask(visible, 1, 1, layout.length, layout.length, device=str(device))
