"""Models in the shapes of all released ones that have a recipe of real size: ``config.json`` and a small tokenizer.

The numbers are public facts of the released ``config.json`` files. Nothing has weights. The text models of Qwen3.5 were
compared with published files, and the towers of its 9B and 35B-A3B; those of the others are not checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easyvideor1.families.tiny import write_tiny_checkpoint


@dataclass(frozen=True, slots=True)
class Shape:
    """What differs from the tiny model of a family in the text model and the tower; whether embeddings are tied."""

    family: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = True


def _qwen3_vl(width: int, mlp: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
        "max_position_embeddings": 262_144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    }


def _qwen3_5(width: int, layers: int, heads: int, keys: int, linear: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "head_dim": 256,
        "layer_types": ["full_attention" if index % 4 == 3 else "linear_attention" for index in range(layers)],
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": linear,
        "vocab_size": 248_320,
        "max_position_embeddings": 262_144,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e7,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.25,
        },
        **more,
    }


def _tower(depth: int, width: int, mlp: int, heads: int, out: int, **more: Any) -> dict[str, Any]:
    sizes = {"depth": depth, "hidden_size": width, "intermediate_size": mlp, "num_heads": heads}
    return {**sizes, "out_hidden_size": out, "num_position_embeddings": 2304, **more}


def _deepstack(out: int, *, large: bool = False) -> dict[str, Any]:
    if large:
        return _tower(27, 1152, 4304, 16, out, deepstack_visual_indexes=[8, 16, 24])
    return _tower(24, 1024, 4096, 16, out, deepstack_visual_indexes=[5, 11, 17])


_QWEN2_5_VL_TEXT = {
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "max_position_embeddings": 128_000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
_QWEN2_5_VL_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_EXPERTS = {
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 256,
    "num_experts_per_tok": 8,
}

#: Recipe of real size -> the shape of its model.
SHAPES: Mapping[str, Shape] = {
    "qwen2_5_vl_7b": Shape("qwen2_5_vl", _QWEN2_5_VL_TEXT, _QWEN2_5_VL_TOWER, tied=False),
    "qwen3_vl_2b": Shape("qwen3_vl", _qwen3_vl(2048, 6144, 28, 16), _deepstack(2048)),
    "qwen3_vl_4b": Shape("qwen3_vl", _qwen3_vl(2560, 9728, 36, 32), _deepstack(2560)),
    "qwen3_vl_8b": Shape("qwen3_vl", _qwen3_vl(4096, 12_288, 36, 32), _deepstack(4096, large=True), tied=False),
    "qwen3_5_0_8b": Shape(
        "qwen3_5", _qwen3_5(1024, 24, 8, 2, 16, intermediate_size=3584), _tower(12, 768, 3072, 12, 1024)
    ),
    "qwen3_5_2b": Shape(
        "qwen3_5", _qwen3_5(2048, 24, 8, 2, 16, intermediate_size=6144), _tower(24, 1024, 4096, 16, 2048)
    ),
    "qwen3_5_4b": Shape(
        "qwen3_5", _qwen3_5(2560, 32, 16, 4, 32, intermediate_size=9216), _tower(24, 1024, 4096, 16, 2560)
    ),
    "qwen3_5_9b": Shape(
        "qwen3_5",
        _qwen3_5(4096, 32, 16, 4, 32, intermediate_size=12_288),
        _tower(27, 1152, 4304, 16, 4096),
        tied=False,
    ),
    "qwen3_5_27b": Shape(
        "qwen3_5",
        _qwen3_5(5120, 64, 24, 4, 48, intermediate_size=17_408),
        _tower(27, 1152, 4304, 16, 5120),
        tied=False,
    ),
    "qwen3_5_35b_a3b": Shape(
        "qwen3_5_moe", _qwen3_5(2048, 40, 16, 2, 32, **_EXPERTS), _tower(27, 1152, 4304, 16, 2048), tied=False
    ),
}


def write_real_shape(out: Path, name: str) -> Path:
    """A checkpoint without weights: the tokenizer of a tiny one beside the configuration of a released model."""
    shape = SHAPES[name]
    corpus = [
        "What happens in the video? <answer>A</answer>",
        *(f"<{second / 10:.1f} seconds>" for second in range(2000)),
    ]
    write_tiny_checkpoint(out, corpus, family=shape.family, width=64, layers=2, vision_layers=2)
    (out / "model.safetensors").unlink()
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"]
    for name_of_tiny in ("rope_scaling", "rope_theta", "layer_types"):
        text.pop(name_of_tiny, None)
    text |= dict(shape.text)
    config["vision_config"] |= dict(shape.vision)
    config["tie_word_embeddings"] = text["tie_word_embeddings"] = shape.tied
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return out
