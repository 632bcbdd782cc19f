"""Effects that take information away: hidden frames, and noise."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from easyvideor1.types import EffectFile, MediaInfo
from easyvideor1.video.effects.contract import EFFECTS, Clip, EffectFrames, FrameEffect, Pixels

Span = tuple[float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]


class MaskFramesOptions(BaseModel):
    """Which frames are hidden, and behind what. Exactly one of ``frames``, ``inside`` and ``outside`` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: tuple[int, ...] | None = None
    """Places of frames in the plan, from 0; negative ones count from the end."""
    inside: tuple[Span, ...] | None = None
    """Spans ``[start, end]`` in seconds of the source whose frames may be hidden."""
    outside: tuple[Span, ...] | None = None
    """Spans that stay visible: all other frames may be hidden. A span keeps the frames whose times lie in it, and the
    one that is on screen when it begins, so that none is hidden whole."""
    share: Share = 1.0
    """Share of the frames that may be hidden which are hidden. A smaller share hides some of what a larger one hides,
    under one seed."""
    seed: Seed = 0
    """Which frames a share is."""
    fill: Literal["black", "mean"] = "black"
    """What stands in their place: black, or the mean colour of all frames."""

    @model_validator(mode="after")
    def _one_choice(self) -> MaskFramesOptions:
        given = [name for name in ("frames", "inside", "outside") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of frames, inside and outside, not {given or 'none'}")
        for start, end in (*(self.inside or ()), *(self.outside or ())):
            if not 0 <= start <= end:
                raise ValueError(f"the span [{start:g}, {end:g}] must begin at 0 or later and not end before it begins")
        return self


def hidden_frames(
    options: MaskFramesOptions, timestamps: tuple[float, ...], frame_indices: tuple[int, ...]
) -> list[int]:
    """Places of the frames that are hidden, ascending. A frame that is there twice is hidden at both places."""
    places = _candidates(options, timestamps)
    files = sorted({frame_indices[place] for place in places})
    count = round(options.share * len(files))
    order = np.random.default_rng(options.seed).permutation(len(files))
    chosen = {files[number] for number in order[:count]}
    return [place for place in places if frame_indices[place] in chosen]


def _candidates(options: MaskFramesOptions, timestamps: tuple[float, ...]) -> list[int]:
    count = len(timestamps)
    if options.frames is not None:
        return sorted({place % count for place in options.frames if -count <= place < count})
    spans = options.inside if options.inside is not None else options.outside
    assert spans is not None
    shown = {place for span in spans for place in _frames_of(span, timestamps)}
    if options.inside is None and not shown:
        shown = {0}  # no frame was on screen yet: the first one is nearest
    return [place for place in range(count) if (place in shown) == (options.inside is not None)]


def _frames_of(span: Span, timestamps: tuple[float, ...]) -> list[int]:
    """Places of the frames in a span, with the frame on screen when it begins."""
    start, end = span
    on_screen = max((time for time in timestamps if time <= start), default=None)
    return [place for place, time in enumerate(timestamps) if start <= time <= end or time == on_screen]


def _mask(frames: EffectFrames, options: MaskFramesOptions) -> Pixels:
    pixels = frames.pixels.copy()
    hidden = hidden_frames(options, frames.timestamps, frames.frame_indices)
    colour = (0, 0, 0) if options.fill == "black" else np.rint(frames.pixels.mean(axis=(0, 1, 2)))
    pixels[hidden] = np.asarray(colour, np.uint8)
    return pixels


def _span_fault(info: MediaInfo, clip: Clip, options: MaskFramesOptions, files: tuple[EffectFile, ...]) -> str:
    first, last = clip
    for start, end in (*(options.inside or ()), *(options.outside or ())):
        if end < first or start > last:
            return (
                f"the span [{start:g}, {end:g}] s lies outside of the clip, which is [{first:g}, {last:g}] s; correct "
                "the row"
            )
    return ""


mask_frames = EFFECTS.register("mask_frames")(FrameEffect(_mask, MaskFramesOptions, fault=_span_fault))


class NoiseOptions(BaseModel):
    """Gaussian noise, another on every frame."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: Share = 0.1
    """Standard deviation as a share of the range of a channel (255)."""
    seed: Seed = 0
    """Which noise."""


def _noise(frames: EffectFrames, options: NoiseOptions) -> Pixels:
    rng = np.random.default_rng(options.seed)
    pixels = np.empty_like(frames.pixels)
    for place, frame in enumerate(frames.pixels):  # one frame at a time: floats take four times the memory
        noise = rng.standard_normal(frame.shape, dtype=np.float32) * np.float32(255 * options.strength)
        pixels[place] = np.clip(np.rint(frame + noise), 0, 255)
    return pixels


noise = EFFECTS.register("noise")(FrameEffect(_noise, NoiseOptions))
