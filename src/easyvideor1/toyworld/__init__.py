"""Seeded worlds of moving shapes with ground truth: real media files and rows for every task type."""

from easyvideor1.toyworld.encode import DEFAULT_CODECS, Encoding, write_image, write_video
from easyvideor1.toyworld.kinds import KINDS
from easyvideor1.toyworld.questions import Kind, Question
from easyvideor1.toyworld.scene import (
    BOX_SCALE,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    Body,
    Label,
    Scene,
    frame_times,
    paint,
    paint_all,
)
from easyvideor1.toyworld.spec import SPLITS, WorldSpec
from easyvideor1.toyworld.world import Manifest, SplitInfo, write_world

#: Names of all question kinds, for ``WorldSpec.kinds``.
KIND_NAMES: tuple[str, ...] = tuple(KINDS.names())

__all__ = [
    "BOX_SCALE",
    "COLOURS",
    "DEFAULT_CODECS",
    "DIRECTIONS",
    "KINDS",
    "KIND_NAMES",
    "SHAPES",
    "SPLITS",
    "Body",
    "Encoding",
    "Kind",
    "Label",
    "Manifest",
    "Question",
    "Scene",
    "SplitInfo",
    "WorldSpec",
    "frame_times",
    "paint",
    "paint_all",
    "write_image",
    "write_video",
    "write_world",
]
