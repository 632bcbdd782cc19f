"""AdamW, its learning rate, and one clipped step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from easyvideor1.config import OptimizerConfig
from easyvideor1.policy.spread import clip_spread, is_spread


def learning_rate(settings: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of 1-based ``step``: linear warm-up, then the named schedule towards ``min_lr_ratio``."""
    warmup = settings.warmup_steps or int(settings.warmup_ratio * steps + 1e-9)
    if step <= warmup:
        return settings.lr * step / warmup
    done = (step - 1 - warmup) / max(steps - warmup, 1)  # no step is made at rate 0
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape)


def adamw(parameters: Iterable[torch.nn.Parameter], settings: OptimizerConfig, lr: float) -> torch.optim.AdamW:
    """An optimiser of some parameters that lie on one device.

    Those that ranks hold in parts are a group of their own: one kernel cannot move both kinds.
    """
    trained = list(parameters)
    kinds = [[p for p in trained if not is_spread(p)], [p for p in trained if is_spread(p)]]
    return torch.optim.AdamW(
        [{"params": kind} for kind in kinds if kind],
        lr=lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=trained[0].device.type == "cuda",
    )


def clip_gradients(parameters: Iterable[torch.nn.Parameter], settings: OptimizerConfig) -> float:
    """Scale gradients down to ``max_grad_norm``, and return their norm before that; 0 without any gradient."""
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(is_spread(gradient) for gradient in gradients):
        return clip_spread(gradients, settings.max_grad_norm)
    return float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))


def step_at_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Move the weights along their gradients, and release these: the memory is the next rollout's."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
