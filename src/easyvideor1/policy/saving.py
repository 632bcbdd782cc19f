"""Writing and reading the checkpoint of a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from easyvideor1.families.checkpoint import weight_name
from easyvideor1.policy.adapters import adapter_tensors, merged_state
from easyvideor1.types import ConfigError

#: Files of a checkpoint that are not weights; they are copied from stage to stage.
_COMPANIONS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")

#: Files that only resuming a stage needs.
OPTIMIZER = "optimizer.safetensors"
_ADAPTERS = "adapters.safetensors"
_REFERENCE = "reference.safetensors"


def write_policy(
    directory: Path,
    model: Any,
    tokenizer: Any,
    origin: Path,
    optimizer: torch.optim.Optimizer | None,
    reference: Any,
) -> None:
    """Write a Hugging Face checkpoint, and what resuming needs, into an existing empty directory.

    Args:
        directory: where to.
        model: with or without adapters, which are merged into the weights and written beside them.
        tokenizer: of the model.
        origin: checkpoint that the model came from; its processor settings are copied.
        optimizer: whose state is written, if there is one.
        reference: the reference model if it moves, else ``None``.
    """
    if adapters := adapter_tensors(model):
        model.save_pretrained(directory, state_dict=merged_state(model))
        _write(directory / _ADAPTERS, adapters)
    else:
        model.save_pretrained(directory)
    if reference is not None:
        _write(directory / _REFERENCE, _moving(reference, model))
    tokenizer.save_pretrained(directory)
    for name in _COMPANIONS:
        if (origin / name).is_file():
            (directory / name).write_bytes((origin / name).read_bytes())
    if optimizer is not None:
        write_optimizer(directory / OPTIMIZER, model, optimizer)


def write_optimizer(file: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write the state of ``optimizer`` by the names of the parameters; before the first step there is none."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    if tensors:
        _write(file, tensors)


def write_trained(file: Path, model: Any) -> None:
    """Write the parameters of ``model`` that are trained."""
    _write(file, _trained(model))


def read_trained(file: Path, model: Any) -> None:
    """Give ``model`` the parameters that ``write_trained`` wrote.

    Raises:
        ConfigError: they are not there, or of another model; nothing is changed then.
    """
    if not file.is_file():
        raise ConfigError(f"{str(file.parent)!r} has no {file.stem}: a stage without one wrote it")
    _copy(_read(file), _trained(model), file.parent)


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def read_weights(directory: Path, model: Any, load: Callable[[bool], Any]) -> None:
    """Give ``model`` the weights of a checkpoint in place: parameter objects, and adapters, stay as they are.

    The memory of the old weights is released before the new ones are read, so there is never a second model on the
    device of ``model``. Without a GPU there is none at all; with one, a copy passes through the memory of the host.

    Args:
        directory: the checkpoint.
        model: with or without adapters.
        load: makes the checkpoint's model on the CPU, without adapters; if given ``True``, its shapes alone.

    Raises:
        ConfigError: the checkpoint is of another model; nothing is changed then.
    """
    own = {weight_name(name): parameter for name, parameter in model.named_parameters() if ".lora_" not in name}
    _check_shapes(dict(load(True).named_parameters()), own, directory)
    for parameter in own.values():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.new_empty(0)
    found = dict(load(False).named_parameters())
    for name, parameter in own.items():
        parameter.data = found.pop(name).data.to(parameter.device)


def read_adapters(directory: Path, model: Any) -> None:
    """Give ``model`` the adapters of a checkpoint.

    Raises:
        ConfigError: it has none, or of another shape; nothing is changed then.
    """
    if not (directory / _ADAPTERS).is_file():
        raise ConfigError(f"{str(directory)!r} has no adapters: it was written without model.lora; remove model.lora")
    _copy(_read(directory / _ADAPTERS), dict(adapter_tensors(model)), directory)


def _moving(reference: Any, model: Any) -> dict[str, torch.Tensor]:
    """The parameters of a reference that follow trained ones of ``model``; the others are shared with it."""
    trained = _trained(model)
    return {name: parameter for name, parameter in reference.named_parameters() if name in trained}


def read_reference_weights(directory: Path, reference: Any, model: Any) -> None:
    """Give a moving reference of ``model`` the weights it had when the checkpoint was written.

    Raises:
        ConfigError: the checkpoint does not hold it, or it is of another model.
    """
    if not (directory / _REFERENCE).is_file():
        raise ConfigError(f"{str(directory)!r} has no moving reference: it was written without reference: ema")
    _copy(_read(directory / _REFERENCE), _moving(reference, model), directory)


def read_optimizer(file: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Replace the state of ``optimizer`` by that in ``file``; before the first step there is no such file."""
    named = dict(model.named_parameters())
    optimizer.state.clear()
    if not file.is_file():
        return
    for key, value in _read(file).items():
        kind, _, name = key.partition("/")
        if name not in named:
            raise ConfigError(f"{str(file)!r} is of an optimiser of {name!r}, which this model does not have")
        # AdamW keeps its step counter on the CPU, unless it is one fused kernel.
        aside = kind == "step" and not optimizer.defaults.get("fused")
        optimizer.state[named[name]][kind] = value if aside else value.to(named[name].device)


def _write(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)


def _read(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


@torch.no_grad()
def _copy(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], origin: Path) -> None:
    _check_shapes(tensors, own, origin)
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def _check_shapes(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], origin: Path) -> None:
    wanted = {name: tuple(parameter.shape) for name, parameter in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = differing[0]
        raise ConfigError(
            f"{str(origin)!r} is a checkpoint of another model: {len(differing)} tensors differ, first {name!r}, "
            f"which is {found.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        )
