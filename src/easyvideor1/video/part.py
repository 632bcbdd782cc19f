"""Parts of a plan: a window of a video, or single frames of it, taken from the entry that the store has of the whole.

A strategy of several turns shows a video piece by piece. A part has true timestamps, exact token counts and a digest of
its own, which is that of the same frames planned by themselves. Its pixels are a view of the whole entry's. Of a plan
with effects, a part shows what the effects make of the whole.

A family cuts a video into temporal steps of ``temporal_patch_size`` frames. Windows are cut at whole steps wherever
that is asked for (``window``); other parts are filled up by a repeated last frame, as any plan of an odd number is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from easyvideor1.types import DataError, Frames, Geometry, MediaKind, MediaPlan, MediaRef, PlanPart
from easyvideor1.video.plan import digest


def part(plan: MediaPlan, places: Sequence[int], geometry: Geometry, kind: MediaKind = "video") -> MediaPlan:
    """The plan of some frames of a video.

    Args:
        plan: of a video; a part of another plan itself, or not.
        places: of the frames among those of ``plan``, in ascending order.
        geometry: of the model that ``plan`` was made for.
        kind: ``image`` makes a picture of one frame.

    Raises:
        DataError: there are no frames, or more than one for an image, or they are not frames of a video in order.
    """
    known = len(plan.frame_indices)
    if not places or plan.kind != "video":
        raise DataError(f"a part of a plan shows frames of a video, not {len(places)} frames of a plan of {plan.kind}")
    if list(places) != sorted(places) or places[0] < 0 or places[-1] >= known:
        raise DataError(f"the frames {tuple(places)} are not among the {known} of their plan, in order")
    if kind == "image" and len(places) > 1:
        raise DataError(f"an image has one frame, not {len(places)}")
    if kind == "video":
        places = [*places, *[places[-1]] * (-len(places) % geometry.temporal_patch_size)]
    indices = tuple(plan.frame_indices[place] for place in places)
    steps = 1 if kind == "image" else len(places) // geometry.temporal_patch_size
    whole = plan if plan.part is None else plan.part.whole
    of_whole = tuple(places) if plan.part is None else tuple(plan.part.places[place] for place in places)
    return replace(
        plan,
        kind=kind,
        frame_indices=indices,
        timestamps=tuple(plan.timestamps[place] for place in places),
        grid=(steps, *plan.grid[1:]),
        tokens=plan.tokens // plan.grid[0] * steps,
        sample_fps=0.0 if kind == "image" else _rate(plan, places),
        digest=_digest(whole, kind, indices, of_whole),
        part=PlanPart(whole, of_whole),
        effects=(),
        source=None,
    )


def _digest(whole: MediaPlan, kind: MediaKind, indices: tuple[int, ...], places: tuple[int, ...]) -> str:
    if not whole.effects:
        return digest(kind, whole.fingerprint, indices, whole.height, whole.width)
    # Effects know the place of a frame among all frames.
    return hashlib.sha256(f"{whole.digest}|{kind}|{places}".encode()).hexdigest()


def window(plan: MediaPlan, first: int, last: int, geometry: Geometry) -> MediaPlan:
    """The temporal steps ``[first, last)`` of a video.

    Raises:
        DataError: there are no such steps.
    """
    if not 0 <= first < last <= plan.grid[0]:
        raise DataError(f"a window of the steps {first} to {last} does not lie in a video of {plan.grid[0]} steps")
    depth = geometry.temporal_patch_size
    return part(plan, range(first * depth, last * depth), geometry)


def distinct_places(plan: MediaPlan) -> list[int]:
    """The place where each frame of a video first stands, in order; a plan may repeat frames, at its end or between."""
    first: dict[int, int] = {}
    for place, index in enumerate(plan.frame_indices):
        first.setdefault(index, place)
    return list(first.values())


def whole_steps(plan: MediaPlan, geometry: Geometry) -> tuple[int, ...] | None:
    """The temporal steps of the whole that a part consists of; ``None`` if it is cut otherwise, or no part."""
    if plan.part is None or plan.kind != "video":
        return None
    depth = geometry.temporal_patch_size
    steps = [place // depth for place in plan.part.places[::depth]]
    return tuple(steps) if plan.part.places == tuple(s * depth + k for s in steps for k in range(depth)) else None


def whole_media(ref: MediaRef, plan: MediaPlan) -> tuple[MediaRef, MediaPlan]:
    """The medium and the plan whose entry in the store serves a plan; its own if it is no part."""
    return (ref, plan) if plan.part is None else (replace(ref, kind="video"), plan.part.whole)


def taken(frames: Frames, plan: MediaPlan) -> Frames:
    """The frames of a part from those of its whole; adjacent ones are a view."""
    assert plan.part is not None
    places = plan.part.places
    adjacent = places == tuple(range(places[0], places[0] + len(places)))
    return Frames(frames.pixels[places[0] : places[-1] + 1] if adjacent else frames.pixels[list(places)], plan)


def _rate(plan: MediaPlan, places: Sequence[int]) -> float:
    """Frames per second of a part: the whole's where every frame is shown, else of what is left out in the mean."""
    shown = len(set(places))
    return plan.sample_fps if shown == 1 else plan.sample_fps * (shown - 1) / (places[-1] - places[0])
