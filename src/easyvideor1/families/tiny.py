"""Tiny random checkpoints in the real format, so that every later step treats them as any Hugging Face directory.

The library's default initialisation (std 0.02) is made for wide layers: at width 128 signals vanish and nothing is
learnt from pixels. Matrices are drawn from normal(0, fan_in ** -1/2) instead, token embeddings too since they are tied
to the output matrix, and the vision tower's position embeddings from normal(0, 0.5): beside patches of that size,
smaller ones leave the model blind to where things are, hence to motion.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from easyvideor1.families.tiny_configs import TINY_FAMILIES, TinyFamily, TinyShape, tiny_config
from easyvideor1.families.torchvision_import import import_torchvision
from easyvideor1.files import write_atomic
from easyvideor1.types import ConfigError

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
        _write_processor(draft, kind)
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


def _write_processor(out: Path, family: TinyFamily) -> None:
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
