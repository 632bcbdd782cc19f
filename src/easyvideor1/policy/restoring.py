"""Reading the checkpoint of a policy: a rank that holds it in parts reads its part.

Tensors are read from the files one at a time, and of those that ranks share each rank reads its own rows. Any number of
ranks may have written them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.weight_files import INDEX, WHOLE, LazyTensor, stored_tensors, stored_weights
from easyvideor1.policy.adapters import adapter_tensors
from easyvideor1.policy.optimizer import HostAdamW, on_host
from easyvideor1.policy.saving import ADAPTERS, REFERENCE, moving, shapes, trained
from easyvideor1.policy.spread import assign_stored, is_spread, local, part_of, stored_part
from easyvideor1.types import ConfigError


@torch.no_grad()
def read_weights(directory: Path, model: Any, load: Callable[[bool], Any]) -> None:
    """Give ``model`` the weights of a checkpoint in place: parameter objects, and adapters, stay as they are.

    A checkpoint whose files have the model's weights, under its names or older ones, is read one weight at a time.
    Others are loaded and converted by transformers: without a GPU the old weights are released first, so there is no
    second model; with one, a copy passes through the memory of the host.

    Args:
        directory: the checkpoint.
        model: with or without adapters.
        load: makes the checkpoint's model on the CPU, without adapters; if given ``True``, its shapes alone.

    Raises:
        ConfigError: the checkpoint is of another model; nothing is changed then.
        DataError: a file of weights is damaged.
    """
    own = {weight_name(name): parameter for name, parameter in model.named_parameters() if ".lora_" not in name}
    described = load(True)
    empty = dict(described.named_parameters())
    _check_shapes(empty, own, directory)
    if (stored := model_weights(directory, described)) is not None:
        for name, parameter in own.items():
            new = stored_part(stored[name], parameter, empty[name].dtype)
            if is_spread(parameter):
                _assign_exactly(parameter, new, name, directory)
            else:
                parameter.data = new
        return
    for parameter in own.values():
        if parameter.device.type == "cpu" and not is_spread(parameter):
            parameter.data = parameter.data.new_empty(0)
    found = dict(load(False).named_parameters())
    for name, parameter in own.items():
        new = found.pop(name).data
        if is_spread(parameter):
            _assign_exactly(parameter, part_of(new, parameter), name, directory)
        else:
            parameter.data = new.to(parameter.device)


def _assign_exactly(parameter: torch.nn.Parameter, new: torch.Tensor, name: str, directory: Path) -> None:
    """The part of this rank, in the type that it is kept in: frozen weights may be bfloat16."""
    kept, read = local(parameter), local(new)
    if read.dtype != kept.dtype and not torch.equal(read.to(kept.dtype).to(read.dtype), read):
        raise ConfigError(
            f"{str(directory)!r}: {name} is frozen and kept in {kept.dtype}, which cannot hold the weights of "
            "this checkpoint; set model.dtype=float32"
        )
    kept.copy_(read)


def model_weights(checkpoint: Path, model: Any) -> dict[str, LazyTensor] | None:
    """The weights of a checkpoint by the names of the parameters of its ``model``, which needs no contents.

    transformers knows older names. ``None`` where the files are no safetensors, or where weights have to be converted,
    as experts that the files have one by one.

    Raises:
        DataError: a file of weights is damaged.
    """
    if not (checkpoint / WHOLE).is_file() and not (checkpoint / INDEX).is_file():
        return None
    stored, own = stored_weights(checkpoint), shapes(dict(model.named_parameters()))
    if shapes(stored) == own:
        return stored
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    changes = get_model_conversion_mapping(model)
    converters = [change for change in changes if isinstance(change, WeightConverter)]
    renamings = [change for change in changes if not isinstance(change, WeightConverter)]
    known, found = model.state_dict(), {}
    for name, tensor in stored.items():
        renamed, converted = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if converted is not None:
            return None
        if renamed in own or renamed not in known:  # else it is tied to one that is there
            found[renamed] = tensor
    return found if shapes(found) == own else None


def read_adapters(directory: Path, model: Any) -> None:
    """Give ``model`` the adapters of a checkpoint.

    Raises:
        ConfigError: it has none, or of another shape; nothing is changed then.
    """
    if not (directory / ADAPTERS).is_file():
        raise ConfigError(f"{str(directory)!r} has no adapters: it was written without model.lora; remove model.lora")
    _copy(directory / ADAPTERS, dict(adapter_tensors(model)))


def read_reference_weights(directory: Path, reference: Any, model: Any) -> None:
    """Give a moving reference of ``model`` the weights it had when the checkpoint was written.

    Raises:
        ConfigError: the checkpoint does not hold it, or it is of another model.
    """
    if not (directory / REFERENCE).is_file():
        raise ConfigError(f"{str(directory)!r} has no moving reference: it was written without reference: ema")
    _copy(directory / REFERENCE, moving(reference, model))


def read_trained(file: Path, model: Any) -> None:
    """Give ``model`` the parameters that a checkpoint has as its ``trained`` ones.

    Raises:
        ConfigError: they are not there, or of another model; nothing is changed then.
    """
    if not file.is_file():
        raise ConfigError(f"{str(file.parent)!r} has no {file.stem}: a stage without one wrote it")
    _copy(file, trained(model))


def read_optimizer(file: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Replace the state of ``optimizer`` by that in ``file``; before the first step there is no such file."""
    named = dict(model.named_parameters())
    optimizer.state.clear()
    if not file.is_file():
        return
    for key, value in stored_tensors(file).items():
        kind, _, name = key.partition("/")
        if name not in named:
            raise ConfigError(f"{str(file)!r} is of an optimiser of {name!r}, which this model does not have")
        # AdamW keeps its step counter on the CPU, unless it is one fused kernel.
        if kind != "step":
            part = stored_part(value, named[name])
            optimizer.state[named[name]][kind] = on_host(part) if isinstance(optimizer, HostAdamW) else part
        else:
            fused = optimizer.defaults.get("fused")
            optimizer.state[named[name]][kind] = value.load().to(named[name].device if fused else "cpu")


def _copy(file: Path, own: Mapping[str, torch.Tensor]) -> None:
    stored = stored_tensors(file)
    _check_shapes(stored, own, file.parent)
    for name, parameter in own.items():
        assign_stored(parameter, stored[name])


def _check_shapes(
    tensors: Mapping[str, torch.Tensor | LazyTensor], own: Mapping[str, torch.Tensor], origin: Path
) -> None:
    wanted, found = shapes(own), shapes(tensors)
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = differing[0]
        raise ConfigError(
            f"{str(origin)!r} is a checkpoint of another model: {len(differing)} tensors differ, first {name!r}, "
            f"which is {found.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        )
