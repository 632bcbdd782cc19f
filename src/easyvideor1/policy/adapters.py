"""Low-rank adapters (LoRA, Hu et al. 2021) in place of whole weights: ``W + (alpha / rank) B A``, with W frozen.

peft puts them into the linear layers of the model, so families, engines and attention need not know of them.
Checkpoints hold the merged weights, which anything can load, and the adapters, to resume exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from easyvideor1.config import LoraConfig
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family
from easyvideor1.types import ConfigError

#: peft's name of an adapter that is given none.
_NAME = "default"

#: Of the matrices A. B starts at 0, so the policy starts as its base.
_SEED = 20_240_229


def add_adapters(family: Family, model: Any, config: LoraConfig) -> None:
    """Freeze ``model`` and give every linear layer of the target groups, but the output matrix, an adapter.

    Raises:
        ConfigError: peft is not installed, or the groups have no linear layer.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError("model.lora needs the package peft: pip install 'easyvideor1[lora]'") from error
    wanted = {
        id(module)
        for group in config.targets
        for root in family.groups(model)[group]
        for module in root.modules()
        if isinstance(module, torch.nn.Linear)
    }
    vocabulary = model.config.get_text_config().vocab_size
    names = [
        name
        for name, module in model.named_modules()
        if id(module) in wanted and getattr(module, "out_features", 0) != vocabulary
    ]
    if not names:
        raise ConfigError(f"model.lora.targets: {', '.join(config.targets)} has no linear layer")
    model.requires_grad_(False)
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=names
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        peft.inject_adapter_in_model(settings, model, adapter_name=_NAME)


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """The model as its base within the block."""
    layers = [module for _, module in _adapted(model)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def adapter_tensors(model: Any) -> dict[str, torch.nn.Parameter]:
    """The adapters' parameters by name; none of a model without."""
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def weights(model: Any, *, merged: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter under the name of Hugging Face checkpoints, one after the other and without gradient.

    Tied weights come once. Without adapters, and for all that has none, the tensors are the model's own.

    Args:
        model: with or without adapters.
        merged: add adapters to the weights they change, in float32, one weight at a time. Else the weights come as they
            are, and the adapters beside them as ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``.
    """
    adapted = dict(_adapted(model)) if merged else {}
    for name, parameter in model.named_parameters():
        owner, _, kind = name.partition(".base_layer.")
        if merged and ".lora_" in name:
            continue
        if kind == "weight" and owner in adapted:
            with torch.no_grad():
                yield weight_name(name), _merged(parameter, adapted[owner])
        else:
            yield weight_name(name), parameter.detach()


@torch.no_grad()
def merged_state(model: Any) -> dict[str, torch.Tensor]:
    """The state of the model without adapters that computes the same, under the names of the base, on the CPU."""
    adapted = dict(_adapted(model))
    state = {}
    moved: dict[int, torch.Tensor] = {}  # tied weights stay one tensor, and are written once
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            continue
        if ".base_layer." not in name:
            state[name] = moved.setdefault(tensor.data_ptr(), tensor.cpu())
            continue
        owner, _, kind = name.partition(".base_layer.")
        if kind == "weight":
            state[f"{owner}.{kind}"] = _merged(tensor, adapted[owner]).cpu()
        else:
            state[f"{owner}.{kind}"] = moved.setdefault(tensor.data_ptr(), tensor.cpu())
    return state


def _merged(weight: torch.Tensor, layer: Any) -> torch.Tensor:
    """Added in float32, whatever type a frozen base is kept in."""
    found: torch.Tensor = weight.float() + layer.get_delta_weight(_NAME).float()
    return found


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield name, module
