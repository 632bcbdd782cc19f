"""Tensors of which every rank holds a part, beside those that every rank holds whole.

FSDP2 (Zhao et al. 2023, "PyTorch FSDP") keeps a parameter as a ``DTensor``: a tensor of the full shape that knows its
own part. What gathers or sums here is a call that all ranks make, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.families.weight_files import LazyTensor


def is_spread(tensor: torch.Tensor) -> bool:
    """Whether ranks hold parts of it."""
    if not dist.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether parameters are spread over ranks."""
    return any(is_spread(parameter) for parameter in model.parameters())


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of it that is here; memory is shared."""
    found: torch.Tensor = tensor.to_local() if is_spread(tensor) else tensor  # type: ignore[attr-defined]
    return found


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of it. Ranks that hold parts must all call this."""
    found: torch.Tensor = tensor.full_tensor() if is_spread(tensor) else tensor  # type: ignore[attr-defined]
    return found


def part_of(value: torch.Tensor, like: Any) -> torch.Tensor:
    """A whole tensor as ``like`` is kept: spread over the same ranks, or whole, and on its device."""
    value = value.to(like.device)
    if not is_spread(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    # Every rank has the value, so nothing is sent.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def own_rows(tensor: Any) -> tuple[int, int]:
    """Which rows of a spread tensor this rank holds, ``begin`` and ``end``; FSDP2 cuts the first dimension.

    Raises:
        RuntimeError: it is cut otherwise.
    """
    mesh, dimension = tensor.device_mesh, _cut_along(tensor)
    return rows_of(len(tensor), mesh.size(dimension), mesh.get_local_rank(dimension))


def divides_evenly(tensor: Any) -> bool:
    """Whether all ranks hold equally many rows of a tensor; so it is if they hold it whole."""
    return not is_spread(tensor) or len(tensor) % tensor.device_mesh.size(_cut_along(tensor)) == 0


def rows_of(rows: int, ranks: int, rank: int) -> tuple[int, int]:
    """The rows of one of several ranks, ``begin`` and ``end``, as ``torch.chunk`` cuts: the last ones may have none."""
    most = -(-rows // ranks)
    return min(rank * most, rows), min((rank + 1) * most, rows)


def stored_part(stored: LazyTensor, like: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor of a file as ``like`` is kept: the rows of this rank, which alone are read, or whole; on its device."""
    dtype = dtype or stored.dtype
    if not is_spread(like):
        return stored.load().to(like.device, dtype)
    from torch.distributed.tensor import DTensor

    rows = stored.rows(*own_rows(like)).to(like.device, dtype)
    found = DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
    return found.to(like.device)  # parts of a GPU's ranks may be on the host (``model.offload``)


@torch.no_grad()
def assign_stored(parameter: torch.Tensor, stored: LazyTensor) -> None:
    """Give a parameter the numbers of a tensor of a file, in place."""
    rows = stored.rows(*own_rows(parameter)) if is_spread(parameter) else stored.load()
    local(parameter).copy_(rows)


@torch.no_grad()
def assign(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Give a parameter the numbers of a whole tensor, in place."""
    if is_spread(parameter):
        local(parameter).copy_(local(part_of(value, parameter)))
    else:
        parameter.copy_(value)


@torch.no_grad()
def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients of parameters that every rank holds whole; those that are spread were summed as they came.

    A parameter that has a gradient on one rank has one on all of them afterwards, and one that has none anywhere keeps
    none, so that the optimiser leaves it alone as in a single process.
    """
    kept = [parameter for parameter in parameters if parameter.requires_grad and not is_spread(parameter)]
    if not kept:
        return
    there = torch.tensor([parameter.grad is not None for parameter in kept], dtype=torch.int32, device=kept[0].device)
    dist.all_reduce(there, dist.ReduceOp.MAX)
    for parameter, has in zip(kept, there.tolist(), strict=True):
        if not has:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


@torch.no_grad()
def clip_spread(gradients: Sequence[torch.Tensor], most: float) -> float:
    """Scale gradients down to a norm of at most ``most``, and return the norm before that, as torch does in a process.

    Whole gradients are the same on every rank. The parts of spread ones are added up over the ranks that share them.
    """
    if not gradients:
        return 0.0
    spread = [gradient for gradient in gradients if is_spread(gradient)]
    # Whole gradients are on the device; parts may be on the host (``model.offload``), and are added up there.
    total = _squares([gradient for gradient in gradients if not is_spread(gradient)], gradients[0].device)
    if spread:
        parts = _squares([local(gradient) for gradient in spread], spread[0].device)
        dist.all_reduce(parts, group=_sharing(spread[0]))
        total = total + parts.to(total.device)
    norm = total.sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        own = local(gradient)
        own.mul_(factor.to(own.device, own.dtype))
    return float(norm)


def _squares(tensors: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    norms = [torch.linalg.vector_norm(tensor.float()) ** 2 for tensor in tensors]
    return torch.stack(norms).sum() if norms else torch.zeros((), device=device)


def _sharing(tensor: Any) -> dist.ProcessGroup:
    """The ranks among which a tensor is cut; with hybrid sharding, each such group has all of it."""
    group: dist.ProcessGroup = tensor.device_mesh.get_group(_cut_along(tensor))
    return group


def _cut_along(tensor: Any) -> int:
    """The dimension of the mesh of ranks along which the rows of a spread tensor are cut.

    Raises:
        RuntimeError: something else than its rows is cut, or it is cut along several dimensions.
    """
    found = [number for number, placement in enumerate(tensor.placements) if placement.is_shard()]
    if len(found) != 1 or not tensor.placements[found[0]].is_shard(0):
        raise RuntimeError(f"a tensor is spread as {tensor.placements}, and only its rows should be, once")
    return found[0]
