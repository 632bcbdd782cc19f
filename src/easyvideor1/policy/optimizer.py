"""AdamW and its learning rate."""

from __future__ import annotations

import math

from easyvideor1.config import OptimizerConfig


def learning_rate(settings: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of 1-based ``step``: linear warm-up, then the named schedule towards ``min_lr_ratio``."""
    warmup = settings.warmup_steps or int(settings.warmup_ratio * steps + 1e-9)
    if step <= warmup:
        return settings.lr * step / warmup
    done = (step - 1 - warmup) / max(steps - warmup, 1)  # no step is made at rate 0
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape)
