"""Which parts of a model ranks hold in parts: FSDP2, layer by layer.

Every repeated layer is gathered when it runs, and freed after it. Embeddings and the matrix of the logits stay whole on
every rank: log-probs call the latter in chunks, whose number differs from rank to rank. A vision tower that is not
trained stays whole, too; so features of it can be cached, and no rank waits for another where it has no media.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from easyvideor1.attention.sequence_parallel import SequenceRanks
from easyvideor1.families.family import Family
from easyvideor1.policy.spread import divides_evenly

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, slots=True)
class RankPlace:
    """One of the ranks that train together.

    ``shard_size`` is the number of ranks that a layer is spread over; where that is not all of them, each such group
    has the whole model (hybrid sharding: Zhao et al. 2023, sec. 3.2.2). ``device`` is where this rank computes.
    ``sequence_parallel`` neighbours each compute the same micro-batches together.
    """

    rank: int
    ranks: int
    shard_size: int
    device: torch.device
    sequence_parallel: int = 1

    @property
    def groups(self) -> int:
        """Groups of ranks that have micro-batches of their own."""
        return self.ranks // self.sequence_parallel

    @property
    def group(self) -> int:
        """That of this rank."""
        return self.rank // self.sequence_parallel

    @property
    def speaks(self) -> bool:
        """Whether this rank says what its group has found, which all of the group know."""
        return self.rank % self.sequence_parallel == 0

    def sequence_ranks(self) -> SequenceRanks | None:
        """The ranks of this one's group, if it is not alone in it; all ranks call this."""
        from torch.distributed.device_mesh import init_device_mesh

        if self.sequence_parallel == 1:
            return None
        shape = (self.groups, self.sequence_parallel)
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=("data", "sequence"))
        return SequenceRanks(mesh.get_group("sequence"), mesh.get_local_rank("sequence"), self.sequence_parallel)

    def mesh(self) -> DeviceMesh:
        """All ranks; their process group is there already."""
        from torch.distributed.device_mesh import init_device_mesh

        kind = self.device.type
        if self.shard_size == self.ranks:
            return init_device_mesh(kind, (self.ranks,), mesh_dim_names=("shard",))
        replicas = self.ranks // self.shard_size
        return init_device_mesh(kind, (replicas, self.shard_size), mesh_dim_names=("replica", "shard"))

    def holders(self) -> dist.ProcessGroup | None:
        """The ranks that hold one whole model together, of which the first is one: checkpoints are put together there.

        Their group is for the memory of the host, and has no other use. All ranks call this; ``None`` on one that holds
        what another does as well.
        """
        # A rank that is lost is noticed otherwise; a slow disk is no loss.
        group = dist.new_group(list(range(self.shard_size)), timeout=timedelta(days=1), backend="gloo")
        return group if self.rank < self.shard_size else None


def sharded_modules(family: Family, model: Any) -> tuple[list[torch.nn.Module], set[torch.nn.Parameter]]:
    """The modules that are gathered as a whole, from the inside outwards, and parameters in them that stay whole."""
    groups = family.groups(model)
    kept = {*model.get_input_embeddings().parameters()}
    if (logits := model.get_output_embeddings()) is not None:
        kept |= {*logits.parameters()}
    tower = [*groups["vision"], *groups["merger"]]
    roots = list(groups["language"])
    if any(parameter.requires_grad for module in tower for parameter in module.parameters()):
        roots += _together(model, tower, apart_from=groups["language"])
    found = []
    for root in roots:
        layers = list(_layers(root))
        found += layers
        # Without a layer of its own it may be called otherwise than as a whole, as the matrix of the logits is.
        if layers and root not in layers and not isinstance(root, torch.nn.ModuleList):
            found.append(root)
    return found, kept


def shard_model(
    family: Family, model: Any, mesh: DeviceMesh, device: torch.device, *, parameters_on_host: bool = False
) -> None:
    """Spread a model on the CPU over ranks, and move what stays whole to the ``device`` of this one.

    What is on the meta device stays there (``share_frozen``).

    Gradients of what is spread are sums over all ranks, in float32: a token's weight is its share of the whole update.
    A model that computes in bfloat16 is gathered in that type, which halves what ranks send each other; autocast would
    turn the weights of its products into it in any case; those of norms are rounded on ranks only.

    Args:
        family: of the model.
        model: on the CPU, as it is trained.
        mesh: the ranks.
        device: where this rank computes.
        parameters_on_host: keep this rank's parts, and their gradients, in the memory of the host.
    """
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        FSDPModule,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    dtype = getattr(model, "compute_dtype", torch.float32)
    # Inputs stay as they are: angles of rotary positions are float32.
    precision = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if parameters_on_host else OffloadPolicy()
    modules, kept = sharded_modules(family, model)
    for module in modules:
        fully_shard(
            module,
            mesh=mesh,
            reshard_after_forward=True,
            mp_policy=precision,
            offload_policy=offload,
            ignored_params=kept & {*module.parameters()} or None,
        )
    model.compute_device = device
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no sum that multiplies
    # A module that is spread was moved as it was cut; to move it again would take its parts apart.
    for owner in model.modules():
        for tensor in (*owner.parameters(recurse=False), *owner.buffers(recurse=False)):
            if type(tensor) not in (torch.nn.Parameter, torch.Tensor) or tensor.is_meta:
                continue
            if tensor.device.type != device.type:
                tensor.data = tensor.data.to(device)
            elif tensor.untyped_storage().nbytes() > tensor.nbytes:  # all weights were read into one piece of memory
                tensor.data = tensor.data.clone()


@torch.no_grad()
def share_frozen(copied: Any, model: Any) -> None:
    """Give a copy that ``copy_trained`` made without contents the frozen weights of ``model``, both being spread.

    A rank then holds its part of a frozen weight once, whatever copies there are. FSDP takes a parameter that replaces
    its own, as ``load_state_dict(assign=True)`` does, when the model first runs. It pads the parts of a weight whose
    rows the ranks do not divide, in memory of its own: of such a weight the copy gets a part of its own, which is empty
    until ``copy_weights``.
    """
    own: dict[int, torch.nn.Parameter] = {}
    for module, other in zip(copied.modules(), model.modules(), strict=True):
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.is_meta:
                continue
            found = getattr(other, name)
            if not divides_evenly(found):
                found = own.setdefault(id(found), torch.nn.Parameter(torch.empty_like(found), requires_grad=False))
            setattr(module, name, found)


def _layers(root: torch.nn.Module) -> Iterable[torch.nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return (module for module in root.modules() if isinstance(module, GradientCheckpointingLayer))


def _together(
    model: torch.nn.Module, parts: Iterable[torch.nn.Module], apart_from: Iterable[torch.nn.Module]
) -> list[torch.nn.Module]:
    """The least module that has all ``parts`` and none of the others; the parts if there is none."""
    parts, others = list(parts), set(apart_from)
    found: list[torch.nn.Module] = []
    for module in model.modules():  # from the outside inwards
        own = set(module.modules())
        if own.issuperset(parts) and own.isdisjoint(others):
            found = [module]
    return found or parts
