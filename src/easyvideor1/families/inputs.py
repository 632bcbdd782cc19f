"""From a medium's frames to the vision tower's patches, in one pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from easyvideor1.types import DataError, Frames, Geometry, MediaPlan, MediaRef, Prompt

#: Reads the frames of a medium, from the store or its file.
LoadFrames = Callable[[MediaRef, MediaPlan], Frames]

#: ``(mean, deviation)`` of the three channels, in [0, 1].
Normalisation = tuple[Sequence[float], Sequence[float]]

#: Values that are cut and normalised at a time on the CPU: 2 MiB of float32, so that every operation but the first
#: finds them in the cache, and memory is read once and written once.
BAND_VALUES = 1 << 19


def load_checked(ref: MediaRef, plan: MediaPlan, load: LoadFrames) -> Frames:
    """The frames of one medium.

    Raises:
        DataError: what was loaded is not what the plan says.
    """
    loaded = load(ref, plan)
    shape = (len(plan.frame_indices), plan.height, plan.width, 3)
    if loaded.plan.digest != plan.digest or loaded.pixels.shape != shape:
        raise DataError(
            f"frames of plan {plan.digest[:12]} came as {loaded.pixels.shape} of plan {loaded.plan.digest[:12]}, "
            f"but the prompt holds {plan.tokens} visual tokens for {shape}: the frame store is damaged or "
            "was written by another version; run `evr1 cache verify`"
        )
    return loaded


def load_media(prompt: Prompt, load: LoadFrames) -> list[Frames]:
    """The frames of all media of a prompt, in its order.

    Raises:
        DataError: as ``load_checked``.
    """
    return [load_checked(ref, plan, load) for ref, plan in zip(prompt.media, prompt.plans, strict=True)]


def patchify(
    frames: Frames,
    geometry: Geometry,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalised patches of one medium, in the order Qwen's vision towers read them.

    Pixels become ``(x - 255 * mean) / (255 * std)``. Patches are ordered by temporal step, then by merge block, then
    inside the block; each is flattened as (channel, time, row, column). A last temporal step that lacks frames repeats
    the last one. The pixels are read where they lie (the store's memory map) and no float copy is made but the result.

    Args:
        frames: uint8 ``(F, H, W, 3)`` with both sides multiples of ``geometry.factor``.
        geometry: patch sizes.
        mean: three channel means in [0, 1].
        std: three channel deviations.
        out: where the result goes, contiguous, of the returned shape; on another device, pixels travel as uint8 and
            are cut and normalised there.

    Returns:
        float32 ``(t * h * w, 3 * temporal_patch_size * patch_size ** 2)`` with ``(t, h, w)`` the plan's grid.
    """
    steps, rows, columns = frames.plan.grid
    merge, patch, depth = geometry.merge_size, geometry.patch_size, geometry.temporal_patch_size
    if out is None:
        out = torch.empty(patch_shape(frames, geometry))
    pixels = _shared(frames.pixels).to(out.device)
    # In this order and in float32, as the processors of transformers compute it: to the last bit.
    shift = (torch.tensor(mean) * 255).view(3, 1, 1, 1).to(out.device)
    scale = (torch.tensor(std) * 255).view(3, 1, 1, 1).to(out.device)
    # (step, block row, block column, row, column, channel, depth, y, x)
    blocks = out.view(steps, rows // merge, columns // merge, merge, merge, 3, depth, patch, patch)
    height, width = rows * patch, columns * patch
    whole = pixels.shape[0] // depth
    bands = _bands(whole, rows // merge, depth * merge * patch * width * 3, out.device)
    for first, last, top, bottom in bands:
        band = pixels[first * depth : last * depth, top * merge * patch : bottom * merge * patch]
        _cut(band.view(last - first, depth, -1, width, 3), blocks[first:last, top:bottom], scale, shift)
    if whole < steps:
        left = pixels[whole * depth :]
        repeated = pixels[-1:].expand((steps - whole) * depth - left.shape[0], -1, -1, -1)
        rest = torch.cat([left, repeated]).view(steps - whole, depth, height, width, 3)
        _cut(rest, blocks[whole:], scale, shift)
    return out


def patchify_all(
    frames: Sequence[Frames],
    geometry: Geometry,
    normalisation: Mapping[str, Normalisation],
    device: torch.device | None = None,
) -> torch.Tensor:
    """Patches of all media one after the other, each written straight to its place in one tensor on ``device``."""
    shapes = [patch_shape(medium, geometry) for medium in frames]
    out = torch.empty(sum(count for count, _ in shapes), shapes[0][1], device=device)
    pieces = torch.split(out, [count for count, _ in shapes])
    for medium, piece in zip(frames, pieces, strict=True):
        patchify(medium, geometry, *normalisation[medium.plan.kind], out=piece)
    return out


def patch_shape(frames: Frames, geometry: Geometry) -> tuple[int, int]:
    """Shape of ``patchify``'s result."""
    return math.prod(frames.plan.grid), 3 * geometry.temporal_patch_size * geometry.patch_size**2


def _bands(steps: int, rows: int, values: int, device: torch.device) -> list[tuple[int, int, int, int]]:
    """``(first step, end, first block row, end)`` of the pieces that are worked on; ``values`` are those of a row."""
    if device.type != "cpu":
        return [(0, steps, 0, rows)] if steps else []
    if rows * values <= BAND_VALUES:
        size = BAND_VALUES // (rows * values)
        return [(step, min(step + size, steps), 0, rows) for step in range(0, steps, size)]
    size = max(BAND_VALUES // values, 1)
    return [(step, step + 1, row, min(row + size, rows)) for step in range(steps) for row in range(0, rows, size)]


def _cut(band: torch.Tensor, blocks: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Fill ``blocks`` (a view of the result) from uint8 ``(step, depth, height, width, channel)``."""
    steps, rows, columns, merge, _, _, depth, patch, _ = blocks.shape
    # Separating the channels while values are one byte wide leaves rows of whole patches for the wider copy.
    planes = band.permute(0, 4, 1, 2, 3).contiguous()
    ordered = planes.view(steps, 3, depth, rows, merge, patch, columns, merge, patch)
    blocks.copy_(ordered.permute(0, 3, 6, 4, 7, 1, 2, 5, 8))
    blocks.sub_(shift).div_(scale)


class _Writable:
    """Says of a read-only array that it may be written, which torch insists on; we only read."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array
        self.__array_interface__: dict[str, Any] = {
            **array.__array_interface__,
            "data": (array.__array_interface__["data"][0], False),
        }


def _shared(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """The same memory as a tensor, which must not be written to; it keeps the array alive."""
    return torch.from_numpy(np.asarray(_Writable(np.ascontiguousarray(pixels))))
