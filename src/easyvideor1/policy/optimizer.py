"""AdamW, its learning rate, and one clipped step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from easyvideor1.config import OptimizerConfig
from easyvideor1.policy.spread import clip_spread, is_spread, local


def learning_rate(settings: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of 1-based ``step``: linear warm-up, then the named schedule towards ``min_lr_ratio``."""
    warmup = settings.warmup_steps or int(settings.warmup_ratio * steps + 1e-9)
    if step <= warmup:
        return settings.lr * step / warmup
    done = (step - 1 - warmup) / max(steps - warmup, 1)  # no step is made at rate 0
    shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[settings.schedule]
    return settings.lr * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape)


#: Bytes of moments that are on the device at a time while their home is the host.
BUCKET_BYTES = 1 << 28
_MOMENTS = ("exp_avg", "exp_avg_sq")


class HostAdamW(torch.optim.AdamW):
    """AdamW whose moments are in the memory of the host between updates.

    Its step is AdamW's own, on one bucket of parameters after the other. So a device has the moments of one bucket at a
    time, and results are equal to the bit. Moments of a GPU are kept in pinned memory.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; there is no ``closure``."""
        groups = self.param_groups
        try:
            for group in groups:
                for bucket in _buckets(group["params"]):
                    self._move(bucket, to_host=False)
                    self.param_groups = [{**group, "params": bucket}]
                    super().step()
                    self._move(bucket, to_host=True)
        finally:
            self.param_groups = groups

    def _move(self, parameters: Iterable[torch.nn.Parameter], *, to_host: bool) -> None:
        for parameter in parameters:
            state = self.state.get(parameter, {})
            for name in _MOMENTS:
                if name in state:
                    state[name] = on_host(state[name]) if to_host else state[name].to(parameter.device)


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the memory of the host; of a GPU's in pinned memory, unless ranks hold it in parts."""
    if tensor.device.type == "cpu" or is_spread(tensor):
        return tensor.cpu()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)


def _buckets(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Parameters that have a gradient, so many at a time that their moments fill ``BUCKET_BYTES``, or one that is
    larger."""
    found: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            continue
        own = 2 * local(parameter).numel() * parameter.element_size()
        if found and size + own > BUCKET_BYTES:
            yield found
            found, size = [], 0
        found.append(parameter)
        size += own
    if found:
        yield found


def adamw(
    parameters: Iterable[torch.nn.Parameter], settings: OptimizerConfig, lr: float, *, offload: bool = False
) -> torch.optim.AdamW:
    """An optimiser of some parameters that lie on one device, with its moments there, or with ``offload`` on the host.

    Those that ranks hold in parts are a group of their own: one kernel cannot move both kinds.
    """
    trained = list(parameters)
    kinds = [[p for p in trained if not is_spread(p)], [p for p in trained if is_spread(p)]]
    optimizer = HostAdamW if offload else torch.optim.AdamW
    return optimizer(
        [{"params": kind} for kind in kinds if kind],
        lr=lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=all(parameter.device.type == "cuda" for parameter in trained),
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
