"""Writing and reading the checkpoint of a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.weight_files import (
    INDEX,
    WHOLE,
    LazyTensor,
    stored_weights,
    write_tensors,
    write_weights,
)
from easyvideor1.policy.adapters import adapter_settings, adapter_tensors, merged_state
from easyvideor1.policy.optimizer import HostAdamW, on_host
from easyvideor1.policy.spread import assign, gathered, is_sharded, is_spread, part_of, whole
from easyvideor1.types import ConfigError

#: Files of a checkpoint that are not weights; they are copied from stage to stage.
_COMPANIONS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")

#: Files that only resuming a stage needs.
OPTIMIZER = "optimizer.safetensors"
ADAPTERS = "adapters.safetensors"
_REFERENCE = "reference.safetensors"


def write_policy(
    directory: Path,
    model: Any,
    tokenizer: Any,
    origin: Path,
    optimizer: torch.optim.Optimizer | None,
    reference: Any,
    *,
    writes: bool = True,
) -> None:
    """Write a Hugging Face checkpoint, and what resuming needs, into an existing empty directory.

    Ranks that hold the model in parts all call this; one of them ``writes``, and has all tensors on the CPU then.

    Args:
        directory: where to.
        model: with or without adapters, which are merged into the weights and written beside them.
        tokenizer: of the model.
        origin: checkpoint that the model came from; its processor settings are copied.
        optimizer: whose state is written, if there is one.
        reference: the reference model if it moves, else ``None``.
        writes: whether this rank does.
    """
    write_model(directory, model, writes=writes)
    if adapters := adapter_tensors(model):
        settings = {**adapter_settings(model), "base": str(origin.absolute())}
        _write(directory / ADAPTERS, adapters, settings, writes=writes)
    if reference is not None:
        _write(directory / _REFERENCE, _moving(reference, model), writes=writes)
    if writes:
        tokenizer.save_pretrained(directory)
        for name in _COMPANIONS:
            if (origin / name).is_file():
                (directory / name).write_bytes((origin / name).read_bytes())
    if optimizer is not None:
        write_optimizer(directory / OPTIMIZER, model, optimizer, writes=writes)


def write_model(directory: Path, model: Any, *, writes: bool = True) -> None:
    """What ``save_pretrained`` writes, with adapters merged, of which one weight at a time is in memory.

    Ranks that hold the model in parts all call this, and the one that ``writes`` has all of it in memory.
    """
    own = merged_state(model)
    if is_sharded(model):
        full = ((name, whole(tensor.load())) for name, tensor in own.items())
        own = {name: LazyTensor.of(tensor.cpu()) for name, tensor in full if writes}
    if not writes:
        return
    with _silence():  # about the weights, of which there are none yet
        model.save_pretrained(directory, state_dict={})
    (directory / WHOLE).unlink(missing_ok=True)
    write_weights(directory, _as_in_checkpoints(model, own))


@contextmanager
def _silence() -> Iterator[None]:
    """No progress bar of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _as_in_checkpoints(model: Any, own: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The weights of a model under the names and in the shapes of its family's checkpoints.

    transformers keeps the experts of a layer in one tensor, which checkpoints hold transposed or one by one.
    """
    from transformers.core_model_loading import revert_weight_conversion

    def converted(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = revert_weight_conversion(model, dict(tensors))
        return found

    empty = {name: torch.empty(each.shape, dtype=each.dtype, device="meta") for name, each in own.items()}
    # Parts of one tensor are written one after the other, so those of the last one are kept.
    parts_of = lru_cache(maxsize=1)(lambda name: converted({name: own[name].load()}))
    found: dict[str, LazyTensor] = {}
    for name, tensor in own.items():
        for part, shape in converted({name: empty[name]}).items():
            load = partial(_part, parts_of, name, part)
            found[part] = tensor if shape is empty[name] else LazyTensor(shape.dtype, tuple(shape.shape), load)
    if _shapes(found) != _shapes(converted(empty)):  # some conversion takes several tensors
        all_of_it = converted({name: tensor.load() for name, tensor in own.items()})
        return {name: LazyTensor.of(tensor) for name, tensor in all_of_it.items()}
    return found


def _part(parts_of: Callable[[str], dict[str, torch.Tensor]], name: str, part: str) -> torch.Tensor:
    return parts_of(name)[part]


def write_optimizer(file: Path, model: Any, optimizer: torch.optim.Optimizer, *, writes: bool = True) -> None:
    """Write the state of ``optimizer`` by the names of the parameters; before the first step there is none."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    if tensors:
        _write(file, tensors, writes=writes)


def write_trained(file: Path, model: Any, *, writes: bool = True) -> None:
    """Write the parameters of ``model`` that are trained."""
    _write(file, _trained(model), writes=writes)


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

    A checkpoint whose files name weights as the model does, as those of runs do, is read one weight at a time. Others
    are loaded by transformers, which knows older names: without a GPU the old weights are released first, so there is
    no second model; with one, a copy passes through the memory of the host.

    Args:
        directory: the checkpoint.
        model: with or without adapters.
        load: makes the checkpoint's model on the CPU, without adapters; if given ``True``, its shapes alone.

    Raises:
        ConfigError: the checkpoint is of another model; nothing is changed then.
        DataError: a file of weights is damaged.
    """
    own = {weight_name(name): parameter for name, parameter in model.named_parameters() if ".lora_" not in name}
    empty = dict(load(True).named_parameters())
    _check_shapes(empty, own, directory)
    if (stored := _stored(directory)) is not None and _shapes(stored) == _shapes(own):
        for name, parameter in own.items():
            new = stored[name].load()
            if is_spread(parameter):
                _assign_exactly(parameter, new.to(empty[name].dtype), name, directory)
            else:
                parameter.data = new.to(parameter.device, empty[name].dtype)
        return
    for parameter in own.values():
        if parameter.device.type == "cpu" and not is_spread(parameter):
            parameter.data = parameter.data.new_empty(0)
    found = dict(load(False).named_parameters())
    for name, parameter in own.items():
        new = found.pop(name).data
        if is_spread(parameter):
            _assign_exactly(parameter, new, name, directory)
        else:
            parameter.data = new.to(parameter.device)


def _assign_exactly(parameter: torch.nn.Parameter, new: torch.Tensor, name: str, directory: Path) -> None:
    """The part of this rank, in the type that it is kept in: frozen weights may be bfloat16."""
    if new.dtype != parameter.dtype and not torch.equal(new.to(parameter.dtype).to(new.dtype), new):
        raise ConfigError(
            f"{str(directory)!r}: {name} is frozen and kept in {parameter.dtype}, which cannot hold the weights of "
            "this checkpoint; set model.dtype=float32"
        )
    assign(parameter, new)


def _stored(directory: Path) -> dict[str, LazyTensor] | None:
    """The weights in safetensors files; ``None`` where there are others."""
    if not (directory / WHOLE).is_file() and not (directory / INDEX).is_file():
        return None
    return stored_weights(directory)


def read_adapters(directory: Path, model: Any) -> None:
    """Give ``model`` the adapters of a checkpoint.

    Raises:
        ConfigError: it has none, or of another shape; nothing is changed then.
    """
    if not (directory / ADAPTERS).is_file():
        raise ConfigError(f"{str(directory)!r} has no adapters: it was written without model.lora; remove model.lora")
    _copy(_read(directory / ADAPTERS), dict(adapter_tensors(model)), directory)


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
        if kind != "step":
            value = part_of(value, named[name])
            optimizer.state[named[name]][kind] = on_host(value) if isinstance(optimizer, HostAdamW) else value
        else:
            fused = optimizer.defaults.get("fused")
            optimizer.state[named[name]][kind] = value.to(named[name].device) if fused else value


def _write(
    file: Path, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, str] | None = None, *, writes: bool
) -> None:
    if any(is_spread(tensor) for tensor in tensors.values()):
        tensors = gathered(tensors.items(), keep=writes)
    if writes:
        write_tensors(file, {name: LazyTensor.of(tensor) for name, tensor in tensors.items()}, settings)


def _read(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


@torch.no_grad()
def _copy(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], origin: Path) -> None:
    _check_shapes(tensors, own, origin)
    for name, parameter in own.items():
        assign(parameter, tensors[name])


def _check_shapes(
    tensors: Mapping[str, torch.Tensor | LazyTensor], own: Mapping[str, torch.Tensor], origin: Path
) -> None:
    wanted, found = _shapes(own), _shapes(tensors)
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = differing[0]
        raise ConfigError(
            f"{str(origin)!r} is a checkpoint of another model: {len(differing)} tensors differ, first {name!r}, "
            f"which is {found.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        )


def _shapes(tensors: Mapping[str, torch.Tensor | LazyTensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
