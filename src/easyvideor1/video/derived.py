"""Frames that are made from an entry of the store: effects change all frames of a plan, a part shows some of them.

Nothing of this is decoded or stored a second time. Every plan has a digest of its own, so that whatever is kept by
digest (features, keys of engines, digests of prompts) tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from easyvideor1.types import DataError, Effect, Frames, MediaError, MediaPlan, MediaRef
from easyvideor1.video.effects import apply_effects
from easyvideor1.video.part import taken, whole_media


def stored_plan(plan: MediaPlan) -> MediaPlan:
    """The plan whose entry in the store serves a plan; the plan itself if nothing is made of its frames."""
    whole = plan if plan.part is None else plan.part.whole
    return whole.source or whole


def effects_of(plan: MediaPlan) -> tuple[Effect, ...]:
    """The effects of a plan, or of the whole that it is a part of."""
    return plan.effects if plan.part is None else plan.part.whole.effects


def derived_frames(load: Callable[[MediaRef, MediaPlan], Frames], ref: MediaRef, plan: MediaPlan) -> Frames | None:
    """The frames of a part or of a plan with effects, from those that ``load`` gives; ``None`` for any other plan.

    Raises:
        ConfigError: an effect does not keep its contract.
        MediaError: a file that an effect reads is gone or was changed (``effect``); or as ``load``.
    """
    if plan.part is not None:
        return taken(load(*whole_media(ref, plan)), plan)
    if plan.source is None:
        return None
    stored = load(ref, plan.source)
    try:
        return Frames(with_effects(stored, plan.effects, (plan.height, plan.width)), plan)
    except DataError as error:
        raise MediaError(f"{ref.path}: {error}", path=ref.path, reason="effect") from error


def with_effects(stored: Frames, effects: Sequence[Effect], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stored frames after effects, filled up to ``size`` (height, width); read-only.

    Raises:
        ConfigError: an effect does not keep its contract.
        DataError: a file that an effect reads is gone or was changed.
    """
    plan = stored.plan
    return apply_effects(stored.pixels, effects, plan.timestamps, plan.frame_indices, size)
