"""From uint8 frames to the vision tower's patches, in one fused pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from easyvideor1.types import Frames, Geometry


def patchify(frames: Frames, geometry: Geometry, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalised patches of one medium, in the order Qwen's vision towers read them.

    Pixels become ``(x / 255 - mean) / std``. Patches are ordered by temporal step, then by merge block, then inside
    the block; each is flattened as (channel, time, row, column). A last temporal step that lacks frames repeats the
    last one.

    Args:
        frames: uint8 ``(F, H, W, 3)`` with both sides multiples of ``geometry.factor``.
        geometry: patch sizes.
        mean: three channel means in [0, 1].
        std: three channel deviations.

    Returns:
        float32 ``(t * h * w, 3 * temporal_patch_size * patch_size ** 2)`` with ``(t, h, w)`` the plan's grid.
    """
    pixels = torch.tensor(frames.pixels)  # copies: the store's memory map is read-only
    steps, rows, columns = frames.plan.grid
    missing = steps * geometry.temporal_patch_size - pixels.shape[0]
    if missing > 0:
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    merge, patch, depth = geometry.merge_size, geometry.patch_size, geometry.temporal_patch_size
    blocks = pixels.reshape(steps, depth, rows // merge, merge, patch, columns // merge, merge, patch, 3)
    # (step, depth, block row, row, y, block column, column, x, channel)
    ordered = blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).to(torch.float32)
    shape = (1, 1, 1, 1, 1, 3, 1, 1, 1)
    scale = (1 / (255 * torch.tensor(std))).view(shape)
    shift = (torch.tensor(mean) / torch.tensor(std)).view(shape)
    return (ordered * scale - shift).reshape(steps * rows * columns, -1)
