"""What a directory with little more than ``config.json`` lacks to make prompts: stand-ins for tokenizer and processor.

With them a run can be planned before its model has been fetched: ``config.json`` says how media are cut and which ids
visual tokens have. Numbers of visual tokens are exact; those of text are estimates.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from easyvideor1.families.checkpoint import read_config
from easyvideor1.families.tiny import SPECIAL_TOKENS, TINY_FAMILIES, train_tokenizer, write_processor

#: Tokens of a stand-in tokenizer, which is trained on the rows themselves: about one for each word.
_VOCABULARY = 8192
#: Any of these is a tokenizer of the checkpoint's own.
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")
_PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
#: Larger files are weights.
_MOST_BYTES = 64 << 20


def missing_parts(checkpoint: Path) -> tuple[str, ...]:
    """Which of ``weights``, ``tokenizer`` and ``processor settings`` a checkpoint's directory lacks.

    Raises:
        ConfigError: it has no ``config.json``, or that is not JSON.
    """
    read_config(checkpoint)
    wanted = {
        "weights": bool([*checkpoint.glob("*.safetensors")]),
        "tokenizer": any((checkpoint / name).is_file() for name in _TOKENIZERS),
        "processor settings": any((checkpoint / name).is_file() for name in _PROCESSORS),
    }
    return tuple(name for name, there in wanted.items() if not there)


def has_stand_ins(checkpoint: Path) -> bool:
    """Whether ``write_stand_ins`` knows the family of a checkpoint."""
    return read_config(checkpoint).get("model_type") in TINY_FAMILIES


def write_stand_ins(checkpoint: Path, out: Path, corpus: Iterable[str]) -> Path:
    """A checkpoint without weights in ``out``: what ``checkpoint`` has of small files, and stand-ins for what it lacks.

    Args:
        checkpoint: with ``config.json`` of a family that ``has_stand_ins`` knows.
        out: directory; created.
        corpus: texts that the tokenizer is trained on, such as questions of rows.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and file.suffix != ".safetensors" and file.stat().st_size <= _MOST_BYTES:
            shutil.copyfile(file, out / file.name)
    missing, config = missing_parts(checkpoint), read_config(checkpoint)
    if "tokenizer" in missing:
        _write_tokenizer(out, config, corpus)
    if "processor settings" in missing:
        write_processor(out, TINY_FAMILIES[config["model_type"]])
    return out


def _write_tokenizer(out: Path, config: Mapping[str, Any], corpus: Iterable[str]) -> None:
    """A byte-level tokenizer whose special tokens have the ids that ``config`` names."""
    from tokenizers import Tokenizer

    trained = train_tokenizer(corpus, _VOCABULARY)
    content = json.loads(trained.backend_tokenizer.to_str())
    special = _special_ids(config)
    taken = set(special.values())
    free = (number for number in range(len(content["model"]["vocab"]) + len(taken) + 1) if number not in taken)
    words = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    ids = {token: special[token] if token in special else next(free) for token, _ in words}
    content["model"]["vocab"] = ids
    for added in content["added_tokens"]:
        added["id"] = ids[added["content"]]
    trained = type(trained)(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=trained.chat_template,
    )
    trained.save_pretrained(out)


def _special_ids(config: Mapping[str, Any]) -> dict[str, int]:
    """Ids of special tokens: those that a configuration names, and else the highest of its vocabulary that are free."""
    text = config.get("text_config", {})
    named = {
        "<|image_pad|>": config.get("image_token_id"),
        "<|video_pad|>": config.get("video_token_id"),
        "<|vision_start|>": config.get("vision_start_token_id"),
        "<|vision_end|>": config.get("vision_end_token_id"),
        "<|im_end|>": text.get("eos_token_id", config.get("eos_token_id")),
        "<|endoftext|>": text.get("bos_token_id", config.get("bos_token_id")),
    }
    found: dict[str, int] = {}
    for token, number in named.items():
        if isinstance(number, int) and number not in found.values():
            found[token] = number
    top = int(text.get("vocab_size", config.get("vocab_size", 1 << 17)))
    free = (number for number in range(top - 1, 0, -1) if number not in set(found.values()))
    for token in SPECIAL_TOKENS:
        if token not in found:
            found[token] = next(free)
    return found
