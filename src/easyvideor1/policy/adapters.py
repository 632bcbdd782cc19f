"""Low-rank adapters (LoRA, Hu et al. 2021) in place of whole weights: ``W + (alpha / rank) B A``, with W frozen.

peft puts them into the linear layers of the model, so families, engines and attention need not know of them.
Checkpoints hold the merged weights, which anything can load, and the adapters, to resume exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from easyvideor1.config import LoraConfig
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family
from easyvideor1.families.weight_files import LazyTensor
from easyvideor1.policy.spread import whole
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
    peft = require_peft()
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


def require_peft() -> Any:
    """The package peft.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ConfigError("model.lora needs the package peft: pip install 'easyvideor1[lora]'") from error
    return peft


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


def weights(model: Any, *, merged: bool, base: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter under the name of Hugging Face checkpoints, one after the other and without gradient.

    Tied weights come once. Without adapters, and for all that has none, the tensors are the model's own. Of what ranks
    hold in parts, each weight is gathered when it is its turn: all of them must iterate, and to the end.

    Args:
        model: with or without adapters.
        merged: add adapters to the weights they change, in float32, one weight at a time. Else the weights come as they
            are, and the adapters beside them as ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``.
        base: with ``merged=False``, give the weights under the adapters too; else the adapters alone.
    """
    adapted = dict(_adapted(model)) if merged else {}
    for name, parameter in adapter_tensors(model).items() if not base else model.named_parameters():
        owner, _, kind = name.partition(".base_layer.")
        if merged and ".lora_" in name:
            continue
        if kind == "weight" and owner in adapted:
            yield weight_name(name), whole(_merged(parameter, adapted[owner]))
        else:
            yield weight_name(name), whole(parameter.detach())


def model_state(model: Any) -> dict[str, torch.Tensor]:
    """The state of a model with or without adapters, of which tied weights come once: under the name of the first."""
    state = model.state_dict()
    tied = getattr(model, "all_tied_weights_keys", {}).items()
    again = {name for name, first in tied if first in state and name in state and _is_same(state[name], state[first])}
    return {name: tensor for name, tensor in state.items() if name not in again}


def merged_state(model: Any, state: Mapping[str, LazyTensor] | None = None) -> dict[str, LazyTensor]:
    """The state of the model without adapters that computes the same, under the names of the base.

    What adapters change is merged when it is loaded, in float32.

    Args:
        model: with or without adapters.
        state: what ``model_state`` has, as it is to be merged; the model's own if ``None``.
    """
    if state is None:
        state = {name: LazyTensor.of(tensor) for name, tensor in model_state(model).items()}
    adapted, found = dict(_adapted(model)), {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        owner, _, kind = name.partition(".base_layer.")
        if kind == "weight":
            first, second = (state[f"{owner}.lora_{part}.{_NAME}.weight"] for part in "AB")
            load = partial(_merged_parts, tensor, first, second, adapted[owner].scaling[_NAME])
            found[f"{owner}.{kind}"] = LazyTensor(torch.float32, tensor.shape, load)
        else:
            found[f"{owner}.{kind}" if kind else name] = tensor
    return found


def adapter_settings(model: Any) -> dict[str, str]:
    """Rank, alpha and dropout of the adapters of a model, as text; they are the same in all layers."""
    layer = next(module for _, module in _adapted(model))
    dropout = getattr(layer.lora_dropout[_NAME], "p", 0.0)  # without, peft has an identity there
    return {"rank": str(layer.r[_NAME]), "alpha": str(layer.lora_alpha[_NAME]), "dropout": str(dropout)}


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape


@torch.no_grad()
def _merged(weight: torch.Tensor, layer: Any) -> torch.Tensor:
    """Added in float32, whatever type a frozen base is kept in."""
    found: torch.Tensor = weight.float() + layer.get_delta_weight(_NAME).float()
    return found


@torch.no_grad()
def _merged_parts(weight: LazyTensor, first: LazyTensor, second: LazyTensor, scaling: float) -> torch.Tensor:
    """``_merged`` of tensors that are no layer's, in the order of peft.

    Of a snapshot, adapters are copies on the host, while a frozen base stays where it is.
    """
    delta = second.load() @ first.load() * scaling
    found: torch.Tensor = weight.load().to(delta.device).float() + delta.float()
    return found


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield name, module
