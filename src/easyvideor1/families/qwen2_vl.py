"""Qwen2-VL and Qwen2.5-VL: a video is one visual span.

Qwen2-VL counts temporal steps one by one. In Qwen2.5-VL temporal positions are times, and most layers of the tower
attend within windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from easyvideor1.families.family import FAMILIES
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.types import MediaPlan


@FAMILIES.register("qwen2_vl")
class Qwen2VL(GridVL):
    """Adapter of Qwen2-VL over transformers' own classes."""

    model_class = "Qwen2VLForConditionalGeneration"
    tower_shape = (*(name for name in GridVL.tower_shape if name != "num_heads"), "num_heads", "embed_dim", "mlp_ratio")


@FAMILIES.register("qwen2_5_vl")
class Qwen25VL(GridVL):
    """Adapter of Qwen2.5-VL over transformers' own classes."""

    model_class = "Qwen2_5_VLForConditionalGeneration"
    tower_shape = (*GridVL.tower_shape, "window_size", "fullatt_block_indexes")

    def temporal_positions(self, plan: MediaPlan, steps: int) -> NDArray[np.int64]:
        """A step lies ``tokens_per_second`` positions behind each second (Bai et al. 2025, "Qwen2.5-VL", sec. 2.1.3).

        Seconds per step are ``second_per_grid_ts``: frames of a step over the sampled frames per second.
        """
        if plan.kind == "image":
            return np.arange(steps)
        rate = self.config["vision_config"].get("tokens_per_second", 4)
        # transformers multiplies in float32 and cuts, so that the last bit decides.
        interval = np.float32(rate) * np.float32(self.geometry.temporal_patch_size / plan.sample_fps)
        return (np.arange(steps, dtype=np.float32) * interval).astype(np.int64)
