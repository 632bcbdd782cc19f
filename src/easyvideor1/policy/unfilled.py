"""Models that ranks open without reading what belongs to others: memory first, weights after the model is spread.

Memory that nobody has written to takes none: the system finds a page for it when it is first written. So a rank makes
the whole model, spreads it, which keeps its rows and drops the rest, and then reads these rows from the files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.config import ModelConfig
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family, configured_model, untouched_memory
from easyvideor1.families.weight_files import LazyTensor
from easyvideor1.policy.memory_savings import frozen_products
from easyvideor1.policy.restoring import model_weights
from easyvideor1.policy.spread import assign_stored


def unfilled_model(
    family: Family, config: ModelConfig, checkpoint: Path
) -> tuple[Any, Mapping[str, LazyTensor]] | tuple[None, None]:
    """The model of a checkpoint on the CPU with arbitrary weights, and its own weights in the files.

    Nothing where they have to be converted on the way, or where the family's model is not one of transformers: such a
    one is opened whole.

    Raises:
        DataError: a file of weights is damaged.
    """
    from transformers import GenerationConfig, PreTrainedModel
    from transformers.initialization import no_init_weights

    model = configured_model(family, config, checkpoint, meta=True)
    stored = model_weights(checkpoint, model)
    if stored is None or not isinstance(model, PreTrainedModel):
        return None, None
    described = copy.deepcopy(model.config)
    with no_init_weights(), untouched_memory():
        # Unlike the model's, its buffers have their contents.
        memory = type(model)._from_config(described, dtype=torch.float32, attn_implementation="eager")
    placed: dict[int, torch.nn.Parameter] = {}
    for owner, other in zip(model.modules(), memory.modules(), strict=True):
        for key, parameter in owner._parameters.items():
            if parameter is not None:  # one that is tied is put into all its places
                owner._parameters[key] = placed.setdefault(id(parameter), other._parameters[key])
        for key in owner._buffers:
            owner._buffers[key] = other._buffers[key]
        _move_plain_tensors(owner, other)
    if (checkpoint / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint)
    return model.eval(), stored


def _move_plain_tensors(owner: torch.nn.Module, other: torch.nn.Module) -> None:
    """Tensors that are neither parameters nor buffers, as rotary embeddings keep their first frequencies."""
    for key, value in vars(owner).items():
        if isinstance(value, torch.Tensor) and value.is_meta:
            vars(owner)[key] = vars(other)[key]


@torch.no_grad()
def cast_as_stored(
    model: Any, dtype: torch.dtype, stored: Mapping[str, LazyTensor], rank: int, ranks: int, device: torch.device
) -> None:
    """``memory_savings.cast_frozen_weights`` of an unfilled model: what its files hold decides.

    Weights whose files are of ``dtype`` need not be read. Others are read by one rank each, and all are told.
    """
    names = {id(parameter): weight_name(name) for name, parameter in model.named_parameters()}
    products = list(frozen_products(model))
    if not products:
        return
    exact = torch.ones(len(products), dtype=torch.int32, device=device)
    for number in range(rank, len(products), ranks):
        exact[number] = all(_is_exact(stored[names[id(parameter)]], dtype) for parameter in products[number])
    dist.all_reduce(exact, dist.ReduceOp.MIN)
    with untouched_memory():
        for own, fits in zip(products, exact.tolist(), strict=True):
            for parameter in own if fits else ():
                parameter.data = torch.empty_like(parameter, dtype=dtype)


def _is_exact(stored: LazyTensor, dtype: torch.dtype) -> bool:
    if stored.dtype == dtype:
        return True
    value = stored.load()
    return torch.equal(value.to(dtype).to(value.dtype), value)


def fill(model: torch.nn.Module, stored: Mapping[str, LazyTensor]) -> None:
    """Read this rank's part of all weights but adapters, which have theirs."""
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            assign_stored(parameter, stored[weight_name(name)])
