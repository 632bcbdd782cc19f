"""The samples of a step, and their media: read ahead for the steps that follow, and checked before a prompt is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from easyvideor1.config import StageConfig
from easyvideor1.data import CurriculumTrack, SampleStream
from easyvideor1.data.visual_tokens import VISUAL_MISMATCH
from easyvideor1.families.features import FeatureCache
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.types import MediaError, MediaPlan, MediaRef, Sample
from easyvideor1.video import HealthLedger
from easyvideor1.video.derived import stored_plan
from easyvideor1.video.memory_cache import Prefetcher

#: The samples of a round of a step, as ``(step, round)``; steps count from 1, rounds from 0.
DrawSamples = Callable[[int, int], list[Sample]]


@dataclass(frozen=True, slots=True)
class StageMedia:
    """How a stage reads its media: frames, or the features of the vision tower where they are kept."""

    stage: str
    load: LoadFrames
    ledger: HealthLedger
    features: FeatureCache | None = None
    #: Files of the present step whose frames do not give one feature for each visual token.
    mismatches: list[str] = field(default_factory=list)

    def reads_frames(self, plan: MediaPlan) -> bool:
        """Whether the frames of a plan are needed at all."""
        return self.features is None or not self.features.has(plan)

    def check(self, ref: MediaRef, plan: MediaPlan) -> None:
        """Raises ``MediaError`` when a medium that is needed cannot be read."""
        if self.reads_frames(plan):
            self.load(ref, plan)

    def failed(self, error: MediaError) -> None:
        """Note the fault that removes a sample from a step."""
        if error.reason == VISUAL_MISMATCH:
            self.mismatches.append(error.path)
        self.ledger.record(error.path, error.reason, str(error), f"left out of a step of stage {self.stage}")


def extra_samples(options: StageConfig, rate: float) -> int:
    """How many samples more than ``prompts_per_step`` a round draws, for a share of ``rollout.over_sample_rate``."""
    return math.ceil(rate * options.prompts_per_step - 1e-9)  # tolerant of 0.1 * 30, which is a hair above 3


def rounds_of(
    options: StageConfig, stream: SampleStream, extra: int = 0, track: CurriculumTrack | None = None
) -> DrawSamples:
    """What a stage draws: a function of the step and the round, and of what the curriculum of ``track`` observed.

    Every step owns the samples of all its rounds, used or not. Those of first rounds follow each other, and further
    rounds draw behind the stage: a stage that refills nothing goes through its sources as often as ``epochs`` says.
    ``extra`` samples of every round (``rollout.over_sample_rate``), at most ``prompts_per_step``, are drawn behind all
    these, and come last.
    """
    rounds, count = options.selection.generation_rounds, options.prompts_per_step

    def draw(step: int, round_: int) -> list[Sample]:
        further = options.step_count + (step - 1) * (rounds - 1) + round_ - 1
        batch = partial(stream.batch, training_step=step - 1, curriculum=None if track is None else track.at(step))
        drawn = batch(further if round_ else step - 1, count)
        if extra:
            drawn = drawn + batch((options.step_count + step - 1) * rounds + round_, count)[:extra]
        return drawn

    return draw


class SamplePrefetcher:
    """Draws the samples of a step, announces their media, and draws and announces those of the next ``depth`` steps.

    Samples are a function of the step alone, so a step gets the same ones whenever they were drawn. What drawing a
    later step raises is raised when that step comes. Later rounds are not announced: a step may not need them.

    Args:
        draw: samples of a step and round; pure.
        plan: of a medium; one that raises ``MediaError`` is left to its step.
        wanted: whether the frames of a plan will be read.
        prefetcher: loads what is announced.
        steps: last step there is.
        depth: steps to look ahead; above 0.
        kept: steps before the one that is drawn whose frames are still wanted, where samples are drawn ahead.
        redraw: draw a step again when it comes, for a curriculum has learnt since what its transforms read.
    """

    def __init__(
        self,
        draw: DrawSamples,
        plan: Callable[[MediaRef], MediaPlan],
        wanted: Callable[[MediaPlan], bool],
        prefetcher: Prefetcher,
        *,
        steps: int,
        depth: int,
        kept: int = 0,
        redraw: bool = False,
    ) -> None:
        self._draw = draw
        self._plan = plan
        self._wanted = wanted
        self._prefetcher = prefetcher
        self._steps = steps
        self._depth = depth
        self._kept = kept
        self._redraw = redraw
        self._drawn: dict[int, list[Sample] | Exception] = {}

    def __call__(self, step: int, round_: int = 0) -> list[Sample]:
        """The samples of a round of ``step``; steps come in ascending order."""
        if round_:
            return self._draw(step, round_)
        self._prefetcher.begin(step - self._kept)
        drawn = self._drawn.pop(step, None)
        if drawn is None or self._redraw:
            drawn = self._draw(step, 0)
        if isinstance(drawn, Exception):
            raise drawn
        self._announce(step, drawn)
        for later in range(step + 1, min(step + self._depth, self._steps) + 1):
            self._look_at(later)
        return drawn

    def _look_at(self, step: int) -> None:
        if step not in self._drawn:
            try:
                self._drawn[step] = self._draw(step, 0)
            except Exception as error:  # noqa: BLE001 - kept, and raised by the step it belongs to
                self._drawn[step] = error
        drawn = self._drawn[step]
        if not isinstance(drawn, Exception):
            self._announce(step, drawn)

    def _announce(self, step: int, samples: Sequence[Sample]) -> None:
        media: list[tuple[MediaRef, MediaPlan]] = []
        for ref in dict.fromkeys(ref for sample in samples for ref in sample.media):
            try:
                plan = self._plan(ref)
            except MediaError:
                continue  # the step renders the sample, meets the same error, and records it
            if self._wanted(plan):
                media.append((ref, stored_plan(plan)))
        self._prefetcher.announce(step, media)
