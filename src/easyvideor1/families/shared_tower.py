"""The vision tower where ranks share a model.

Ranks that share the weights of a module (FSDP: Zhao et al. 2023, "PyTorch FSDP", sec. 3) meet in collective calls each
time it runs, forward and backward. A rank whose micro-batch holds text alone would leave the vision tower out, and the
others would wait for it for ever. So wherever, and only where, ranks share the tower, every forward pass calls it
exactly once: on the media, or on one grey picture of the least size, whose features enter with weight 0. Outputs and
gradients are those of a pass without it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.families.family import Family, VisualInputs
from easyvideor1.types import Geometry


def tower_is_sharded(family: Family, model: Any) -> bool:
    """Whether ranks meet when the vision tower or its merger runs.

    That is so where a part of it lies in a module of ``fully_shard`` (or of the older wrappers FSDP and DDP), or has
    parameters spread over ranks in another way. A single process meets nobody, whatever it is wrapped in.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import DTensor
    from torch.nn.parallel import DistributedDataParallel

    groups = family.groups(model)
    tower = {part for group in ("vision", "merger") for module in groups[group] for part in module.modules()}
    if any(isinstance(tensor, DTensor) for part in tower for tensor in part.parameters(recurse=False)):
        return True
    # Between a forward pass and the next, FSDP may keep whole parameters in place of their shards.
    shared = (FSDPModule, FullyShardedDataParallel, DistributedDataParallel)
    modules: list[torch.nn.Module] = list(model.modules())
    return any(isinstance(module, shared) and not tower.isdisjoint(module.modules()) for module in modules)


def least_visual(geometry: Geometry, device: torch.device) -> VisualInputs:
    """One picture of one visual token, of the colour that normalisation takes to 0."""
    merge = geometry.merge_size
    values = 3 * geometry.temporal_patch_size * geometry.patch_size**2
    return VisualInputs(
        torch.zeros(merge * merge, values, device=device),
        torch.tensor([[1, merge, merge]], dtype=torch.int64, device=device),
    )


def touch_tower(family: Family, model: Any, embeddings: torch.Tensor) -> torch.Tensor:
    """The same ``embeddings``, whose gradient passes through the tower, its merger and those of DeepStack as 0."""
    seen = family.encode(model, least_visual(family.geometry, embeddings.device))
    # Products come first: a sum could leave the range of half precision.
    nothing = sum(((part * 0).sum() for part in seen.deepstack), start=(seen.tokens * 0).sum())
    return embeddings + nothing.to(embeddings.dtype)
