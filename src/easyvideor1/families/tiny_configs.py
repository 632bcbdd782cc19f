"""Configurations of tiny models, one per family: every part that the family has, at the smallest size that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of a tiny model; heads are 32 wide, two share their keys."""

    width: int
    layers: int
    vision_layers: int
    vocabulary: int

    @property
    def heads(self) -> int:
        return self.width // 32


def _text(shape: TinyShape, ids: Mapping[str, int], sections: list[int], **rope: Any) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": 2 * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": max(shape.heads // 2, 1),
        "max_position_embeddings": 8192,
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections, **rope},
    }


def _qwen3_text(shape: TinyShape, ids: Mapping[str, int]) -> dict[str, Any]:
    return {**_text(shape, ids, [8, 4, 4], mrope_interleaved=True), "head_dim": 32}


def _tower(shape: TinyShape) -> dict[str, Any]:
    return {
        "depth": shape.vision_layers,
        "hidden_size": shape.width,
        "intermediate_size": 2 * shape.width,
        "num_heads": shape.heads,
        "out_hidden_size": shape.width,
    }


def _qwen3_tower(shape: TinyShape) -> dict[str, Any]:
    deepstack = list(range(shape.vision_layers))
    return {**_tower(shape), "num_position_embeddings": 256, "deepstack_visual_indexes": deepstack}


def _qwen2_vl(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    tower = {
        "depth": shape.vision_layers,
        "embed_dim": shape.width,
        "hidden_size": shape.width,
        "mlp_ratio": 2,
        "num_heads": shape.heads,
    }
    return _text(shape, ids, [4, 6, 6]), tower


def _qwen2_5_vl(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    # Windows of two by two tokens, so that small pictures have several; the last layer sees them whole.
    tower = {**_tower(shape), "window_size": 56, "fullatt_block_indexes": [shape.vision_layers - 1]}
    return _text(shape, ids, [4, 6, 6]), tower


def _qwen3_vl(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    return _qwen3_text(shape, ids), _qwen3_tower(shape)


def _qwen3_vl_moe(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": shape.width}
    return {**_qwen3_text(shape, ids), **experts}, _qwen3_tower(shape)


def _qwen3_5(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    text = {
        **_text(shape, ids, [4, 2, 2], mrope_interleaved=True, partial_rotary_factor=0.5),
        "head_dim": 32,
        "layer_types": [
            "full_attention" if index % 2 or shape.layers == 1 else "linear_attention" for index in range(shape.layers)
        ],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": shape.heads,
        "linear_num_value_heads": 2 * shape.heads,
    }
    return text, {**_tower(shape), "num_position_embeddings": 256}


def _qwen3_5_moe(shape: TinyShape, ids: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    text, tower = _qwen3_5(shape, ids)
    del text["intermediate_size"]
    sizes = {"moe_intermediate_size": shape.width, "shared_expert_intermediate_size": shape.width}
    return {**text, **sizes, "num_experts": 4, "num_experts_per_tok": 2}, tower


@dataclass(frozen=True, slots=True)
class TinyFamily:
    """How a family's tiny model is made: names in transformers, sizes, and how its processors see pixels."""

    config: str
    model: str
    video_processor: str
    processor: str
    sizes: Callable[[TinyShape, Mapping[str, int]], tuple[dict[str, Any], dict[str, Any]]]
    patch_size: int = 16
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


#: What the image encoder of CLIP is normalised with, and after it the older families.
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

TINY_FAMILIES: Mapping[str, TinyFamily] = {
    "qwen2_vl": TinyFamily(
        "Qwen2VLConfig",
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLVideoProcessor",
        "Qwen2VLProcessor",
        _qwen2_vl,
        14,
        _CLIP_MEAN,
        _CLIP_STD,
    ),
    "qwen2_5_vl": TinyFamily(
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2VLVideoProcessor",
        "Qwen2_5_VLProcessor",
        _qwen2_5_vl,
        14,
        _CLIP_MEAN,
        _CLIP_STD,
    ),
    "qwen3_vl": TinyFamily(
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLVideoProcessor",
        "Qwen3VLProcessor",
        _qwen3_vl,
    ),
    "qwen3_vl_moe": TinyFamily(
        "Qwen3VLMoeConfig",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3VLVideoProcessor",
        "Qwen3VLProcessor",
        _qwen3_vl_moe,
    ),
    "qwen3_5": TinyFamily(
        "Qwen3_5Config",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3VLVideoProcessor",
        "Qwen3VLProcessor",
        _qwen3_5,
    ),
    "qwen3_5_moe": TinyFamily(
        "Qwen3_5MoeConfig",
        "Qwen3_5MoeForConditionalGeneration",
        "Qwen3VLVideoProcessor",
        "Qwen3VLProcessor",
        _qwen3_5_moe,
    ),
}


def tiny_config(family: TinyFamily, shape: TinyShape, ids: Mapping[str, int]) -> Any:
    """The configuration of transformers; ``ids`` are those of the special tokens."""
    import transformers

    text, tower = family.sizes(shape, ids)
    return getattr(transformers, family.config)(
        text_config=text,
        vision_config=tower,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
