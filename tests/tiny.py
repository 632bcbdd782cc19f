"""Plans, frames, prompts and turns made from numbers alone, for tests that need a model but no media file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from easyvideor1.types import FinishReason, Frames, MediaKind, MediaPlan, MediaRef, Prompt, Turn


def make_plan(
    kind: MediaKind = "video", *, frames: int = 4, height: int = 64, width: int = 64, fps: float = 2.0, seed: int = 0
) -> MediaPlan:
    """A plan of ``frames`` frames for patches of 16 pixels, 2 x 2 patches a token and 2 frames a step."""
    frames = 1 if kind == "image" else frames
    steps = (frames + 1) // 2
    name = f"{kind}/{frames}/{height}/{width}/{fps}/{seed}"
    return MediaPlan(
        kind=kind,
        fingerprint=name,
        frame_indices=tuple(range(frames)),
        timestamps=tuple(i / fps for i in range(frames)),
        height=height,
        width=width,
        grid=(steps, height // 16, width // 16),
        tokens=steps * (height // 32) * (width // 32),
        source_fps=fps,
        sample_fps=fps,
        digest=hashlib.sha256(name.encode()).hexdigest(),
    )


def load_frames(ref: MediaRef, plan: MediaPlan) -> Frames:
    """Noise that depends on the plan alone: it stands for the store."""
    rng = np.random.default_rng(int(plan.digest[:12], 16))
    shape = (len(plan.frame_indices), plan.height, plan.width, 3)
    return Frames(rng.integers(0, 256, shape, dtype=np.uint8), plan)


def make_prompt(family, text: str, *plans: MediaPlan, system: str = "") -> Prompt:
    """The prompt of ``text``, whose placeholders stand for ``plans``."""
    refs = [MediaRef(plan.kind, f"/media/{plan.digest[:8]}") for plan in plans]
    return family.render(text, refs, plans, system=system)


def update(
    policy, turns, advantages, *, objective="", step=1, temperature=1.0, load=load_frames, features=None, **fields
) -> dict[str, float]:
    """A whole update of a policy and its metrics; ``objective`` in place of the stage's, ``fields`` of the batch."""
    from easyvideor1.algorithms.objectives import OBJECTIVES
    from easyvideor1.policy.update_batch import UpdateBatch, update_metrics

    if objective:
        policy.objective = OBJECTIVES.resolve(objective)
    batch = UpdateBatch.of(turns, advantages, policy.options, temperature=temperature, **fields)
    found = policy.forward_backward(batch, load=load, features=features)
    return update_metrics(found.sums) | policy.optimizer_step(step)


def make_turn(
    prompt: Prompt,
    ids: Sequence[int],
    *,
    mask: Sequence[bool] | None = None,
    logprobs: Sequence[float] | None = None,
    finish: FinishReason = "stop",
) -> Turn:
    """A turn of these tokens, all trained on unless ``mask`` says otherwise."""
    return Turn(
        prompt=prompt,
        response_ids=np.asarray(ids, dtype=np.int64),
        response_mask=np.ones(len(ids), dtype=bool) if mask is None else np.asarray(mask, dtype=bool),
        logprobs=None if logprobs is None else np.asarray(logprobs, dtype=np.float32),
        finish=finish,
        text="",
    )


def random_turns(prompt: Prompt, lengths: Sequence[int], seed: int, *, first: int = 7, last: int = 290) -> list[Turn]:
    """Turns of random ordinary tokens, one per length."""
    rng = np.random.default_rng(seed)
    return [make_turn(prompt, rng.integers(first, last, length)) for length in lengths]
