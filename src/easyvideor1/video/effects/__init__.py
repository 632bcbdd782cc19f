"""Frame effects: named changes of pixels that a plan carries. Importing this package registers the built-in ones."""

from easyvideor1.video.effects.composite import composite
from easyvideor1.video.effects.contract import (
    EFFECTS,
    EffectFrames,
    FrameEffect,
    Pixels,
    apply_effects,
    find_effect,
    make_effect,
    plan_effects,
)
from easyvideor1.video.effects.degrade import hidden_frames, mask_frames, noise
from easyvideor1.video.effects.overlay import overlay_ids

__all__ = [
    "EFFECTS",
    "EffectFrames",
    "FrameEffect",
    "Pixels",
    "apply_effects",
    "composite",
    "find_effect",
    "hidden_frames",
    "make_effect",
    "mask_frames",
    "noise",
    "overlay_ids",
    "plan_effects",
]
