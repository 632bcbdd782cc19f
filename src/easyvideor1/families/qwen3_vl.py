"""Qwen3-VL: timestamps are text, every temporal step is its own visual span, DeepStack features enter early layers."""

from __future__ import annotations

from collections.abc import Iterator

from easyvideor1.families.family import FAMILIES
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.types import MediaPlan


@FAMILIES.register("qwen3_vl")
class Qwen3VL(GridVL):
    """Adapter of Qwen3-VL (dense) over transformers' own classes."""

    model_class = "Qwen3VLForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "num_position_embeddings", "deepstack_visual_indexes")

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
