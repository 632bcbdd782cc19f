"""Tiny checkpoints of every family, and what both ways through them yield."""

import json

import pytest
from benchmarks.family_cases import corpus

from easyvideor1.families.tiny import TINY_FAMILIES

#: Tokens that GLM-4.1V marks media with.
GLM_TOKENS = [f"<|{part}{kind}|>" for kind in ("image", "video") for part in ("begin_of_", "", "end_of_")]


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory):
    """Random checkpoints by family. Read only."""
    from easyvideor1.families.tiny import write_tiny_checkpoint

    root = tmp_path_factory.mktemp("families")
    sizes = {"width": 64, "layers": 3, "vision_layers": 2, "vocabulary": 400}
    return {name: write_tiny_checkpoint(root / name, corpus(), family=name, seed=1, **sizes) for name in TINY_FAMILIES}


@pytest.fixture(scope="session")
def glm_checkpoint(tmp_path_factory):
    """A random GLM-4.1V, written with transformers alone."""
    from transformers import Glm4vConfig, Glm4vForConditionalGeneration

    from easyvideor1.families.tiny import CHAT_TEMPLATE, initialise, train_tokenizer

    out = tmp_path_factory.mktemp("glm4v")
    tokenizer = train_tokenizer(corpus(), 400)
    tokenizer.add_special_tokens({"additional_special_tokens": GLM_TOKENS})
    tokenizer.chat_template = CHAT_TEMPLATE
    for kind in ("image", "video"):
        theirs = f"<|begin_of_{kind}|><|{kind}|><|end_of_{kind}|>"
        tokenizer.chat_template = tokenizer.chat_template.replace(
            f"<|vision_start|><|{kind}_pad|><|vision_end|>", theirs
        )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in GLM_TOKENS}
    config = Glm4vConfig(
        text_config={
            "vocab_size": 480,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
                "partial_rotary_factor": 0.5,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "out_hidden_size": 64,
            "image_size": 112,
        },
        **{
            f"{kind}_{ours}token_id": ids[f"<|{theirs}{kind}|>"]
            for kind in ("image", "video")
            for ours, theirs in (("start_", "begin_of_"), ("", ""), ("end_", "end_of_"))
        },
    )
    model = Glm4vForConditionalGeneration(config)
    initialise(model, 2)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    pixels = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "patch_size": 14}
    for name, kind in (("preprocessor_config", "image"), ("video_preprocessor_config", "video")):
        own = {f"{kind}_processor_type": f"Glm4v{kind.title()}Processor", "processor_class": "Glm4vProcessor"}
        (out / f"{name}.json").write_text(json.dumps({**pixels, **own}), encoding="utf-8")
    return out
