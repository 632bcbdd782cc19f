"""Numbers painted on tracked objects, so that a model can name an object by its number."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from easyvideor1.types import EffectFile, MediaInfo
from easyvideor1.video.effects.composite import Channel
from easyvideor1.video.effects.contract import EFFECTS, Clip, EffectFrames, FrameEffect, Pixels
from easyvideor1.video.tracks import Box, read_tracks, video_fault

#: Rows of the digits 0 to 9, three pixels wide and five high, the leftmost pixel in the highest bit.
_DIGITS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71122", "75757", "75717")
_HEIGHT = 5


class OverlayIdsOptions(BaseModel):
    """How numbers look. Sizes are in pixels of the planned frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=_HEIGHT)] = 20
    """Height of the digits; the nearest multiple of 5 is taken."""
    colour: tuple[Channel, Channel, Channel] = (255, 0, 0)
    """RGB colour of numbers and boxes."""
    numbers: bool = True
    """Paint the number of each object at the centre of its box."""
    boxes: bool = False
    """Paint the outline of each box, one pixel wide."""


def glyphs(number: int, scale: int) -> NDArray[np.bool_]:
    """The digits of a number, ``(5 * scale, (4 * digits - 1) * scale)``, true where they are painted."""
    columns: list[NDArray[np.bool_]] = []
    for digit in str(number):
        rows = [[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in _DIGITS[int(digit)]]
        columns += [np.array(rows, bool), np.zeros((_HEIGHT, 1), bool)]
    return np.repeat(np.repeat(np.concatenate(columns[:-1], axis=1), scale, axis=0), scale, axis=1)


def _overlay(frames: EffectFrames, options: OverlayIdsOptions) -> Pixels:
    (file,) = frames.files
    tracks = read_tracks(file)
    pixels = frames.pixels.copy()
    down, across = pixels.shape[1] / tracks.height, pixels.shape[2] / tracks.width
    scale = max(round(options.size / _HEIGHT), 1)
    for frame, index in zip(pixels, frames.frame_indices, strict=True):
        shown = [(track.id, track.boxes[index]) for track in tracks.objects if index in track.boxes]
        placed = [(id_, (x1 * across, y1 * down, x2 * across, y2 * down)) for id_, (x1, y1, x2, y2) in shown]
        for _, box in placed if options.boxes else ():
            _outline(frame, box, options.colour)
        for id_, box in placed if options.numbers else ():  # over all boxes, so that every number can be read
            _write(frame, glyphs(id_, scale), box, options.colour)
    return pixels


def _outline(frame: Pixels, box: Box, colour: tuple[int, int, int]) -> None:
    height, width = frame.shape[:2]
    left, right = (int(np.clip(round(x), 0, width - 1)) for x in (box[0], box[2] - 1))
    top, bottom = (int(np.clip(round(y), 0, height - 1)) for y in (box[1], box[3] - 1))
    frame[[top, bottom], left : right + 1] = colour
    frame[top : bottom + 1, [left, right]] = colour


def _write(frame: Pixels, mask: NDArray[np.bool_], box: Box, colour: tuple[int, int, int]) -> None:
    """Paint a number at the centre of a box, moved as little as needed to lie inside the frame."""
    mask = mask[: frame.shape[0], : frame.shape[1]]
    top = round((box[1] + box[3] - mask.shape[0]) / 2)
    left = round((box[0] + box[2] - mask.shape[1]) / 2)
    top = int(np.clip(top, 0, frame.shape[0] - mask.shape[0]))
    left = int(np.clip(left, 0, frame.shape[1] - mask.shape[1]))
    frame[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = colour


def _fault(info: MediaInfo, clip: Clip, options: OverlayIdsOptions, files: tuple[EffectFile, ...]) -> str:
    if len(files) != 1:
        return "it needs one file of tracks; use the transform overlay_ids, or make_effect with tracks_file(path)"
    fault = video_fault(read_tracks(files[0]), info)
    return f"{fault}; track this video again" if fault else ""


overlay_ids = EFFECTS.register("overlay_ids")(FrameEffect(_overlay, OverlayIdsOptions, fault=_fault))
