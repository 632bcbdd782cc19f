"""Frames that are made from an entry of the store: some of its frames, a still of a clip, frames with effects.

Nothing of this is decoded or stored a second time. ``MediaPlan.source`` is the plan of the entry; the plan itself has
its own digest, so that whatever is kept by digest (features, keys of engines, digests of prompts) tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import Effect, Frames, Geometry, MediaPlan
from easyvideor1.video.effects import apply_effects
from easyvideor1.video.plan import digest


def stored_plan(plan: MediaPlan) -> MediaPlan:
    """The plan of the entry that a plan's frames are made from: its source, or itself."""
    return plan.source or plan


def still_plan(clip: MediaPlan, which: Literal["first", "last"], geometry: Geometry) -> MediaPlan:
    """The plan of an image that is the first or the last frame of a planned clip, in the size that it has there.

    Args:
        clip: plan of a video, without effects.
        which: the frame.
        geometry: patch sizes.
    """
    place = 0 if which == "first" else -1
    indices = (clip.frame_indices[place],)
    grid = (1, *clip.grid[1:])
    return replace(
        clip,
        kind="image",
        frame_indices=indices,
        timestamps=(clip.timestamps[place],),
        grid=grid,
        tokens=grid[0] * grid[1] * grid[2] // geometry.merge_size**2,
        sample_fps=0.0,
        digest=digest("image", clip.fingerprint, indices, clip.height, clip.width),
        source=stored_plan(clip),
    )


def derive_frames(stored: Frames, plan: MediaPlan) -> Frames:
    """The frames of a plan, from the frames of its source.

    Raises:
        ConfigError: an effect does not keep its contract.
        DataError: a file that an effect reads is gone or was changed.
        ValueError: the stored frames lack one of the plan's.
    """
    size = (plan.height, plan.width)
    return Frames(derive_pixels(stored, plan.frame_indices, plan.timestamps, plan.effects, size), plan)


def derive_pixels(
    stored: Frames,
    frame_indices: tuple[int, ...],
    timestamps: tuple[float, ...],
    effects: Sequence[Effect],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """``derive_frames`` for whoever has the fields of a plan alone; pixels are read-only."""
    own = stored.plan.frame_indices
    places = range(len(own)) if own == frame_indices else [own.index(index) for index in frame_indices]
    if list(places) == list(range(places[0], places[-1] + 1)):
        pixels = stored.pixels[places[0] : places[-1] + 1]  # as it lies in the file, without a copy
    else:
        pixels = stored.pixels[np.array(places)]
    return apply_effects(pixels, effects, timestamps, frame_indices, size)
