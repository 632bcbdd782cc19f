"""Media of a row that several ranks compute together: each encodes a part of them, and reads the media that it is of.

Where the patches of a temporal step attend to each other alone, media are cut between any two steps, else they stay
whole. What the tower makes of them then goes to the ranks whose tokens it is for (``VisualInputs.exchange``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from easyvideor1.attention.sequence_parallel import RowExchange, SequenceRanks
from easyvideor1.families.family import Family, Visual
from easyvideor1.families.features import FeatureCache, load_visual
from easyvideor1.families.inputs import LoadFrames, load_checked
from easyvideor1.families.vision_tower import least_visual
from easyvideor1.types import Frames, MediaPlan, MediaRef, Prompt


def load_split_visual(
    prompts: Sequence[Prompt],
    family: Family,
    load: LoadFrames,
    ranks: SequenceRanks,
    wanted: Sequence[int],
    *,
    features: FeatureCache | None = None,
    device: torch.device | None = None,
) -> Visual | None:
    """``load_visual`` for one of several ranks: what gives it the features of its own visual tokens.

    With a cache of features each rank reads those that it needs, whole media at a time, and no rank waits for another.
    Where a family's features depend on more than their medium, every rank encodes all media of the row.

    Args:
        prompts: the media of the whole row.
        family: of the model.
        load: reads frames of a plan.
        ranks: all of which call this with the same media.
        wanted: visual tokens of the row before each rank's part of it, and all of them at the end.
        features: a cache of them.
        device: where pixels go.

    Raises:
        DataError: as ``load_checked``.
    """
    media = [item for prompt in prompts for item in zip(prompt.media, prompt.plans, strict=True)]
    if not media:
        return None
    first, last = wanted[ranks.index], wanted[ranks.index + 1]
    if features is not None:
        if first == last:
            return None
        ends = np.cumsum([plan.tokens for _, plan in media])
        touched = [n for n, (_, plan) in enumerate(media) if ends[n] - plan.tokens < last and ends[n] > first]
        if not touched:
            return None
        found = features.read([_as_prompt([media[n] for n in touched])], load)
        assert found is not None
        before = int(ends[touched[0]]) - media[touched[0]][1].tokens
        return found.take(torch.arange(first - before, last - before))
    if not family.feature_cache:
        whole = load_visual(prompts, family, load, device=device)
        assert whole is not None
        return whole.take(torch.arange(first, last))
    steps = _shared_steps([plan for _, plan in media], ranks.count, cut=family.independent_steps)
    held = [0, *np.cumsum([_tokens(media, steps, rank) for rank in range(ranks.count)]).tolist()]
    frames = [
        _steps(load_checked(ref, plan, load), *own, family.geometry.temporal_patch_size)
        for (ref, plan), bounds in zip(media, steps, strict=True)
        if (own := bounds[ranks.index])[0] < own[1]
    ]
    visual = family.visual_inputs(frames, device)
    if visual is None:
        visual = least_visual(family.geometry, device or torch.device("cpu"))
    return replace(visual, exchange=RowExchange.between(ranks, held, wanted))


#: Per medium and rank, the first and the last temporal step, plus one, that the rank encodes.
_Steps = list[list[tuple[int, int]]]


def _shared_steps(plans: Sequence[MediaPlan], ranks: int, *, cut: bool) -> _Steps:
    """Steps of media for each rank, in their order and of nearly as many patches; without ``cut`` all of a medium.

    A step, or a medium, goes to the rank in whose part of all patches its middle lies.
    """
    counts = [plan.grid[0] for plan in plans]
    patches = np.array([plan.grid[1] * plan.grid[2] for plan in plans])
    patches = np.repeat(patches, counts) if cut else patches * counts
    ends = np.cumsum(patches)
    rank_of = (ends - patches / 2) * ranks // ends[-1]
    found = []
    for of_medium in np.split(rank_of if cut else np.repeat(rank_of, counts), np.cumsum(counts)[:-1]):
        bounds = np.searchsorted(of_medium, np.arange(ranks + 1)).tolist()
        found.append(list(itertools.pairwise(bounds)))
    return found


def _tokens(media: Sequence[tuple[MediaRef, MediaPlan]], steps: _Steps, rank: int) -> int:
    """Visual tokens of what a rank encodes."""
    return sum(
        (bounds[rank][1] - bounds[rank][0]) * (plan.tokens // plan.grid[0])
        for (_, plan), bounds in zip(media, steps, strict=True)
    )


def _steps(frames: Frames, first: int, last: int, depth: int) -> Frames:
    """Temporal steps of a medium, of ``depth`` frames each; the last step may lack frames."""
    plan, own = frames.plan, slice(first * depth, last * depth)
    _, rows, columns = plan.grid
    part = replace(
        plan,
        frame_indices=plan.frame_indices[own],
        timestamps=plan.timestamps[own],
        grid=(last - first, rows, columns),
        tokens=plan.tokens // plan.grid[0] * (last - first),
    )
    return Frames(frames.pixels[own], part)


def _as_prompt(media: Sequence[tuple[MediaRef, MediaPlan]]) -> Prompt:
    refs, plans = zip(*media, strict=True)
    return Prompt(np.empty(0, dtype=np.int64), refs, plans)
