"""The loss of a value model."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.needs import requires
from easyvideor1.algorithms.objectives.batch import Metrics, TokenBatch, missing
from easyvideor1.config.stage_sections import CriticConfig


@requires("values")
def value_loss(batch: TokenBatch, options: CriticConfig) -> tuple[torch.Tensor, Metrics]:
    """``max((V - G)^2, (V_old + clip(V - V_old, -c, c) - G)^2) / 2`` per token, ``c = value_clip``.

    ``G`` are the returns of ``generalized_advantages``. Schulman et al. 2016 (GAE, sec. 5) for the regression; the
    clipping is that of the reference implementation of PPO (Engstrom et al. 2020, sec. 3). Without ``value_clip`` it is
    the plain squared error. An objective of the critic: it shares ``TokenBatch`` with those of the policy, and adds
    neither KL nor entropy.
    """
    if batch.values is None or batch.returns is None or batch.old_values is None:
        raise missing("values", "the loss of the critic")
    error = (batch.values - batch.returns).square()
    metrics = {"critic/value": batch.report(batch.values), "critic/return": batch.report(batch.returns)}
    clip = options.value_clip
    if clip is not None:
        near = batch.old_values + (batch.values - batch.old_values).clamp(-clip, clip)
        clipped = (near - batch.returns).square()
        metrics["critic/clip_fraction"] = batch.report((clipped > error).to(error.dtype))
        error = torch.maximum(error, clipped)
    loss = batch.plain_mean(error) / 2
    return loss, {**metrics, "critic/loss": loss.detach()}
