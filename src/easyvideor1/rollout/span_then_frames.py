"""When, then where: the first turn finds a span of time, the second looks at frames of it.

The chain of Scene-R1 (Yuan et al. 2025, arXiv 2506.17545): temporal grounding, then a box in a frame of the span.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import replace

from easyvideor1.config.strategies import SpanThenFramesOptions
from easyvideor1.rewards.extraction import parse
from easyvideor1.rollout.strategies import STRATEGIES, Medium, PromptBuilder
from easyvideor1.rollout.turn_texts import filled, seconds_text
from easyvideor1.types import Completion, DataError, MediaPlan, Prompt, Sample, Trajectory, Turn
from easyvideor1.video import distinct_places, part

#: Seconds by which a span may leave the video: answers are rounded.
_ROUNDING = 0.5


@STRATEGIES.register("span_then_frames")
class SpanThenFrames:
    """Two turns about the first video of a sample: a span, then what ``frames`` of it show.

    The frames are those of the first turn's plan, taken from the store. A response is a bad span if it states none, or
    one that does not meet the video. What then follows is ``on_bad_span``: frames around the middle of the video, or
    the end of the trajectory.
    """

    def __init__(self, prompts: PromptBuilder, options: SpanThenFramesOptions) -> None:
        self.prompts = prompts
        self.options = options

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``.

        Raises:
            DataError: the sample has no video.
        """
        asked, media = self._media(sample)
        text = filled(self.options.span_question, asked)
        marks = "".join(f"<{plan.kind}>" for _, plan in media)
        turn = replace(asked, task=self.options.span_task, question=f"{marks}{text}")
        return self.prompts.compose(self.prompts.text(turn), media)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``.

        Raises:
            DataError: the sample has no video.
        """
        if len(trajectory.turns) > 1:
            return None
        asked, media = self._media(sample)
        ref, plan = next(medium for medium in media if medium[1].kind == "video")
        span = self._span(plan, trajectory.turns[0])
        if span is None and self.options.on_bad_span == "end":
            return None
        places = _frames(plan, span, self.options.frames)
        geometry = self.prompts.family.geometry
        shown: list[Medium]
        if self.options.show == "image":
            still = replace(ref, kind="image", start=None, end=None)
            shown = [(still, part(plan, [place], geometry, "image")) for place in places]
        else:
            shown = [(ref, part(plan, places, geometry))]
        text = filled(self.options.frame_question, asked, seconds=seconds_text(plan.timestamps[n] for n in places))
        marks = "".join(f"<{each.kind}>" for _, each in shown)
        refs = tuple(each for each, _ in shown)
        turn = replace(asked, task=self.options.frame_task, question=f"{marks}{text}", media=refs)
        message = self.prompts.text(turn)
        if self.options.conversation:
            return self.prompts.extend(trajectory, message, shown)
        return self.prompts.compose(message, shown)

    def counts(self, sample: Sample, trajectory: Trajectory) -> Mapping[str, float]:
        """Whether the first response had no span in the video."""
        _, media = self._media(sample)
        plan = next(plan for _, plan in media if plan.kind == "video")
        return {"bad_span": float(self._span(plan, trajectory.turns[0]) is None)}

    def _media(self, sample: Sample) -> tuple[Sample, tuple[Medium, ...]]:
        asked, media = self.prompts.media(sample)
        if not any(plan.kind == "video" for _, plan in media):
            raise DataError("rollout.strategy span_then_frames asks about a video, and there is none - remove the row")
        return asked, media

    def _span(self, plan: MediaPlan, turn: Turn) -> tuple[float, float] | None:
        """The first span that a response states, cut to the video; ``None`` for a bad one."""
        said = Completion(turn.text, turn.finish, turn.prompt.opens_thinking)
        spans = parse(self.options.span_task, said, (), self.prompts.grammar).value
        if not spans:
            return None
        start, end = spans[0]
        first, last = plan.timestamps[0], plan.timestamps[-1]
        if start > last + _ROUNDING or end < first - _ROUNDING:
            return None
        return min(max(start, first), last), min(max(end, first), last)


def _frames(plan: MediaPlan, span: tuple[float, float] | None, count: int) -> list[int]:
    """Places of at most ``count`` frames in a span, each in the middle of its share; the nearest one to an empty span.

    Without a span they are spread over the video.
    """
    places = distinct_places(plan)
    times = [plan.timestamps[place] for place in places]
    first, last = 0, len(times) - 1
    if span is not None:
        first, last = bisect.bisect_left(times, span[0]), bisect.bisect_right(times, span[1]) - 1
        if last < first:
            middle = (span[0] + span[1]) / 2
            return [min(places, key=lambda place: abs(plan.timestamps[place] - middle))]
    size = last - first + 1
    wanted = min(count, size)
    return [places[first + (2 * n + 1) * size // (2 * wanted)] for n in range(wanted)]
