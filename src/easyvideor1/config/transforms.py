"""Options of sample transforms and curricula: a class for each name, as for algorithms (``config/algorithms.py``).

To add one, write the class of its options here, enter it under its name in the table, and register its function under
the same name in ``easyvideor1.data``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from easyvideor1.config.base import CUSTOM, BaseConfig, ByName, PositiveInt, Probability, as_tuples

Byte = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


class TransformOptions(BaseConfig):
    """A sample transform: its name alone, or a section with its name and options. A name of your own is
    ``module:attr``."""

    name: str
    """Which transform."""

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, values: Any) -> Any:
        return {key: as_tuples(value) for key, value in values.items()} if isinstance(values, dict) else values


class OverlayIds(TransformOptions):
    tracks: str = ""
    """Column with the path of the ``tracks.json`` of the row's video, from the directory of the file of rows. Empty: it
    lies beside the video, ``clip.tracks.json`` for ``clip.mp4``."""
    size: Annotated[int, Field(ge=5)] = 20
    """Height of the digits in pixels of the planned frames; the nearest multiple of 5 is taken."""
    colour: Colour = (255, 0, 0)
    """RGB colour of numbers and outlines."""
    numbers: bool = True
    """Paint the number of each object at the centre of its box."""
    boxes: bool = False
    """Paint the outline of each box."""


class MaskFrames(TransformOptions):
    frames: tuple[int, ...] | None = None
    """Places of the hidden frames among the planned ones, from 0; negative ones count from the end."""
    outside_answer: bool = False
    """Hide what lies outside of the spans of the reference answer (temporal grounding)."""
    share: Probability = 1.0
    """Share of these frames that is hidden, drawn anew for every sample and step."""
    fill: Literal["black", "mean"] = "black"
    """What stands in their place: black, or the mean colour of the clip."""

    @model_validator(mode="after")
    def _something_is_hidden(self) -> MaskFrames:
        if (self.frames is None) == (not self.outside_answer):
            raise ValueError("give either frames or outside_answer: true")
        return self


class Noise(TransformOptions):
    strength: Probability = 0.1
    """Standard deviation of the Gaussian noise as a share of the range of a channel."""


class Composite(TransformOptions):
    columns: Annotated[tuple[Literal["first", "previous", "current"], ...], Field(min_length=1)] = (
        "first",
        "previous",
        "current",
    )
    """Frames that stand side by side in every picture."""
    gap: Annotated[int, Field(ge=0)] = 5
    """Pixels between them."""
    colour: Colour = (0, 0, 0)
    """RGB colour between them."""


class Anchors(TransformOptions):
    first: bool = True
    """Show the first frame of the clip as an image before it."""
    clip: bool = True
    """Show the clip itself."""
    current: bool = True
    """Show the last frame of the clip as an image behind it."""

    @model_validator(mode="after")
    def _something_is_shown(self) -> Anchors:
        if not (self.first or self.clip or self.current):
            raise ValueError("first, clip and current are all false: nothing would be shown; set one of them")
        return self


class FadingMask(TransformOptions):
    share: Probability = 1.0
    """Share of the frames outside of the reference span that is hidden in the first step."""
    steps: PositiveInt | None = None
    """Steps in which the share falls to 0, evenly; null is the whole stage."""
    difficulty: str = ""
    """Column with the score that a model reached on the row before training, such as its zero-shot IoU. Empty: every
    row counts as hard."""
    below: Probability = 0.5
    """Rows with a lower score are hard, and masked; others stay as they are."""
    fill: Literal["black", "mean"] = "black"
    """What stands in place of hidden frames."""

    @model_validator(mode="after")
    def _a_bound_has_a_column(self) -> FadingMask:
        if faults := list(self.unused(["below"], "difficulty")) if not self.difficulty else []:
            raise ValueError("; ".join(faults))
        return self


class AdaptDifficulty(TransformOptions):
    hints: Annotated[float, Field(ge=0)] = 1.0
    """Strength of hints: a sample with a mean reward that lies ``d`` below the reference gets the first ``hints * d``
    (at most ``most``) of the words of a response that was rewarded best. 0 gives none."""
    most: Probability = 0.5
    """Largest share of such a response that a hint shows."""
    noise: Annotated[float, Field(ge=0)] = 0.5
    """Strength of noise: with a mean reward that lies ``d`` above the reference, Gaussian noise of ``noise * d``. 0
    gives none."""
    mask: Annotated[float, Field(ge=0)] = 0.0
    """The same for the share of frames that are hidden, at most half of them, and none of a reference span."""


class InvertQuestion(TransformOptions):
    share: Probability = 0.5
    """Share of the questions that are inverted, of those that can be; drawn anew for every sample and step."""


class DropSettled(TransformOptions):
    above: Probability = 0.0
    """Rows whose pass rate, when they were last seen, lies above this are not too hard."""
    below: Probability = 1.0
    """Rows whose pass rate lies below this are not too easy."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Chance that a row that is too hard or too easy is drawn all the same, so that its pass rate is measured anew."""

    @model_validator(mode="after")
    def _some_rate_is_between(self) -> DropSettled:
        if not self.above < self.below:
            raise ValueError(f"above ({self.above:g}) must be less than below ({self.below:g})")
        return self


class CustomTransform(TransformOptions):
    model_config = ConfigDict(extra="allow")


TRANSFORM_OPTIONS: Mapping[str, type[TransformOptions]] = {
    "adapt_difficulty": AdaptDifficulty,
    "anchors": Anchors,
    "composite": Composite,
    "drop_settled": DropSettled,
    "fading_mask": FadingMask,
    "invert_question": InvertQuestion,
    "mask_frames": MaskFrames,
    "noise": Noise,
    "overlay_ids": OverlayIds,
    "require_span": TransformOptions,
    "shuffle_options": TransformOptions,
    CUSTOM: CustomTransform,
}

Transform = Annotated[TransformOptions, ByName(classes=TRANSFORM_OPTIONS)]


class CurriculumOptions(BaseConfig):
    """What the transforms of a stage may know of the rewards of its earlier steps. A name of your own is
    ``module:attr``."""

    name: str
    """Which curriculum."""


class RewardHistory(CurriculumOptions):
    window: PositiveInt = 8
    """Steps whose mean reward is the reference."""
    successes: bool = False
    """Keep the response of each sample that was rewarded best, for hints; checkpoints grow by their text."""
    success: Probability = 0.5
    """Least reward of a response that is kept."""

    @model_validator(mode="after")
    def _a_bound_is_read(self) -> RewardHistory:
        if faults := [] if self.successes else list(self.unused(["success"], "successes: true")):
            raise ValueError("; ".join(faults))
        return self


class PassRateHistory(CurriculumOptions):
    passing: float = 0.5
    """Least total reward of a response that passes."""


class CustomCurriculum(CurriculumOptions):
    model_config = ConfigDict(extra="allow")


CURRICULUM_OPTIONS: Mapping[str, type[CurriculumOptions]] = {
    "none": CurriculumOptions,
    "pass_rate": PassRateHistory,
    "reward_history": RewardHistory,
    CUSTOM: CustomCurriculum,
}

Curriculum = Annotated[CurriculumOptions, ByName(default="none", classes=CURRICULUM_OPTIONS)]
