"""Attention over a packed row: shared prefixes are computed once, and sequences do not see each other.

A row holds a forest of text in depth-first order (``packing.prefix_tree``). A token sees the path from its root to
itself. ``attention.tree`` computes the visible pairs only.

transformers calls the function by its registered name. The layout of a row reaches it through the keyword arguments of
the language model. Without a layout (vision tower, decoding with a cache) it is transformers' ``sdpa``. The keys of
responses that grow (``attention.branches``) travel in the same way, and attend by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.attention.flex import flex_tree_attention
from easyvideor1.attention.layout import Layout, SplitLayout, dense_mask
from easyvideor1.attention.sequence_parallel import heads_for_tokens, tokens_for_heads
from easyvideor1.attention.tree import CpuKernel, CudaKernel, TreeAttention
from easyvideor1.types import ConfigError

#: Name of the attention in transformers. It contains "sdpa", which is what transformers checks support for.
PREFIX_TREE = "sdpa_prefix_tree"


def attention_arguments(
    mask: torch.Tensor | Layout | BranchKeys | None, config: Any, dtype: torch.dtype
) -> dict[str, Any]:
    """Keyword arguments that make a language model of transformers attend as ``mask`` says.

    Args:
        mask: bool ``(B, 1, T, S)``; a layout, or the keys of growing responses, if ``config`` asks for ``PREFIX_TREE``;
            causal if None.
        config: of the language model.
        dtype: of its activations.
    """
    implementation = config._attn_implementation
    if isinstance(mask, Layout | BranchKeys):
        if implementation != PREFIX_TREE:
            raise ValueError(f"a layout needs the attention {PREFIX_TREE!r}, and this model has {implementation!r}")
        if isinstance(mask, Layout):
            return {"attention_mask": None, "prefix_layout": mask}
        return {"attention_mask": None, "prefix_layout": mask.layout, "branch_keys": mask}
    if mask is None or implementation != "eager":
        return {"attention_mask": mask}
    # The eager implementation adds its mask: a bool would raise seen keys by 1 and hide nothing.
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return {"attention_mask": added.masked_fill(~mask, torch.finfo(dtype).min)}


def takes_layout(model: Any) -> bool:
    """Whether the language model of ``model`` was loaded with ``PREFIX_TREE``."""
    return bool(model.config.get_text_config()._attn_implementation == PREFIX_TREE)


@contextmanager
def taking_layouts(model: Any) -> Iterator[None]:
    """Within, a language model that was loaded with ``sdpa`` has ``PREFIX_TREE``, which does the same and more."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before == "sdpa":
        config._attn_implementation = register()
    try:
        yield
    finally:
        if before == "sdpa":
            config._attn_implementation = before


def register() -> str:
    """Make ``PREFIX_TREE`` known to transformers, and return the name; needed before a model is loaded with it."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(PREFIX_TREE, _attention_forward)
    AttentionMaskInterface.register(PREFIX_TREE, sdpa_mask)
    return PREFIX_TREE


# Compiled layers stop here: the parts of a row differ with every row.
@torch.compiler.disable  # type: ignore[untyped-decorator]
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
    branch_keys: BranchKeys | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' contract: ``(1, H, T, D)`` queries, ``(1, K, T, D)`` keys and values to ``(1, T, H, D)``."""
    if branch_keys is not None and branch_keys.filling:
        branch_keys.keep(_layer(module), key, value)
    elif branch_keys is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return branch_keys.attend(_layer(module), query, key, value, scale), None
    if prefix_layout is None:
        return plain_attention(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
    window = options.get("sliding_window")
    if dropout or (window is not None and window < prefix_layout.length):
        raise ConfigError(
            "model.attention: this model has attention dropout or a sliding window, which "
            "packed rows do not support; set model.attention to eager"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(prefix_layout, SplitLayout):
        out = split_attention(query, key, value, prefix_layout, scale)
    else:
        out = tree_attention(query, key, value, prefix_layout, scale)
    return out.transpose(1, 2).contiguous(), None


def _layer(module: Any) -> int:
    return int(module.layer_idx)


def plain_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' own ``sdpa``, by its contract."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return out, None


def joins_parts(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether torch has fused kernels there that return their normaliser, for heads of this width."""
    if device.type == "cuda":
        return CudaKernel.takes(torch.empty(0, width, dtype=dtype, device="meta"))
    return device.type == "cpu"


def split_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: SplitLayout, scale: float
) -> torch.Tensor:
    """``tree_attention`` of a row that N ranks compute together: this rank's tokens, ``(1, H, T / N, D)``."""
    query, key, value = _in_computing_type(query, key, value)  # which travels, and all three in one message
    heads = tokens_for_heads(query, key, value, layout.ranks)
    return heads_for_tokens(tree_attention(*heads, layout, scale), layout.ranks)


def tree_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """Attention of one packed row, ``(1, H, T, D)``, exact but for the order of sums.

    By parts where torch has fused kernels that return their normaliser: on the CPU, and on CUDA in 16-bit floats. By
    flex attention on CUDA in float32; elsewhere with a dense mask.

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
    query, key, value = _in_computing_type(query, key, value)
    kernel = CpuKernel() if kind == "cpu" else CudaKernel() if kind == "cuda" and CudaKernel.takes(query) else None
    if kernel is not None:
        out: torch.Tensor
        out = TreeAttention.apply(query, key, value, layout.stretches, scale, kernel)  # type: ignore[no-untyped-call]
        return out
    if kind == "cuda":
        return flex_tree_attention(query, key, value, layout, scale)
    mask = dense_mask(layout.reach()[None].to(query.device))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=True
    )


def _in_computing_type(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Autocast prepares arguments for torch's own functions, and neither for kernels called here nor for messages."""
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    return query.to(dtype), key.to(dtype), value.to(dtype)
