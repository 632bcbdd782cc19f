"""A checkpoint of a run as a plain Hugging Face directory: the whole model, or its adapters as peft reads them.

Weights go from file to file one at a time, so a model of any size needs the memory of its largest tensor. What the
checkpoint holds is first compared with what transformers loads, by names and shapes alone.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from easyvideor1.config import ModelConfig
from easyvideor1.families.checkpoint import read_config, weight_name
from easyvideor1.families.family import configured_family, configured_model
from easyvideor1.families.weight_files import (
    INDEX,
    LazyTensor,
    stored_settings,
    stored_tensors,
    stored_weights,
    write_weights,
)
from easyvideor1.files import json_bytes
from easyvideor1.policy.saving import ADAPTERS
from easyvideor1.types import ConfigError, DataError

#: What tokenizers, processors, templates and code of a checkpoint's own are kept in.
_COPIED = {".jinja", ".json", ".model", ".py", ".tiktoken", ".txt"}
#: JSON of a run's checkpoint that is no part of the model, or is written anew.
_NOT_COPIED = {INDEX, "state.json"}
#: What describes a whole model, beside the weights.
_OF_A_MODEL = {"config.json", "generation_config.json"}


@dataclass(frozen=True, slots=True)
class Export:
    """What an export consists of.

    ``copied`` are files that are taken as they are, ``written`` are others by name. The weights go into
    ``STEM.safetensors``, or numbered files of at most ``shard_bytes``.
    """

    copied: tuple[Path, ...]
    written: Mapping[str, bytes]
    weights: Mapping[str, LazyTensor]
    stem: str
    shard_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes on the disk, but for headers."""
        files = sum(file.stat().st_size for file in self.copied) + sum(map(len, self.written.values()))
        return files + sum(tensor.nbytes for tensor in self.weights.values())

    def write(self, directory: Path, on_bytes: Callable[[int, int], None] | None = None) -> None:
        """Write everything into an empty directory; ``on_bytes`` is told the bytes of weights done, and of all.

        Raises:
            DataError: a file of the checkpoint changed in between.
            OSError: the disk refused.
        """
        for file in self.copied:
            shutil.copyfile(file, directory / file.name)
        for name, content in self.written.items():
            (directory / name).write_bytes(content)
        write_weights(directory, self.weights, self.shard_bytes, on_bytes, stem=self.stem)


def model_export(checkpoint: Path, config: ModelConfig, *, dtype: torch.dtype | None, shard_bytes: int) -> Export:
    """The whole model; adapters are merged into the weights of a checkpoint already.

    Args:
        checkpoint: of a run.
        config: of the run that wrote it.
        dtype: of the weights; ``None`` keeps the type that each has. ``config.json`` says the widest of them.
        shard_bytes: of a file of weights.

    Raises:
        ConfigError: tokenizer, chat template, processor settings or a weight is missing or surplus, or has another
            shape.
        DataError: a file of weights is damaged.
    """
    weights = stored_weights(checkpoint)
    _check_loads(_shapes_of(checkpoint, config), weights, checkpoint)
    if dtype is not None:
        weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    written, copied = {}, _companions(checkpoint)
    floats = [tensor.dtype for tensor in weights.values() if tensor.dtype.is_floating_point]
    widest = str(reduce(torch.promote_types, floats, floats[0])).removeprefix("torch.")
    before = read_config(checkpoint)
    if (described := _with_dtype(before, widest)) != before:
        written["config.json"] = json_bytes(described, indent=2)
        copied = tuple(file for file in copied if file.name != "config.json")
    return Export(copied, written, weights, "model", shard_bytes)


