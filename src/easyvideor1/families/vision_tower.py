"""How vision towers of transformers run here: all frames of one size in one call, activations in the computing type.

The patches of a temporal step attend to each other alone. transformers cuts them apart and calls its attention once per
step and block, thousands of times for a long video, unless a kernel asks for the whole sequence and its lengths. This
one does, and gives torch's fused kernel every run of equal lengths as a batch; the result is the same.

Position embeddings are float32, and what is added to them would stay so: under autocast, the residual stream of the
tower, which has four times as many rows as the language model has visual tokens, is turned into the computing type.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from easyvideor1.attention.functions import plain_attention

#: Its name in transformers, which hands the whole sequence over where "flash" is part of it.
BATCHED_FRAMES = "flash_batched_frames"


def prepare_tower(tower: Any) -> None:
    """Have a vision tower of transformers run this way."""
    from transformers import AttentionInterface

    AttentionInterface.register(BATCHED_FRAMES, _attention_forward)
    tower.config._attn_implementation = BATCHED_FRAMES
    for block in getattr(tower, "blocks", ())[:1]:
        block.register_forward_pre_hook(_in_computing_type)


def _in_computing_type(block: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    hidden, *others = arguments
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return (hidden, *others)


# Compiled blocks stop here: how frames are cut into runs differs with every batch.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' contract: ``(1, H, T, D)`` each to ``(1, T, H, D)``; a step ends at each of ``cu_seq_lens_q``."""
    if cu_seq_lens_q is None:  # a tower that cuts frames apart itself
        return plain_attention(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
    bounds = cu_seq_lens_q.tolist()
    lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
    parts = []
    start = 0
    for length, run in itertools.groupby(lengths):
        count = len(list(run))
        stop = start + count * length
        query_, key_, value_ = (
            tensor[0, :, start:stop].reshape(tensor.shape[1], count, length, -1).transpose(0, 1)
            for tensor in (query, key, value)
        )
        out = torch.nn.functional.scaled_dot_product_attention(query_, key_, value_, dropout_p=dropout, scale=scaling)
        parts.append(out.transpose(1, 2).flatten(0, 1))
        start = stop
    return torch.cat(parts)[None], None
