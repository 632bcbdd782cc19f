"""Frames side by side, so that a model that looks at one picture sees where things were before."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from easyvideor1.video.effects.contract import EFFECTS, EffectFrames, FrameEffect, Pixels

Channel = Annotated[int, Field(ge=0, le=255)]


class CompositeOptions(BaseModel):
    """Columns of every new picture, left to right. SOLE-R1 has the first, the previous and the current frame."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Annotated[tuple[Literal["first", "previous", "current"], ...], Field(min_length=1)] = (
        "first",
        "previous",
        "current",
    )
    """Frames that stand side by side, each in its own size. Before the first frame there is the first frame."""
    gap: Annotated[int, Field(ge=0)] = 5
    """Pixels between two columns."""
    colour: tuple[Channel, Channel, Channel] = (0, 0, 0)
    """RGB colour of the gaps."""


def _size(height: int, width: int, options: CompositeOptions) -> tuple[int, int]:
    count = len(options.columns)
    return height, count * width + (count - 1) * options.gap


def _composite(frames: EffectFrames, options: CompositeOptions) -> Pixels:
    count, height, width, _ = frames.pixels.shape
    pixels = np.empty((count, *_size(height, width, options), 3), np.uint8)
    pixels[:] = options.colour
    indices, previous = frames.frame_indices, [0]
    for place in range(1, count):
        # The frame that fills up the last temporal step is the one before it again, and has its previous frame.
        previous.append(previous[-1] if indices[place] == indices[place - 1] else place - 1)
    chosen = {"first": [0] * count, "previous": previous, "current": list(range(count))}
    for number, column in enumerate(options.columns):
        left = number * (width + options.gap)
        pixels[:, :, left : left + width] = frames.pixels[chosen[column]]
    return pixels


composite = EFFECTS.register("composite")(FrameEffect(_composite, CompositeOptions, size=_size))
