"""Attention over a forest of text by flex attention, where torch has no fused kernel for the parts: a GPU in float32.

In 16-bit floats the fused kernels are faster (``attention.tree``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from easyvideor1.attention.layout import Layout

#: Queries, and keys, of a block: the kernel computes a block whole, masked, or not at all.
BLOCK = 128


def flex_tree_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    *,
    compiled: bool = True,
) -> torch.Tensor:
    """Attention of one packed row, ``(1, H, T, D)``; only blocks that hold a visible pair are computed.

    Args:
        query: ``(1, H, T, D)``.
        key: ``(1, K, T, D)``.
        value: like ``key``.
        layout: of the row.
        scale: of the products.
        compiled: use the fused kernel; without, flex attention forms the whole product, which is for tests.
    """
    kernel = _kernel(compiled)
    blocks = block_mask(layout, query.device)
    out: torch.Tensor = kernel(query, key, value, block_mask=blocks, scale=scale, enable_gqa=True)
    return out


@functools.cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Rows differ in length: with dynamic shapes one kernel serves them all.
    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel, dynamic=True) if compiled else kernel


@functools.lru_cache(maxsize=4)
def block_mask(layout: Layout, device: torch.device) -> Any:
    """Which blocks of a row are seen, in part or wholly: a ``BlockMask``, made without looking at single pairs.

    It is cached: all layers of a pass use it, and the reference model's pass over the same row. A key is seen from
    its own column up to its reach, so of a block of keys the furthest reach says whether an earlier row of blocks sees
    any of it, and the nearest whether it sees all.
    """
    from torch.nn.attention.flex_attention import BlockMask

    reach = layout.reach()
    first = torch.arange(0, layout.length, BLOCK)
    blocks = torch.split(reach, BLOCK)
    furthest = torch.stack([block.amax() for block in blocks])
    nearest = torch.stack([block.amin() for block in blocks])
    earlier = torch.ones(len(first), len(first), dtype=torch.bool).tril(-1)  # keys that end before the queries begin
    seen = earlier & (furthest > first[:, None])
    whole = earlier & (nearest >= first[:, None] + BLOCK)  # never where the queries end within the block
    partial = (seen & ~whole) | torch.eye(len(first), dtype=torch.bool)
    reach = reach.to(device)

    def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (query < reach[key])

    return BlockMask.from_kv_blocks(
        *_ordered(partial, device),
        *_ordered(whole, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(layout.length, layout.length),
    )


def _ordered(blocks: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a bool ``(rows, columns)``: how many are true in every row, and their columns before all others, int32."""
    columns = blocks.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    counts = blocks.sum(1, dtype=torch.int32)
    return counts[None, None].to(device), columns.to(torch.int32)[None, None].contiguous().to(device)
