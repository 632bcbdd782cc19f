"""Equal calls on all ranks, where a model is spread over several.

Ranks that share the weights of a module (FSDP: Zhao et al. 2023, "PyTorch FSDP", sec. 3) meet in collective calls each
time it runs, forward and backward. A rank whose micro-batch holds text alone would leave the vision tower out, and the
others would wait for it for ever. So wherever, and only where, ranks share the tower, every forward pass calls it
exactly once: on the media, or on one grey picture of the least size, whose features enter with weight 0. Outputs and
gradients are those of a pass without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from easyvideor1.models.family import Family, VisualInputs
from easyvideor1.models.pack import Batch, collate, pack_turns, to_device
from easyvideor1.types import Frames, Geometry, MediaPlan, MediaRef, Prompt, Turn


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


def idle_batch(family: Family, device: torch.device) -> Batch:
    """The smallest micro-batch: one token that answers one token, in no sequence of the step (-1)."""
    token = np.asarray([family.stop_token_ids[0]], dtype=np.int64)
    turn = Turn(Prompt(token, (), ()), token, np.zeros(1, dtype=bool), None, "stop", "")
    batch = collate(pack_turns([turn], share_prefix=family.shares_prefix), family, _no_media)
    batch.sequence.fill_(-1)
    return to_device(batch, device)


def equal_micro_batches(
    batches: Iterable[tuple[Sequence[int], Batch]],
    count: int,
    family: Family,
    device: torch.device,
    ranks: dist.ProcessGroup | None = None,
) -> Iterator[tuple[Sequence[int], Batch]]:
    """A rank's micro-batches, then idle ones until it has as many as the rank with the most.

    Every rank must run as many forward and backward passes as the others. An idle micro-batch comes with no indices of
    turns; it goes through model and loss like the others, and its one token has weight 0.

    Args:
        batches: as from ``Passes.batches``.
        count: how many there are.
        family: of the model.
        device: of the model.
        ranks: those that share the model; all if None. Each of them must call this, and iterate.

    Raises:
        ValueError: there were not ``count`` micro-batches.
    """
    most = torch.tensor(count, device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(most, dist.ReduceOp.MAX, group=ranks)
    given = 0
    for batch in batches:
        given += 1
        yield batch
    if given != count:
        raise ValueError(f"{given} micro-batches where {count} were announced to the other ranks")
    for _ in range(int(most) - count):
        yield (), idle_batch(family, device)


def _no_media(ref: MediaRef, plan: MediaPlan) -> Frames:
    raise RuntimeError(f"an idle micro-batch has no media, not {ref.path!r} of plan {plan.digest[:12]}")
