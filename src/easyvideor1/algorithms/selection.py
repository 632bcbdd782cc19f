"""Which responses and groups are trained on, and the penalty for length."""

from __future__ import annotations

import torch

from easyvideor1.algorithms.sequences import group_mean


def groups_within(
    values_N: torch.Tensor, group_N: torch.Tensor, low: float | None = None, high: float | None = None
) -> torch.Tensor:
    """Which sequences are of a group whose mean lies strictly between the bounds, bool ``(N,)``; ``None``: no bound.

    ``low < mean(values) < high``. The online filter of accuracy (Cui et al. 2025, PRIME): what is always right or
    always wrong teaches little.
    """
    mean_N, _ = group_mean(values_N, group_N)
    keep = torch.ones_like(mean_N, dtype=torch.bool)
    if low is not None:
        keep &= mean_N > low
    if high is not None:
        keep &= mean_N < high
    return keep


def soft_overlong_penalty(lengths_N: torch.Tensor, max_length: int, cache: int) -> torch.Tensor:
    """Added to the reward, ``(N,)``, in [-1, 0] (Yu et al. 2025, DAPO, eq. 13).

    0 up to ``max_length - cache`` tokens, then ``(max_length - cache - length) / cache`` down to -1 at ``max_length``,
    and -1 beyond. With ``cache`` 0 there is no penalty at all.

    Raises:
        ValueError: ``cache`` is negative or larger than ``max_length``.
    """
    if not 0 <= cache <= max_length:
        raise ValueError(f"overlong.cache ({cache}) must lie between 0 and the length limit ({max_length})")
    lengths = lengths_N.to(torch.get_default_dtype() if not lengths_N.is_floating_point() else lengths_N.dtype)
    if cache == 0:
        return torch.zeros_like(lengths)
    return ((max_length - cache - lengths) / cache).clamp(-1.0, 0.0)


def needs_more(usable: int, wanted: int, rounds: int, most: int) -> bool:
    """Whether a step generates again after ``rounds`` of at most ``most`` rounds that left ``usable`` groups.

    The dynamic sampling of DAPO (Yu et al. 2025, sec. 3.2), with a limit.
    """
    return usable < wanted and rounds < most
