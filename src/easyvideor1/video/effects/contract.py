"""What a frame effect is, and how a plan carries it.

An effect is a pure function of frames, options and files. A sample fixes all three when it is made, with the seeds of
whatever looks random, so that engines in other processes, the trainer, the cache of features and a report all make the
same pictures from one entry of the store.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from easyvideor1.registry import Registry
from easyvideor1.types import ConfigError, DataError, Effect, EffectFile, Geometry, MediaError, MediaInfo, MediaPlan

Pixels = NDArray[np.uint8]
#: Start and end of what is shown of a video, in seconds.
Clip = tuple[float, float]

#: Changes when a plan with the same effects would give other pixels for a reason that no effect knows of.
EFFECTS_VERSION = "effects/1"


class NoOptions(BaseModel):
    """The options of an effect that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class EffectFrames:
    """What an effect changes.

    ``pixels`` is read-only uint8 ``(F, H, W, 3)``, RGB. ``timestamps`` are seconds in the source and ``frame_indices``
    the indices of the frames in the file, one of each per frame; the last frame may be there twice. ``files`` are those
    of the effect.
    """

    pixels: Pixels
    timestamps: tuple[float, ...]
    frame_indices: tuple[int, ...]
    files: tuple[EffectFile, ...]


def _same_size(height: int, width: int, options: Any) -> tuple[int, int]:
    return height, width


def _any_video(info: MediaInfo, clip: Clip, options: Any, files: tuple[EffectFile, ...]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class FrameEffect:
    """An effect. One of your own is an instance of this, named as ``module:attr``.

    Attributes:
        paint: ``(frames, options) -> pixels``: new uint8 pixels ``(F, H', W', 3)``, as many frames as it was given, of
            the size that ``size`` says. A function of its arguments alone.
        options: Pydantic model of the options. Seeds are options.
        version: To be raised when the same options give other pixels: features in the cache are then made again.
        size: ``(height, width, options) -> (height, width)`` in pixels; sizes stay by default. Planning rounds up to
            what the model can cut, and fills what is added at the right and below with black.
        fault: ``(info, clip, options, files) -> str``: why the effect cannot be used on a video; empty if it can.
            ``clip`` is the part of the video that is shown, ``(start, end)`` in seconds. Asked when the video is
            planned, before anything is decoded.
    """

    paint: Callable[[EffectFrames, Any], Pixels]
    options: type[BaseModel] = NoOptions
    version: int = 1
    size: Callable[[int, int, Any], tuple[int, int]] = _same_size
    fault: Callable[[MediaInfo, Clip, Any, tuple[EffectFile, ...]], str] = _any_video


EFFECTS: Registry[FrameEffect] = Registry("frame effect")


def make_effect(name: str, files: Sequence[EffectFile] = (), **options: Any) -> Effect:
    """An effect as samples and plans carry it, with its options checked.

    Args:
        name: registered, or ``module:attr``.
        files: what it reads.
        options: of the effect; what is left out has its default, and is written out.

    Raises:
        ConfigError: there is no such effect, or an option is unknown or wrong.
    """
    found = find_effect(name)
    try:
        chosen = found.options.model_validate(options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"effect {name}: {key or 'options'}: {problem['msg']}") from error
    text = json.dumps(chosen.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return Effect(name, text, tuple(files))


def find_effect(name: str) -> FrameEffect:
    """The effect of a name.

    Raises:
        ConfigError: there is none.
    """
    found = EFFECTS.resolve(name)
    if not isinstance(found, FrameEffect):
        raise ConfigError(f"frame effect {name!r} is {type(found).__name__}, not an instance of FrameEffect")
    return found


@functools.lru_cache(maxsize=4096)
def _opened(effect: Effect) -> tuple[FrameEffect, Any]:
    found = find_effect(effect.name)
    return found, found.options.model_validate_json(effect.options)


def plan_effects(
    plan: MediaPlan, effects: Sequence[Effect], geometry: Geometry, info: MediaInfo, clip: Clip | None = None
) -> MediaPlan:
    """The plan of what effects make of a plan's frames; the plan itself if there are none.

    Sizes, grid and tokens are those of the pictures that the effects make. ``clip`` is what the plan shows of the
    video, which its frames need not begin or end with; the whole video by default.

    Raises:
        ConfigError: there is no such effect, or its options are wrong.
        MediaError: an effect cannot be used on the medium, or a file that it reads cannot be used (``effect``).
    """
    if not effects:
        return plan
    if plan.part is not None:
        raise ValueError("effects change a whole clip: take the part of the plan with effects")
    height, width = plan.height, plan.width
    for effect in effects:
        found, options = _opened(effect)
        try:
            fault = found.fault(info, clip or (0.0, info.duration), options, effect.files)
        except DataError as error:  # of a file that it reads
            raise MediaError(f"{info.path}: {effect.name}: {error}", path=info.path, reason="effect") from error
        if fault:
            named = f" ({', '.join(file.path for file in effect.files)})" if effect.files else ""
            raise MediaError(f"{info.path}: {effect.name}{named}: {fault}", path=info.path, reason="effect")
        height, width = found.size(height, width, options)
    factor = geometry.factor
    height, width = -(-height // factor) * factor, -(-width // factor) * factor
    grid = (plan.grid[0], height // geometry.patch_size, width // geometry.patch_size)
    every = (*plan.effects, *effects)
    return replace(
        plan,
        height=height,
        width=width,
        grid=grid,
        tokens=grid[0] * grid[1] * grid[2] // geometry.merge_size**2,
        effects=every,
        source=plan.source or plan,
        digest=_digest(plan.digest, effects, height, width),
    )


def _digest(before: str, effects: Sequence[Effect], height: int, width: int) -> str:
    """SHA-256, in hex, of all that determines the pixels."""
    parts = [
        [effect.name, _opened(effect)[0].version, effect.options, [file.sha256 for file in effect.files]]
        for effect in effects
    ]
    text = f"{EFFECTS_VERSION}|{before}|{height}x{width}|{json.dumps(parts)}"
    return hashlib.sha256(text.encode()).hexdigest()


def apply_effects(
    pixels: Pixels,
    effects: Sequence[Effect],
    timestamps: tuple[float, ...],
    frame_indices: tuple[int, ...],
    size: tuple[int, int],
) -> Pixels:
    """Pixels after all effects, read-only, filled up with black to ``size`` (height, width).

    Raises:
        ConfigError: an effect does not keep its contract.
    """
    for effect in effects:
        found, options = _opened(effect)
        pixels.flags.writeable = False
        painted = found.paint(EffectFrames(pixels, timestamps, frame_indices, effect.files), options)
        wanted = (len(frame_indices), *found.size(pixels.shape[1], pixels.shape[2], options), 3)
        if painted.shape != wanted or painted.dtype != np.uint8:
            raise ConfigError(
                f"effect {effect.name} made {painted.dtype} pixels of shape {painted.shape}, not uint8 of {wanted}: "
                "correct its paint or its size"
            )
        pixels = painted
    height, width = size
    if pixels.shape[1:3] != size:
        filled = np.zeros((len(pixels), height, width, 3), np.uint8)
        filled[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        pixels = filled
    pixels.flags.writeable = False
    return pixels
