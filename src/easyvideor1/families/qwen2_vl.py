"""Qwen2-VL: a video is one visual span, its temporal steps are counted one by one."""

from __future__ import annotations

from easyvideor1.families.family import FAMILIES
from easyvideor1.families.grid_vl import GridVL


@FAMILIES.register("qwen2_vl")
class Qwen2VL(GridVL):
    """Adapter of Qwen2-VL over transformers' own classes."""

    model_class = "Qwen2VLForConditionalGeneration"
    tower_shape = (*(name for name in GridVL.tower_shape if name != "num_heads"), "num_heads", "embed_dim", "mlp_ratio")
