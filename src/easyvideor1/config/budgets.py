"""Budgets of single sources and rows: what they change of the run's, and what comes of it."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from easyvideor1.config.media import ImageBudget, VideoBudget
from easyvideor1.config.section import PositiveInt, Section
from easyvideor1.types import BudgetChange

Budget = TypeVar("Budget", bound=ImageBudget | VideoBudget)

#: What chooses frames by the rate of a video; of no effect where a fixed number of frames is in force.
_BY_RATE = ("fps", "min_frames", "max_frames")


class ImageOverride(Section):
    """What a source changes of ``data.image`` for its own images; null leaves a value as it is."""

    rule: Literal["qwen", "hf"] | None = None
    """As ``data.image.rule``."""
    min_pixels: PositiveInt | None = None
    """Smaller images are enlarged to this many pixels."""
    max_pixels: PositiveInt | None = None
    """Larger images are reduced to this many pixels."""

    def change(self) -> BudgetChange | None:
        """The same as a noun; ``None`` when nothing is changed."""
        return _change(self)


class VideoOverride(Section):
    """What a source changes of ``data.video`` for its own videos; null leaves a value as it is."""

    rule: Literal["qwen", "hf", "hf-qwen2", "hf-qwen3", "uniform", "uniform-time"] | None = None
    """As ``data.video.rule``."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """Frames wanted per second of video; a fixed number in ``data.video.frames`` no longer holds then."""
    frames: PositiveInt | None = None
    """A fixed number of frames, whatever the duration."""
    min_frames: PositiveInt | None = None
    """At least this many frames, if the video has them."""
    max_frames: PositiveInt | None = None
    """At most this many frames."""
    min_pixels: PositiveInt | None = None
    """Smallest size of one frame, in pixels."""
    max_pixels: PositiveInt | None = None
    """Largest size of one frame, in pixels."""
    total_pixels: PositiveInt | None = None
    """Largest size of all frames of one video together, in pixels."""

    @model_validator(mode="after")
    def _frames_are_fixed_or_by_rate(self) -> VideoOverride:
        require_one_rule(self.change())
        return self

    def change(self) -> BudgetChange | None:
        """The same as a noun; ``None`` when nothing is changed."""
        return _change(self)


def _change(section: Section) -> BudgetChange | None:
    values = section.model_dump(exclude_none=True)
    return BudgetChange(**values) if values else None


def require_one_rule(change: BudgetChange | None) -> None:
    """Raises ``ValueError`` for a change that fixes the number of frames and lets the rate decide it as well."""
    if change is None or change.frames is None:
        return
    if also := [name for name in _BY_RATE if getattr(change, name) is not None]:
        raise ValueError(f"frames ({change.frames}) fixes the number of frames, so {also[0]} has no effect; drop one")


def combine(first: BudgetChange | None, second: BudgetChange | None) -> BudgetChange | None:
    """Both changes, the second over the first: what a row says over what its source says.

    A number of frames in the second takes the place of a rate in the first, and the other way round.
    """
    if first is None or second is None:
        return first if second is None else second
    values = _set(first)
    if second.frames is not None:
        values = {name: value for name, value in values.items() if name not in _BY_RATE}
    if second.fps is not None:
        values.pop("frames", None)
    return BudgetChange(**{**values, **_set(second)})  # type: ignore[arg-type]  # the fields of the same class


def changed(budget: Budget, change: BudgetChange | None) -> Budget:
    """A budget with a change; a pure function.

    Raises:
        ValueError: the change has no effect on this budget, or contradicts what it leaves; the message says what to do.
    """
    if change is None:
        return budget
    result: Budget = _changed(budget, change)
    return result


@lru_cache(maxsize=4096)
def _changed(budget: ImageBudget | VideoBudget, change: BudgetChange) -> Any:
    values = budget.model_dump()
    wanted = _set(change)
    if unknown := wanted.keys() - values.keys():
        raise ValueError(f"{sorted(unknown)[0]} is for videos only; leave it out")
    if change.fps is not None:
        values["frames"] = None
    values |= wanted
    if values.get("frames") is not None and change.frames is None:
        for name in ("min_frames", "max_frames"):
            if name in wanted:
                raise ValueError(f"{name} has no effect where frames is {values['frames']}; set frames or fps instead")
    try:
        return type(budget).model_validate(values)
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def _set(change: BudgetChange) -> dict[str, object]:
    return {name: value for name, value in asdict(change).items() if value is not None}
