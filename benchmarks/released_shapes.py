"""Models in the shapes of released ones, with random weights and the tiny model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.step_paths import write_model
from easyvideor1.attention import functions as attention
from easyvideor1.families.family import load_family
from easyvideor1.families.layers import make_faster
from easyvideor1.families.vision_tower import prepare_tower

#: Sizes of the released checkpoints' config.json; ``tiny`` is for trying this file out.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"text": {}, "vision": {}, "lora": False},
    "2b": {
        "text": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
        "vision": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2048},
        "deepstack": [5, 11, 17],
        "lora": False,
    },
    "8b": {
        "text": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
        "vision": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 4096},
        "deepstack": [8, 16, 24],
        "tied": False,
        "lora": True,
    },
}


def write_shape(out: Path, name: str) -> Path:
    """A checkpoint without weights: the tiny one's tokenizer beside the configuration of that shape."""
    write_model(out)
    (out / "model.safetensors").unlink()
    shape = SHAPES[name]
    config = json.loads((out / "config.json").read_text())
    if name != "tiny":
        heads = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
        config["text_config"] |= {**shape["text"], **heads, "max_position_embeddings": 262_144}
        rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
        config["text_config"]["rope_parameters"] = rope
        tower = {"num_heads": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": shape["deepstack"]}
        config["vision_config"] |= {**shape["vision"], **tower}
        config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = shape.get("tied", True)
    (out / "config.json").write_text(json.dumps(config))
    return out


def random_model(directory: Path, device: torch.device, *, plain: bool) -> Any:
    """The model with weights of a fixed seed that bfloat16 holds exactly; ``plain``: with transformers' attention."""
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(0)
    name = "sdpa" if plain else attention.register()
    config = AutoConfig.from_pretrained(directory)
    with torch.device(device):
        model = Qwen3VLForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation=name)
    if not plain:
        make_faster(model)
        prepare_tower(model.model.visual)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


def weightless_model(directory: Path) -> Any:
    """The model's modules, without weights: to count what it does."""
    family = load_family(directory)
    return family.load_model(directory, dtype=torch.float32, attention="sdpa", trust_remote_code=False, meta=True)
