"""Memory savings: what is frozen, adapted, recomputed and offloaded, frozen weights in the computing type or shared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from easyvideor1.config import ModelConfig
from easyvideor1.families.family import Family
from easyvideor1.families.vision_tower import cuts_frames
from easyvideor1.policy.adapters import add_adapters
from easyvideor1.policy.host_activations import keep_inputs_on_host
from easyvideor1.policy.spread import is_spread
from easyvideor1.policy.token_chunks import chunk_tokenwise
from easyvideor1.types import ConfigError

#: Modules whose weights are only ever used after autocast has turned them into the computing type.
_PRODUCTS = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)


def prepare_training(family: Family, model: Any, config: ModelConfig) -> None:
    """Freeze, adapt, recompute and offload what the config says, in a model with or without memory.

    Raises:
        ConfigError: the vision tower of this family cannot run in chunks.
    """
    if config.vision_chunk and not cuts_frames(family):
        raise ConfigError(
            f"model.vision_chunk is {config.vision_chunk}, and in the vision tower of {type(family).__name__} frames "
            "depend on other frames or media; set it to 0"
        )
    model.compute_dtype = getattr(torch, config.dtype)
    model.vision_chunk, model.mlp_chunk = config.vision_chunk, config.mlp_chunk
    for group in config.freeze:
        for module in family.groups(model)[group]:
            module.requires_grad_(False)
    if config.lora is not None:
        add_adapters(family, model, config.lora)
    if config.mlp_chunk:
        chunk_tokenwise(family, model, config.mlp_chunk)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if "activations" in config.offload:
        # A tower that runs in chunks keeps nothing that would be worth it.
        tower = [module for group in ("vision", "merger") for module in family.groups(model)[group]]
        model.host_activations = keep_inputs_on_host(model, apart_from=tower if config.vision_chunk else ())


@torch.no_grad()
def cast_frozen_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of matrix products in ``dtype`` where that loses nothing, as in released checkpoints.

    What is computed is the same to the last bit, since autocast would turn them into ``dtype`` for every product; an
    embedding that is tied to such a weight is looked up in it, and holds the same numbers. A module whose weights
    ``dtype`` cannot hold stays as it is, so that what is written is what was read. What ranks hold in parts was cast
    before it was spread.
    """
    for own in frozen_products(model):
        if all(torch.equal(parameter.to(dtype).to(parameter.dtype), parameter) for parameter in own):
            for parameter in own:
                parameter.data = parameter.data.to(dtype)


def frozen_products(model: torch.nn.Module) -> Iterator[list[torch.nn.Parameter]]:
    """The parameters of every matrix product that has no trained one, module by module."""
    for module in model.modules():
        own = list(module.parameters(recurse=False)) if isinstance(module, _PRODUCTS) else []
        if own and not any(parameter.requires_grad or is_spread(parameter) for parameter in own):
            yield own


def copy_trained(model: Any, *, contents: bool = True) -> Any:
    """A copy with trained parameters of its own; frozen ones, which nothing changes, are shared with ``model``.

    Without ``contents``, its own parameters have room and nothing in it, and frozen ones are on the meta device until
    ``sharding.share_frozen``: FSDP cuts each model by itself, and would leave every copy frozen weights of its own.
    """
    others = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    if not contents:
        others = {
            id(parameter): torch.nn.Parameter(
                torch.empty_like(parameter, device=None if parameter.requires_grad else "meta"),
                requires_grad=parameter.requires_grad,
            )
            for parameter in model.parameters()
        }
    copied = copy.deepcopy(model, others)
    for module, other in zip(model.modules(), copied.modules(), strict=True):
        if module._compiled_call_impl is not None:  # which is not copied
            other.compile(dynamic=True)
    return copied


@torch.no_grad()
def copy_weights(copied: Any, model: Any) -> None:
    """Give a copy that ``copy_trained`` made the weights that ``model`` has now."""
    for kept, new in zip(copied.parameters(), model.parameters(), strict=True):
        if kept is not new:
            kept.copy_(new)


def compile_layers(model: Any) -> None:
    """Compile every repeated layer of language model and vision tower when it first runs.

    Layers are compiled one by one, and those of a kind share their code, so the cost is that of a few layers. Shapes
    are dynamic: rows differ in length.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile(dynamic=True)
