"""One question at successive moments of a video, each turn told the value that the turn before gave.

SOLE-R1 (arXiv 2603.28730): a model that judges progress sees the first, the previous and the current view, and the
answer of step ``t`` is written into the prompt of step ``t + 1``; what cannot be read carries the last value on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from easyvideor1.config.strategies import RecursiveOptions
from easyvideor1.rewards.extraction import parse
from easyvideor1.rollout.strategies import STRATEGIES, Medium, PromptBuilder
from easyvideor1.rollout.turn_texts import filled
from easyvideor1.types import Completion, DataError, MediaPlan, Prompt, Sample, Trajectory, Turn
from easyvideor1.video import distinct_places, part

#: The task type whose answers are values.
_VALUE = "numerical"


@STRATEGIES.register("recursive")
class Recursive:
    """``steps`` turns about the first video of a sample, each with a few frames of it as images.

    Every prompt is fresh. A response states a value if it reads as a number between ``low`` and ``high``; else the
    value before stands. Other media of the sample are not shown.
    """

    def __init__(self, prompts: PromptBuilder, options: RecursiveOptions) -> None:
        self.prompts = prompts
        self.options = options

    def start(self, sample: Sample) -> Prompt:
        """See ``Strategy``.

        Raises:
            DataError: the sample has no video.
        """
        return self._prompt(sample, 0, self.options.start)

    def next(self, sample: Sample, trajectory: Trajectory) -> Prompt | None:
        """See ``Strategy``.

        Raises:
            DataError: the sample has no video.
        """
        done = len(trajectory.turns)
        if done >= len(self._moments(self._video(sample)[1][1])) - 1:
            return None
        return self._prompt(sample, done, self.values(trajectory)[-1])

    def counts(self, sample: Sample, trajectory: Trajectory) -> Mapping[str, float]:
        """How many responses stated no value, so that the last one was carried on."""
        return {"carried": float(sum(self.read(turn) is None for turn in trajectory.turns))}

    def values(self, trajectory: Trajectory) -> list[float]:
        """The value behind every turn."""
        values = [self.options.start]
        for turn in trajectory.turns:
            value = self.read(turn)
            values.append(values[-1] if value is None else value)
        return values[1:]

    def read(self, turn: Turn) -> float | None:
        """The value that a turn states; ``None`` where the value before stands."""
        said = Completion(turn.text, turn.finish, turn.prompt.opens_thinking)
        number = parse(_VALUE, said, (), self.prompts.grammar).value
        if number is None or not self.options.low <= number.value <= self.options.high:
            return None
        return float(number.value)

    def _video(self, sample: Sample) -> tuple[Sample, Medium]:
        """The sample as it is asked, and its first video with its plan."""
        asked, media = self.prompts.media(sample)
        for medium in media:
            if medium[1].kind == "video":
                return asked, medium
        raise DataError("rollout.strategy recursive asks about a video, and there is none - remove the row")

    def _moments(self, plan: MediaPlan) -> list[int]:
        """Places of the first frame and of the current frame of every turn; one turn where there is one frame."""
        places = distinct_places(plan)
        chosen = np.linspace(0, len(places) - 1, self.options.steps + 1).round().astype(int).tolist()
        found = [places[number] for number in dict.fromkeys(chosen)]
        return found * 2 if len(found) == 1 else found

    def _prompt(self, sample: Sample, step: int, value: float) -> Prompt:
        asked, video = self._video(sample)
        plan = video[1]
        moments = self._moments(plan)
        place = {"first": 0, "previous": moments[step], "current": moments[step + 1]}
        return self.ask(asked, video, place, {view: plan.timestamps[place[view]] for view in place}, value)

    def ask(
        self, sample: Sample, video: Medium, place: Mapping[str, int], seconds: Mapping[str, float], value: float
    ) -> Prompt:
        """The prompt of one turn.

        Args:
            sample: whose question is asked.
            video: its video with its plan.
            place: where among the frames of the plan each view is.
            seconds: the time of each view, as the prompt tells it.
            value: the last one.

        Raises:
            DataError: ``state`` names a column that the row does not have.
        """
        ref, plan = video
        geometry = self.prompts.family.geometry
        still = replace(ref, kind="image", start=None, end=None)
        shown = [(still, part(plan, [place[view]], geometry, "image")) for view in self.options.views]
        views = [f"{view.capitalize()} view, at {seconds[view]:.1f} seconds: <image>" for view in self.options.views]
        state = filled(self.options.state, sample, value=f"{value:g}")
        question = "\n".join([*views, state, filled("{question}", sample)])
        turn = replace(sample, task=_VALUE, question=question, media=tuple(each for each, _ in shown))
        return self.prompts.compose(self.prompts.text(turn), shown)
