"""Options of rollout strategies: a class for each name, as for algorithms (``config/algorithms.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from easyvideor1.config.base import CUSTOM, BaseConfig, PositiveInt, as_tuples, require_order

if TYPE_CHECKING:
    from easyvideor1.config.stages import StageConfig


class StrategyOptions(BaseConfig):
    """How a sample becomes a trajectory. A strategy of your own is ``module:attr``; training, evaluation and data
    curation use the same."""

    shows_whole: ClassVar[bool] = True
    """Whether the first prompt is the one of a single turn: the question, with all media whole."""

    name: str
    """Which strategy."""

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, values: Any) -> Any:
        return {key: as_tuples(value) for key, value in values.items()} if isinstance(values, dict) else values

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        """A strategy without options is written as its name alone."""
        values: dict[str, Any] = handler(self)
        return self.name if list(values) == ["name"] else values


class StreamingOptions(StrategyOptions):
    shows_whole = False

    clip_tokens: PositiveInt | None = None
    """Visual tokens of one clip, at most; 5000 if ``clip_frames`` is not given either. A clip has whole temporal steps,
    at least one."""
    clip_frames: PositiveInt | None = None
    """Frames of one clip, in place of ``clip_tokens``."""
    question: Literal["end", "shown"] = "end"
    """Whether the question is hidden until the last turn, or shown with every clip."""
    memory: Literal["before", "after"] = "before"
    """Where the notes stand in a prompt: before the clip, or after it. After it, all responses to a sample share the
    computation of the clip."""
    memory_tokens: Annotated[int, Field(ge=0)] = 4096
    """Limit of the notes; the oldest leave first. With 0 no notes are taken, and the last clip is all that is seen."""
    thought_tokens: PositiveInt | None = None
    """Length limit of one note; that of responses if null."""
    thought: str = "Note in one or two sentences what this clip shows that may matter later."
    """What every turn but the last is asked."""

    @model_validator(mode="after")
    def _one_budget(self) -> StreamingOptions:
        if self.clip_frames is not None and self.clip_tokens is not None:
            raise ValueError("clip_frames takes the place of clip_tokens; leave out one of them")
        return self


class SpanThenFramesOptions(StrategyOptions):
    shows_whole = False

    frames: PositiveInt = 1
    """Frames of the span that the second turn shows, evenly spread."""
    show: Literal["image", "video"] = "image"
    """Whether each of them is an image, or all together a video."""
    conversation: bool = True
    """Whether the second turn continues the first; if not, its prompt is fresh and the video is not seen again."""
    on_bad_span: Literal["middle", "end"] = "middle"
    """What follows a response without a span in the video: frames around the middle of the video, or nothing."""
    span_question: str = "{question}"
    """Question of the first turn; ``{question}`` and the names of columns of the row stand for their texts."""
    frame_question: str = "This is what the video shows at {seconds} seconds. {question}"
    """Question of the second turn; ``{seconds}`` are the times of its frames."""
    span_task: str = "temporal_grounding"
    """Task type whose answer format the first turn asks for."""
    frame_task: str = "spatial_grounding"
    """Task type whose answer format the second turn asks for."""


class RecursiveOptions(StrategyOptions):
    shows_whole = False

    steps: PositiveInt = 4
    """Turns, spread evenly over the frames of the video; fewer where it has fewer frames."""
    views: tuple[Literal["first", "previous", "current"], ...] = ("first", "previous", "current")
    """Frames that each turn shows, as images."""
    start: float = 0.0
    """Value before the first turn."""
    low: float = 0.0
    """Smallest value that is taken over."""
    high: float = 100.0
    """Largest value that is taken over; what lies outside is as good as unreadable, and the last value stands."""
    state: str = "The value at the previous view was {value}."
    """Sentence that writes the last value into a prompt."""

    @model_validator(mode="after")
    def _bounds(self) -> RecursiveOptions:
        require_order(self, "low", "high")
        if not self.low <= self.start <= self.high:
            raise ValueError(f"start ({self.start:g}) does not lie between low ({self.low:g}) and high ({self.high:g})")
        if "current" not in self.views or len(set(self.views)) < len(self.views):
            raise ValueError("views needs current, and each view once")
        return self


def strategy_conflicts(stage: StageConfig, strategy: StrategyOptions) -> Iterator[str]:
    """A sentence if a stage mixes in rows' responses, which answer the whole question, where the first turn is none."""
    if stage.hybrid is not None and not strategy.shows_whole:
        yield (
            f"stages.{stage.name}.hybrid gives groups responses of the rows, which answer the whole question, and the "
            f"first turn of rollout.strategy {strategy.name} asks something else: leave out hybrid, or set "
            "rollout.strategy=single_turn"
        )


class CustomStrategy(StrategyOptions):
    model_config = ConfigDict(extra="allow")


STRATEGY_OPTIONS: Mapping[str, type[StrategyOptions]] = {
    "recursive": RecursiveOptions,
    "second_look": StrategyOptions,
    "single_turn": StrategyOptions,
    "span_then_frames": SpanThenFramesOptions,
    "streaming": StreamingOptions,
    CUSTOM: CustomStrategy,
}
