"""Tubes scored frame by frame: the references of HC-STVG (arXiv 2011.05049), and its vIoU and tIoU.

Frames are counted from 1; frame k is shown at ``(k - 1) / fps`` seconds. A model answers with a span in seconds and
boxes at some seconds. Its frames are those from the start to the end of the span, both counted; between two of its
boxes a box moves evenly, and before the first and behind the last it stays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from easyvideor1.benchmarks.benchmark import ScoreFunction
from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards.readers.geometry import Box, Span, box_iou
from easyvideor1.rewards.readers.tubes import Tube
from easyvideor1.rewards.references import read_reference
from easyvideor1.rewards.rules import RULES
from easyvideor1.rewards.score import counted_answer, on_scale_of_reference, read_settings, score_response, scored
from easyvideor1.rewards.types import Verdict
from easyvideor1.types import Completion, Sample, Score

_TASK = "spatial_temporal_grounding"


@dataclass(frozen=True, slots=True)
class FrameTube:
    """A box in each of the frames from ``first`` on; ``fps`` are frames per second."""

    first: int
    boxes: tuple[Box | None, ...]
    fps: float

    @property
    def last(self) -> int:
        """The last frame."""
        return self.first + len(self.boxes) - 1


def framed_tube(
    first: Any, boxes: Any, fps: float, size: tuple[Any, Any], seconds: float
) -> tuple[str, dict[str, Any]]:
    """The reference of a tube in seconds, and the columns that it is scored by in frames.

    Args:
        first: number of the first frame with a box, from 1.
        boxes: ``[x, y, width, height]`` in pixels for it and each frame behind it.
        fps: frames per second.
        size: width and height of the video in pixels.
        seconds: length of the video.

    Raises:
        QuestionError: a box has no area, or the tube does not lie in the video.
    """
    found = [_corners(box) for box in boxes] if isinstance(boxes, Sequence) else []
    if not isinstance(first, int) or first < 1 or len(found) < 2 or not fps > 0:
        raise QuestionError(f"its {len(found)} boxes from frame {first!r} at {fps:g} frames per second are no tube")
    start, end = (first - 1) / fps, (first + len(found) - 2) / fps
    if start >= seconds:
        raise QuestionError(f"its tube starts at {start:g} s, in a video of {seconds:g} s")
    whole = range(math.ceil(start), math.floor(end) + 1)
    shown = {str(second): found[min(round(second * fps) + 1 - first, len(found) - 1)] for second in whole}
    measures = {"coordinates": "pixel", "video_size": list(size), "duration": seconds}
    reference = json.dumps({"time": [start, end], "boxes": shown})
    return reference, {**measures, "frames": {"first": first, "fps": fps, "boxes": found}}


def _corners(box: Any) -> list[float]:
    if not isinstance(box, Sequence) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        raise QuestionError(f"its box {box!r} is not x, y, width and height")
    x, y, width, height = (float(side) for side in box)
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise QuestionError(f"its box {box!r} has no area")
    return [x, y, x + width, y + height]


def in_frames(tube: Tube, span: Span, fps: float) -> FrameTube:
    """The tube of an answer, frame by frame; without boxes its frames have none."""
    first, last = (math.floor(round(second * fps, 6)) + 1 for second in span)
    known = sorted((second, box) for second, box in tube.boxes.items() if box is not None)
    if not known:
        return FrameTube(first, (None,) * (last - first + 1), fps)
    seconds = [second for second, _ in known]
    times = (np.arange(first, last + 1) - 1) / fps
    sides = [np.interp(times, seconds, [box[side] for _, box in known]) for side in range(4)]
    x1, y1, x2, y2 = (side.tolist() for side in sides)
    return FrameTube(first, tuple(zip(x1, y1, x2, y2, strict=True)), fps)


def frame_ious(predicted: FrameTube, gold: FrameTube) -> tuple[float, float]:
    """vIoU and tIoU: over the frames from the first start to the last end, both counted, the sum of box IoUs in shared
    frames, and the number of shared frames."""
    shared = range(max(predicted.first, gold.first), min(predicted.last, gold.last) + 1)
    every = max(predicted.last, gold.last) - min(predicted.first, gold.first) + 1
    pairs = ((predicted.boxes[at - predicted.first], gold.boxes[at - gold.first]) for at in shared)
    ious = (box_iou(here, there) for here, there in pairs if here is not None and there is not None)
    return math.fsum(ious) / every, len(shared) / every


def tubes_by_frame(config: RewardConfig) -> ScoreFunction:
    """Scores tubes against the column ``frames`` of ``framed_tube``: the accuracy is vIoU, and the parts have ``viou``
    and ``tiou``. Boxes may be on the scale that the run asks for."""
    settings = replace(read_settings(config), profile="strict")

    def score(sample: Sample, response: Completion) -> Score:
        found = score_response(_TASK, response, sample.answer, (), sample.extra, settings)
        answer = counted_answer(_TASK, response, (), settings, require_tag=False).value
        if answer is None or not found.applicable:
            return found
        gold = _gold(sample.extra["frames"])
        reference = read_reference(_TASK, sample.answer, ())
        moved = on_scale_of_reference(RULES[_TASK], answer, reference, sample.extra, settings)
        if isinstance(moved, Verdict) or moved.time is None:
            return scored(found, Verdict(0.0, {"viou": 0.0, "tiou": 0.0}, reason=found.reason), settings)
        viou, tiou = frame_ious(in_frames(moved, _within(moved.time), gold.fps), gold)
        return scored(found, Verdict(viou, {"viou": viou, "tiou": tiou}), settings)

    return score


#: Seconds of a span that are scored: an answer of years would take the memory of as many frames.
_LONGEST = 3600.0


def _within(span: Span) -> Span:
    return max(span[0], -_LONGEST), min(span[1], _LONGEST)


def _gold(frames: Mapping[str, Any]) -> FrameTube:
    return FrameTube(frames["first"], tuple(tuple(box) for box in frames["boxes"]), frames["fps"])
