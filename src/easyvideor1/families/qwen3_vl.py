"""Qwen3-VL and Qwen3.5: timestamps are text, and every temporal step is its own visual span.

Qwen3-VL adds DeepStack features to early layers. Three of four layers of Qwen3.5 are gated delta networks, whose state
after a token sums up all tokens before it in the row, whatever the attention mask says. So every response has a row of
its own, and padding before a prompt is zeroed (transformers' mask of two dimensions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.attention.layout import Layout
from easyvideor1.families.family import FAMILIES, Conventions
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.types import MediaPlan


@FAMILIES.register("qwen3_vl")
class Qwen3VL(GridVL):
    """Adapter of Qwen3-VL (dense) over transformers' own classes."""

    model_class = "Qwen3VLForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "num_position_embeddings", "deepstack_visual_indexes")
    by_convention: Mapping[Conventions, str] = {
        "released": "every step of a video has brackets, the video has none",
        "transformers": "every step of a video has brackets, and the whole video has another pair",
    }

    def video_text(self, plan: MediaPlan) -> str:
        """A span per step behind its time.

        The processor of transformers 5 leaves the brackets of the chat template around the whole; what was released
        with the weights took their place.
        """
        start, _, end = self.marks["video"]
        span = "".join(self.marks["video"])
        steps = "".join(f"<{second:.1f} seconds>{span}" for second in self._step_seconds(plan))
        return steps if self.conventions == "released" else f"{start}{steps}{end}"

    def span_steps(self, plan: MediaPlan) -> tuple[int, ...]:
        return (1,) * plan.grid[0]

    def _step_seconds(self, plan: MediaPlan) -> Iterator[float]:
        """Each temporal step is labelled with the mean of its first and last frame's time."""
        depth, times = self.geometry.temporal_patch_size, plan.timestamps
        for step in range(plan.grid[0]):
            first = times[min(step * depth, len(times) - 1)]
            last = times[min(step * depth + depth - 1, len(times) - 1)]
            yield (first + last) / 2


@FAMILIES.register("qwen3_vl_moe")
class Qwen3VLMoe(Qwen3VL):
    """Adapter of Qwen3-VL with a mixture of experts."""

    model_class = "Qwen3VLMoeForConditionalGeneration"


@FAMILIES.register("qwen3_5")
class Qwen35(Qwen3VL):
    """Adapter of Qwen3.5 (dense) in its vision-language form."""

    model_class = "Qwen3_5ForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "num_position_embeddings")
    shares_prefix = False

    def attention_arguments(
        self, model: Any, mask: torch.Tensor | Layout | BranchKeys | None, dtype: torch.dtype
    ) -> dict[str, Any]:
        if isinstance(mask, Layout | BranchKeys):
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