def adapter_export(checkpoint: Path, config: ModelConfig, *, dtype: torch.dtype | None) -> Export:
    """The adapters of a checkpoint, as ``PeftModel.from_pretrained(base, OUT)`` reads them.

    Their base is the checkpoint that the stage began with; ``adapter_config.json`` names it.

    Args:
        checkpoint: of a run.
        config: of the run that wrote it.
        dtype: of the adapters; ``None`` keeps theirs.

    Raises:
        ConfigError: the checkpoint has no adapters, or they are not of its model.
        DataError: their file is damaged.
    """
    file = checkpoint / ADAPTERS
    if not file.is_file():
        raise ConfigError(
            f"{checkpoint} has no adapters: it was trained without model.lora; export it without --adapter"
        )
    settings = stored_settings(file)
    if not {"rank", "alpha", "dropout", "base"} <= settings.keys():
        raise ConfigError(
            f"{file} does not say its alpha and its base, as checkpoints of earlier versions do not; export the merged "
            "weights without --adapter"
        )
    adapters = {weight_name(name): tensor for name, tensor in stored_tensors(file).items()}
    model = _shapes_of(checkpoint, config)
    modules = sorted({name.partition(".lora_")[0] for name in adapters})
    _check_adapters(adapters, modules, int(settings["rank"]), model, file)
    described = {
        "base_model_name_or_path": settings["base"],
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": float(settings["alpha"]),
        "lora_dropout": float(settings["dropout"]),
        "peft_type": "LORA",
        "r": int(settings["rank"]),
        "target_modules": modules,
        "task_type": None,
    }
    if dtype is not None:
        adapters = {name: tensor.to(dtype) for name, tensor in adapters.items()}
    return Export(
        tuple(file for file in _companions(checkpoint) if file.name not in _OF_A_MODEL),
        {"adapter_config.json": json_bytes(described, indent=2)},
        {f"base_model.model.{name}": tensor for name, tensor in adapters.items()},
        "adapter_model",
        sys.maxsize,
    )


def _companions(checkpoint: Path) -> tuple[Path, ...]:
    files = sorted(checkpoint.iterdir())
    return tuple(file for file in files if file.suffix in _COPIED and file.name not in _NOT_COPIED and file.is_file())


def _shapes_of(checkpoint: Path, config: ModelConfig) -> Any:
    """The model of a checkpoint without contents. The family reads tokenizer, template and processor settings."""
    return configured_model(configured_family(config, checkpoint), config, checkpoint, meta=True)


def _check_loads(model: Any, weights: Mapping[str, LazyTensor], checkpoint: Path) -> None:
    """Let transformers load tensors of these names and shapes without contents: it knows which names it takes.

    Raises:
        ConfigError: a weight is missing, is not the model's, or has another shape.
    """
    from transformers.utils import logging

    empty = {name: torch.empty(each.shape, dtype=each.dtype, device="meta") for name, each in weights.items()}
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print a table of what is said below
    try:
        _, found = type(model).from_pretrained(
            None,
            config=model.config,
            attn_implementation="eager",  # not what the family may have put into its own model
            state_dict=empty,
            dtype=torch.float32,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(level)
    missing = {*found["missing_keys"]}
    missing = missing - model.all_tied_weights_keys.keys() or missing  # of tied weights the one that files have
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in found["mismatched_keys"]}
    for names, fault in (
        (mismatched, "has another shape than the model's"),
        (missing, "is missing"),
        (found["unexpected_keys"], "is not of this model"),
    ):
        if names:
            raise ConfigError(
                f"{checkpoint}: the weight {min(names)!r} {fault} ({len(names)} such weights, by the config.json "
                "there); export another checkpoint of the run"
            )


def _check_adapters(adapters: Mapping[str, LazyTensor], modules: list[str], rank: int, model: Any, file: Path) -> None:
    own = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    wanted: dict[str, tuple[int, ...]] = {}
    for module in modules:
        if len(shape := own.get(f"{module}.weight", ())) != 2:
            raise DataError(f"{file}: there are adapters of {module!r}, which is no matrix of this model")
        wanted[f"{module}.lora_A.weight"] = (rank, shape[1])
        wanted[f"{module}.lora_B.weight"] = (shape[0], rank)
    shapes = {name: tensor.shape for name, tensor in adapters.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            raise DataError(
                f"{file}: the adapter {name!r} is {shapes.get(name, 'missing')}, and this model's is "
                f"{wanted.get(name, 'none')}; export another checkpoint of the run"
            )


def _with_dtype(config: Any, dtype: str) -> Any:
    """``config.json`` and the configurations in it with another type."""
    if not isinstance(config, dict):
        return config
    return {
        key: dtype if key in ("dtype", "torch_dtype") and isinstance(value, str) else _with_dtype(value, dtype)
        for key, value in config.items()
    }
