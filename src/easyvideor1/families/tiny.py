"""Tiny random checkpoints in the real format, so that every later step treats them as any Hugging Face directory.

The default initialisation (std 0.02) is made for wide layers: at width 128 signals vanish, and the model learns nothing
from pixels. Matrices are drawn from normal(0, fan_in ** -1/2) instead, token embeddings too since they are tied
to the output matrix, and the vision tower's position embeddings from normal(0, 0.5): beside patches of that size,
smaller ones leave the model blind to where things are, hence to motion.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from easyvideor1.families.torchvision_import import import_torchvision
from easyvideor1.files import write_atomic
from easyvideor1.types import ConfigError


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


SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type == "image" -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == "video" -%}<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def train_tokenizer(corpus: Iterable[str], vocabulary: int = 1024) -> Any:
    """A byte-level BPE tokenizer (any text can be encoded) with Qwen's special tokens and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    raw.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tiny_checkpoint(
    out: Path,
    corpus: Iterable[str],
    *,
    family: str = "qwen3_vl",
    seed: int = 0,
    width: int = 128,
    layers: int = 4,
    vision_layers: int = 3,
    vocabulary: int = 1024,
) -> Path:
    """Write a random model of a few million parameters with tokenizer, chat template and processor settings.

    Args:
        out: checkpoint directory; created, and overwritten where files exist. Files appear whole, ``config.json`` last.
        corpus: texts that the tokenizer is trained on.
        family: one of ``TINY_FAMILIES``.
        seed: of the weights.
        width: hidden size of both towers; 32 or a multiple of 64 (heads are 32 wide, and two share their keys).
        layers: decoder layers.
        vision_layers: vision blocks; every one feeds DeepStack in the families that have it.
        vocabulary: tokens, special ones included; at least 263, the 256 bytes and the special ones.

    Raises:
        ConfigError: there is no such family, or such a width or vocabulary is impossible.
    """
    import_torchvision()
    import transformers

    if family not in TINY_FAMILIES:
        raise ConfigError(f"there is no tiny checkpoint of {family!r}: choose one of {', '.join(TINY_FAMILIES)}")
    if width != 32 and (width < 64 or width % 64):
        raise ConfigError(f"a tiny checkpoint cannot have width {width}: 32 or a multiple of 64")
    if vocabulary < (least := 256 + len(SPECIAL_TOKENS)):
        raise ConfigError(f"a tiny checkpoint cannot have {vocabulary} tokens: it needs at least {least}")
    tokenizer = train_tokenizer(corpus, vocabulary)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    shape = TinyShape(width, layers, vision_layers, (len(tokenizer) + 31) // 32 * 32)
    kind = TINY_FAMILIES[family]
    model = getattr(transformers, kind.model)(tiny_config(kind, shape, ids))
    initialise(model, seed)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing.") as name:
        draft = Path(name)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        write_processor(draft, kind)
        # Without its config.json a directory is no checkpoint, so it comes last.
        for file in sorted(draft.iterdir(), key=lambda f: (f.name == "config.json", f.name)):
            write_atomic(out / file.name, file.read_bytes())
    return out


@torch.no_grad()
def initialise(model: torch.nn.Module, seed: int) -> None:
    """Width-scaled initialisation of every matrix and embedding; norms and biases keep their defaults.

    Embeddings that are not tied to a matrix get std 0.05; tied ones are drawn again with the matrix, which comes later.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Embedding):
            module.weight.normal_(0.0, 0.5 if name.endswith("pos_embed") else 0.05, generator=generator)
        elif isinstance(weight, torch.nn.Parameter) and weight.dim() >= 2:
            weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
        for kind, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 3 and kind != "weight":  # experts: (expert, out, in)
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
            elif kind == "A_log":  # decay of a gated delta network, log of what the library draws from its own source
                parameter.uniform_(0.01, 16, generator=generator).log_()


def write_processor(out: Path, family: TinyFamily) -> None:
    """Settings as the family's processors store them; sizes are wide because plans decide sizes here."""
    settings = {
        "patch_size": family.patch_size,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": list(family.mean),
        "image_std": list(family.std),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_resize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "size": {"shortest_edge": 1024, "longest_edge": 16777216},
        "processor_class": family.processor,
    }
    files = {
        "preprocessor_config.json": {**settings, "image_processor_type": "Qwen2VLImageProcessor"},
        "video_preprocessor_config.json": {**settings, "video_processor_type": family.video_processor},
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
