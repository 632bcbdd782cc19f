"""An update by transformers' own model: each response has a row, and nothing is chunked, shared or recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from easyvideor1.families.family import Family
from easyvideor1.packing.micro_batch import texts_of
from easyvideor1.policy.update_batch import BackwardResult, UpdateBatch
from easyvideor1.types import Frames, Turn


def distance(
    family: Family,
    model: Any,
    batch: UpdateBatch,
    frames: Frames,
    result: BackwardResult,
    gradients: Mapping[str, torch.Tensor],
) -> dict[str, float]:
    """How far an update of objective ``sft`` is from the plain one.

    Args:
        family: of the model; it gives the oracle pixels, and positions of its convention.
        model: of transformers, with the weights that the update was made with, in float32. It is given gradients.
        batch: the update; all of its turns have one prompt with one video.
        frames: of that video.
        result: what ``ForwardPasses.forward_backward`` has returned.
        gradients: what it has left, by name.

    Returns:
        ``logprobs``: the largest difference. ``loss``: relative. ``gradients``: norm of the difference over that of all
        gradients. ``largest_gradient``: the largest such number of any one weight.
    """
    pixels = family.visual_inputs([frames])
    assert pixels is not None and isinstance(batch.advantages, torch.Tensor)
    model.train().zero_grad()
    loss, logprobs = 0.0, []
    for turn, weights, advantage in zip(batch.turns, batch.weights, batch.advantages, strict=True):
        found = _logprobs(family, model, turn, pixels.pixel_patches, pixels.grid_thw)
        part = -(weights * advantage * found).sum() / batch.total_weight
        torch.autograd.backward(part)
        loss += float(part.detach())
        logprobs.append(found.detach())
    ours = result.observations
    own = [ours.trainer[ours.turn == number] for number in range(len(batch.turns))]
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if wanted.keys() != gradients.keys():
        raise RuntimeError(f"gradients of one path alone: {sorted(wanted.keys() ^ gradients.keys())}")
    apart = {name: float((gradients[name] - wanted[name]).norm()) for name in wanted}
    norms = {name: float(grad.norm()) for name, grad in wanted.items()}
    return {
        "tokens": len(batch.turns[0].prompt) + sum(len(turn.response_ids) for turn in batch.turns),
        "logprobs": max(float((a - b).abs().max()) for a, b in zip(own, logprobs, strict=True)),
        "loss": abs(result.sums["loss"] / loss - 1),
        "gradients": float(np.hypot.reduce([*apart.values()]) / np.hypot.reduce([*norms.values()])),
        "largest_gradient": max(apart[name] / norms[name] for name in apart if norms[name]),
    }


def _logprobs(family: Family, model: Any, turn: Turn, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Log-probs of a response, ``(T,)``."""
    ids, positions = (torch.from_numpy(each) for each in texts_of([turn], family)[0])
    count = len(turn.response_ids)
    model.model.rope_deltas = None
    logits = model(
        input_ids=ids[None],
        position_ids=positions[:, None],
        pixel_values_videos=pixels,
        video_grid_thw=grid,
        logits_to_keep=count,
        use_cache=False,
    ).logits[0]
    # Those tokens have no part in what is sampled.
    logits[:, list(family.visual_token_ids)] = float("-inf")
    targets = torch.from_numpy(turn.response_ids)
    found: torch.Tensor = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    return found
