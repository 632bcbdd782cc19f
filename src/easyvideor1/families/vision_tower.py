"""How vision towers of transformers run here, alone and where ranks share one.

The patches of a temporal step attend to each other alone. transformers cuts them apart and calls its attention once per
step and block, thousands of times for a long video, unless a kernel asks for the whole sequence and its lengths. The
kernel here does, and gives torch's fused attention every run of equal lengths as a batch; the result is the same.

Position embeddings are float32, and what is added to them would stay so: under autocast, the residual stream of the
tower, which has four times as many rows as the language model has visual tokens, is turned into the computing type.

Ranks that share the weights of a module (FSDP: Zhao et al. 2023, "PyTorch FSDP", sec. 3) meet in collective calls each
time it runs, forward and backward. A rank whose micro-batch holds text alone would leave the vision tower out, and the
others would wait for it forever. So where ranks share the tower, and only there, every forward pass calls it exactly
once: on the media, or on one grey picture of the least size, whose features enter with weight 0. Outputs and gradients
are those of a pass without it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

from easyvideor1.attention.branches import BranchKeys
from easyvideor1.attention.functions import plain_attention
from easyvideor1.attention.layout import Layout
from easyvideor1.attention.sequence_parallel import RowExchange
from easyvideor1.families.family import Family, Visual, VisualFeatures, VisualInputs
from easyvideor1.types import Geometry

#: Its name in transformers, which hands the whole sequence over where "flash" is part of it.
BATCHED_FRAMES = "flash_batched_frames"


def prepare_tower(tower: Any) -> None:
    """Make a vision tower of transformers attend over batches of frames and keep the computing type."""
    from transformers import AttentionInterface

    AttentionInterface.register(BATCHED_FRAMES, _attention_forward)
    tower.config._attn_implementation = BATCHED_FRAMES
    for block in getattr(tower, "blocks", ())[:1]:
        block.register_forward_pre_hook(_in_computing_type)


def _in_computing_type(block: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    hidden, *others = arguments
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return (hidden, *others)


# Compiled blocks stop here: how frames are cut into runs differs with every batch.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' contract: ``(1, H, T, D)`` each to ``(1, T, H, D)``; a step ends at each of ``cu_seq_lens_q``."""
    if cu_seq_lens_q is None:  # a tower that cuts frames apart itself
        return plain_attention(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
    bounds = cu_seq_lens_q.tolist()
    lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
    parts = []
    start = 0
    for length, run in itertools.groupby(lengths):
        count = len(list(run))
        stop = start + count * length
        query_, key_, value_ = (
            tensor[0, :, start:stop].reshape(tensor.shape[1], count, length, -1).transpose(0, 1)
            for tensor in (query, key, value)
        )
        out = torch.nn.functional.scaled_dot_product_attention(query_, key_, value_, dropout_p=dropout, scale=scaling)
        parts.append(out.transpose(1, 2).flatten(0, 1))
        start = stop
    return torch.cat(parts)[None], None


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


def idle_tower(family: Family, model: Any, device: torch.device) -> torch.Tensor:
    """A 0 to add, whose gradient passes through the tower, its merger and those of DeepStack as 0."""
    seen = family.encode(model, least_visual(family.geometry, device))
    # Products come first: a sum could leave the range of half precision.
    return sum(((part * 0).sum() for part in seen.deepstack), start=(seen.tokens * 0).sum())


def visual_features(family: Family, model: Any, visual: Visual) -> VisualFeatures:
    """What the visual tokens of a batch are given: features as they are, or those of one call, repeated or exchanged
    as asked.

    With ``model.vision_chunk`` there is a call for so many visual tokens at a time, if the family's tower can be cut so
    (``cuts_frames``) and no other rank waits for the calls.
    """
    if isinstance(visual, VisualFeatures):
        return visual
    most = getattr(model, "vision_chunk", 0) * family.geometry.merge_size**2
    if 0 < most < len(visual.pixel_patches) and cuts_frames(family) and not tower_is_sharded(family, model):
        seen = _encode_in_chunks(family, model, visual, most)
    else:
        seen = family.encode(model, visual)
    if visual.exchange is not None:
        return _exchanged(seen, visual.exchange)
    return seen if visual.repeats is None else seen.take(visual.repeats)


def cuts_frames(family: Family) -> bool:
    """Whether a tower gives each temporal step the same features, whatever else is in the call."""
    return family.feature_cache and family.independent_steps


def _encode_in_chunks(family: Family, model: Any, visual: VisualInputs, most: int) -> VisualFeatures:
    """Features of all media, from chunks of at most ``most`` patches.

    In a pass with gradients a chunk is computed again when its backward pass comes. So what the tower keeps is that of
    one chunk, beside the features of all.
    """

    def encode(patches: torch.Tensor, grid_thw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen = family.encode(model, VisualInputs(patches, grid_thw))
        return (seen.tokens, *seen.deepstack)

    learns = torch.is_grad_enabled() and any(
        parameter.requires_grad
        for group in ("vision", "merger")
        for module in family.groups(model)[group]
        for parameter in module.parameters()
    )
    parts = []
    for chunk in frame_chunks(visual, most):
        inputs = (chunk.pixel_patches, chunk.grid_thw)
        parts.append(checkpoint(encode, *inputs, use_reentrant=False) if learns else encode(*inputs))
    tokens, *deepstack = (torch.cat(column) for column in zip(*parts, strict=True))
    return VisualFeatures(tokens, tuple(deepstack))


def frame_chunks(visual: VisualInputs, most: int) -> list[VisualInputs]:
    """Media cut between temporal steps, into parts of at most ``most`` patches, or of one step that has more."""
    found: list[VisualInputs] = []
    grids: list[tuple[int, int, int]] = []
    start = size = 0

    def close() -> None:
        nonlocal start, size
        patches = visual.pixel_patches[start : start + size]
        found.append(VisualInputs(patches, visual.grid_thw.new_tensor(grids)))
        grids.clear()
        start, size = start + size, 0

    for steps, height, width in visual.grid_thw.tolist():
        while steps:
            if grids and size + height * width > most:
                close()
            taken = min(max((most - size) // (height * width), 1), steps)
            grids.append((taken, height, width))
            size += taken * height * width
            steps -= taken
    close()
    return found


def _exchanged(seen: VisualFeatures, exchange: RowExchange) -> VisualFeatures:
    """The features of this rank's visual tokens, in one message; all ranks of the group call this."""
    layers = [seen.tokens, *seen.deepstack]
    # Without rows to send the product with the tower stays, so that the message goes back as well.
    found = exchange(torch.cat(layers, dim=1)[: sum(exchange.sends)])
    tokens, *deepstack = torch.split(found, [layer.shape[1] for layer in layers], dim=1)
    return VisualFeatures(tokens, tuple(deepstack))


def hidden_states(
    family: Family,
    model: Any,
    input_ids: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor | Layout | BranchKeys | None,
    visual: Visual | None,
    cache: Any = None,
) -> torch.Tensor:
    """Last hidden states ``(B, T, D)`` of token ids and their media, in one pass.

    The vision tower is called once for all media, or in chunks of them (``visual_features``), or not at all when
    ``visual`` are features or None; where ranks share it, it is called once all the same. Arguments are those of
    ``Family.embed`` and ``Family.decode``; ``visual`` is the media of all rows, row by row.
    """
    features = nothing = None
    if not isinstance(visual, VisualInputs) and tower_is_sharded(family, model):
        nothing = idle_tower(family, model, input_ids.device)
    if visual is not None:
        features = visual_features(family, model, visual)
    embeddings = family.embed(model, input_ids, features)
    if nothing is not None:
        embeddings = replace(embeddings, tokens=embeddings.tokens + nothing.to(embeddings.tokens.dtype))
    return family.decode(model, embeddings, positions, mask, cache)
