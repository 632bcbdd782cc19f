"""What the checkpoint of a policy holds: the files of a Hugging Face checkpoint, and those that resuming needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.families.weight_files import WHOLE, LazyTensor
from easyvideor1.policy.adapters import adapter_settings, adapter_tensors, merged_state, model_state
from easyvideor1.policy.gathering import Gathering
from easyvideor1.policy.snapshot import Snapshot, TensorFile

#: Files of a checkpoint that are not weights; they are copied from stage to stage.
_COMPANIONS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")

#: Files that only resuming a stage needs.
OPTIMIZER = "optimizer.safetensors"
ADAPTERS = "adapters.safetensors"
REFERENCE = "reference.safetensors"


def policy_snapshot(
    model: Any,
    tokenizer: Any,
    origin: Path,
    optimizer: torch.optim.Optimizer | None,
    reference: Any,
    others: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    group: dist.ProcessGroup | None = None,
    writes: bool = True,
    copied: bool = False,
) -> Snapshot:
    """A checkpoint that is to be written: in the format of Hugging Face, with what resuming needs beside it.

    Args:
        model: with or without adapters, which are merged into the weights and written beside them.
        tokenizer: of the model.
        origin: checkpoint that the model came from; its processor settings are copied.
        optimizer: whose state is written, if there is one.
        reference: the reference model if it moves, else ``None``.
        others: tensors of further files, by the names of these.
        group: see ``Gathering``.
        writes: whether this rank does.
        copied: whether what is written is the policy as it is now, whatever becomes of it meanwhile. Else it is written
            before anything changes.
    """
    contents: dict[str, Mapping[str, torch.Tensor]] = {WHOLE: model_state(model), ADAPTERS: adapter_tensors(model)}
    if reference is not None:
        contents[REFERENCE] = moving(reference, model)
    if optimizer is not None:
        contents[OPTIMIZER] = optimizer_state(model, optimizer)
    contents |= others
    # Before its first step an optimiser has nothing to write.
    tensors = {f"{file}/{name}": tensor for file, own in contents.items() for name, tensor in own.items()}
    fixed = {f"{WHOLE}/{name}" for name, parameter in model.named_parameters() if not parameter.requires_grad}
    gathering = Gathering(tensors, group, writes=writes, copied=copied, fixed=fixed)
    if not writes:
        return Snapshot(gathering, {}, (), {})

    def lazy(file: str) -> dict[str, LazyTensor]:
        return {name: gathering.lazy(f"{file}/{name}") for name in contents[file]}

    weights = _as_in_checkpoints(model, merged_state(model, lazy(WHOLE)))
    settings: dict[str, str] = {}
    if contents[ADAPTERS]:
        settings = {**adapter_settings(model), "base": str(origin.absolute())}
    files = [
        TensorFile(file, lazy(file), settings if file == ADAPTERS else {})
        for file, own in contents.items()
        if own and file != WHOLE
    ]
    return Snapshot(gathering, weights, files, _companions(model, tokenizer, origin))


def trained(model: Any) -> dict[str, torch.Tensor]:
    """The parameters of a model that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def moving(reference: Any, model: Any) -> dict[str, torch.Tensor]:
    """The parameters of a reference that follow trained ones of ``model``; the others are shared with it."""
    followed = trained(model)
    return {name: parameter for name, parameter in reference.named_parameters() if name in followed}


def optimizer_state(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser by the names of the parameters; before the first step there is none."""
    return {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _companions(model: Any, tokenizer: Any, origin: Path) -> dict[str, bytes]:
    """Configuration, tokenizer and processor settings, as files."""
    with tempfile.TemporaryDirectory() as place, _silence():  # about the weights, of which there are none yet
        directory = Path(place)
        model.save_pretrained(directory, state_dict={})
        (directory / WHOLE).unlink(missing_ok=True)
        tokenizer.save_pretrained(directory)
        files = [file for file in directory.rglob("*") if file.is_file()]
        found = {file.relative_to(directory).as_posix(): file.read_bytes() for file in sorted(files)}
    return found | {name: (origin / name).read_bytes() for name in _COMPANIONS if (origin / name).is_file()}


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
    if shapes(found) != shapes(converted(empty)):  # some conversion takes several tensors
        all_of_it = cache(lambda: converted({name: tensor.load() for name, tensor in own.items()}))
        return {
            name: LazyTensor(each.dtype, tuple(each.shape), partial(_part, lambda _: all_of_it(), "", name))
            for name, each in converted(empty).items()
        }
    return found


def _part(parts_of: Callable[[str], dict[str, torch.Tensor]], name: str, part: str) -> torch.Tensor:
    return parts_of(name)[part]


def shapes(tensors: Mapping[str, torch.Tensor | LazyTensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
