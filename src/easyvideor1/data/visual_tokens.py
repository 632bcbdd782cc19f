"""Compares visual tokens with visual features before any forward pass, and explains differences."""

from __future__ import annotations

import numpy as np

from easyvideor1.types import Frames, Geometry, MediaPlan, MediaRef, Prompt

#: The reason under which dropped samples are counted and recorded.
VISUAL_MISMATCH = "visual_mismatch"


def feature_count(frames: Frames, geometry: Geometry) -> int:
    """Number of features of frames: one for every ``merge_size ** 2`` patches of a temporal step."""
    count, height, width = frames.pixels.shape[:3]
    steps = -(-count // geometry.temporal_patch_size)
    return int(steps * (height // geometry.patch_size) * (width // geometry.patch_size) // geometry.merge_size**2)


def features_fault(ref: MediaRef, plan: MediaPlan, frames: Frames, geometry: Geometry) -> str | None:
    """Why the frames of a medium do not give one feature per visual token; ``None`` if they do.

    The message names file, plan, both counts and the likely cause. Frames of another plan are a fault even if the
    counts are equal.
    """
    planned = (len(plan.frame_indices), plan.height, plan.width, 3)
    features = feature_count(frames, geometry)
    if (frames.pixels.shape, frames.plan.digest, features) == (planned, plan.digest, plan.tokens):
        return None
    if frames.plan.digest != plan.digest:
        cause = f"they belong to the plan {frames.plan.digest[:12]}: the frame store is damaged or of another version"
    elif frames.pixels.shape != planned:
        cause = "they were cut or resized after planning: the frame store is damaged, or was filled by something else"
    else:
        cause = f"the plan was made for another model than one with patches of {geometry.patch_size} pixels"
    return (
        f"{ref.path}: the prompt has {plan.tokens} visual tokens by the plan {plan.digest[:12]} "
        f"({planned[0]} frames of {plan.height}x{plan.width}, grid {plan.grid}), but the frames of shape "
        f"{frames.pixels.shape} give {features} features; {cause}"
    )


def tokens_fault(prompt: Prompt) -> str | None:
    """Why the visual tokens of a prompt differ from its plans; ``None`` if they agree.

    Every medium must have the planned number of tokens, in ordered spans inside the prompt, each of one repeated token.
    """
    ids, spans = prompt.token_ids, prompt.spans
    starts = np.array([span.start for span in spans], dtype=np.int64)
    ends = starts + np.array([span.length for span in spans], dtype=np.int64)
    wrong = (starts < np.append(0, ends[:-1])) | (ends <= starts) | (ends > len(ids))
    changes = np.append(0, np.cumsum(ids[1:] != ids[:-1]))  # all spans at once: a long video has hundreds
    wrong |= changes[np.where(wrong, 0, starts)] != changes[np.where(wrong, 0, ends - 1)]
    for fault in np.flatnonzero(wrong):
        return f"tokens {starts[fault]} to {ends[fault]} of {len(prompt)} are not the span of one medium"
    found = [0] * len(prompt.plans)
    for span in spans:
        found[span.media] += span.length
    for number, (ref, plan, count) in enumerate(zip(prompt.media, prompt.plans, found, strict=True), 1):
        if count != plan.tokens:
            return f"medium {number} ({ref.path}) has {count} visual tokens, its plan {plan.digest[:12]} {plan.tokens}"
    return None
