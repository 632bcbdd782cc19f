"""Qwen3.5: prompts as in Qwen3-VL; three of four layers are gated delta networks, whose state cannot branch.

Their state after a token is a summary of all tokens before it in the row, whatever the attention mask says. So every
response has a row of its own, and the padding before a prompt is zeroed (transformers' mask of two dimensions).
"""

from __future__ import annotations

from typing import Any

import torch

from easyvideor1.attention.functions import Layout
from easyvideor1.families.family import FAMILIES
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.families.qwen3_vl import Qwen3VL


@FAMILIES.register("qwen3_5")
class Qwen35(Qwen3VL):
    """Adapter of Qwen3.5 (dense) in its vision-language form."""

    model_class = "Qwen3_5ForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "num_position_embeddings")
    shares_prefix = False

    def attention_arguments(self, model: Any, mask: torch.Tensor | Layout | None, dtype: torch.dtype) -> dict[str, Any]:
        if isinstance(mask, Layout):
            raise ValueError("layers of linear attention see all that is before them in a row: give a mask, row by row")
        found = super().attention_arguments(model, mask, dtype)
        if mask is None:
            return found
        kinds = {"full_attention": found["attention_mask"], "linear_attention": _real_tokens(mask)}
        return {**found, "attention_mask": kinds}


@FAMILIES.register("qwen3_5_moe")
class Qwen35Moe(Qwen35):
    """Adapter of Qwen3.5 with a mixture of experts."""

    model_class = "Qwen3_5MoeForConditionalGeneration"


def _real_tokens(mask: torch.Tensor) -> torch.Tensor | None:
    """Bool ``(B, T)`` of a mask ``(B, 1, T, S)``: false where a token sees itself alone and nothing else sees it.

    Padding behind a sequence changes nothing before it and may count as real.
    """
    queries, keys = mask.shape[-2:]
    if queries == 1:
        return None
    own = mask[:, 0, :, keys - queries :]
    alone = (mask[:, 0].sum(-1) == 1) & (own.sum(-2) == 1)
    alone[:, -1] = False  # a prompt of one token
    return ~alone if bool(alone.any()) else None
