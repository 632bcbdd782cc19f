"""Media: budgets of pixels and frames, their overrides by sources and rows, and the frame cache."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from easyvideor1.config.base import CHANGEABLE, BaseConfig, NonNegativeInt, PositiveInt, require_order
from easyvideor1.types import BudgetChange


class ImageBudget(BaseConfig):
    """Limits on one image."""

    rule: Literal["qwen", "hf"] = "qwen"
    """``qwen`` resizes as qwen-vl-utils 0.0.14 does, ``hf`` as the transformers image processors; they differ for very
    thin pictures only (docs/planning.md)."""
    min_pixels: PositiveInt = 3136
    """Smaller images are enlarged to this many pixels."""
    max_pixels: PositiveInt = 1_048_576
    """Larger images are reduced to this many pixels."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> ImageBudget:
        require_order(self, "min_pixels", "max_pixels")
        return self


class VideoBudget(BaseConfig):
    """Limits on one video; the planner turns them into frames, sizes and an exact token count."""

    rule: Literal["qwen", "hf", "hf-qwen2", "hf-qwen3", "uniform", "uniform-time"] = "qwen"
    """``qwen`` samples and resizes as qwen-vl-utils 0.0.14 does; ``uniform`` takes the middles of equal
    parts, counted in frames, and ``uniform-time`` counted in seconds, which differs where the frame rate varies;
    ``hf-qwen2`` and ``hf-qwen3`` do as the transformers video processors of Qwen2-VL and Qwen2.5-VL, and of Qwen3-VL;
    ``hf`` is the one of them that goes with the model's patch size (docs/planning.md)."""
    fps: Annotated[float, Field(gt=0)] = 2.0
    """Frames wanted per second of video. Ignored when ``frames`` is set."""
    frames: PositiveInt | None = None
    """A fixed number of frames, whatever the duration."""
    min_frames: PositiveInt = 4
    """At least this many frames, if the video has them."""
    max_frames: PositiveInt = 128
    """At most this many frames."""
    min_pixels: PositiveInt = 3136
    """Smallest size of one frame, in pixels."""
    max_pixels: PositiveInt = 262_144
    """Largest size of one frame, in pixels."""
    total_pixels: PositiveInt | None = None
    """Largest size of all frames of one video together, in pixels; shrinks frames of long videos."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> VideoBudget:
        require_order(self, "min_frames", "max_frames")
        require_order(self, "min_pixels", "max_pixels")
        return self


class CacheConfig(BaseConfig):
    """The frame cache."""

    dir: Annotated[str, CHANGEABLE] = "cache/frames"
    """Directory of the store, from the working directory; one store may serve any number of runs."""
    codec: Literal["raw", "zstd", "jpeg"] = "raw"
    """How pixels are kept: ``raw`` is mapped into memory; ``zstd`` is between a quarter and two thirds of that
    and also loses nothing; ``jpeg`` is between a tenth and a fifth, slower to read, and nearly exact (over 40 dB)."""
    mode: Literal["prefer_cache", "cache_only", "decode_only"] = "prefer_cache"
    """``prefer_cache`` decodes what the store lacks and keeps it; ``cache_only`` decodes nothing: a medium that is not
    in the store is an error; ``decode_only`` neither reads nor writes frames in the store."""
    keep_mb: Annotated[NonNegativeInt, CHANGEABLE] = 1024
    """MiB of frames read lately that stay in memory, so that several samples of one video share a read."""
    read_threads: Annotated[PositiveInt, CHANGEABLE] = 4
    """Threads that unpack one entry of ``zstd`` or ``jpeg``."""
    decoder: Annotated[Literal["pyav", "torchcodec"], CHANGEABLE] = "pyav"
    """What decodes videos: the frames are the same. ``torchcodec`` is an extra and needs FFmpeg's shared libraries."""
    workers: Annotated[PositiveInt, CHANGEABLE] = 2
    """Processes that decode."""
    deadline: Annotated[Annotated[float, Field(gt=0)], CHANGEABLE] = 120.0
    """Seconds after which the decoding of one file is given up and its worker killed."""
    memory_mb: Annotated[PositiveInt, CHANGEABLE] = 4096
    """Memory in MiB that one decoding worker may take."""
    prefetch_steps: Annotated[Annotated[int, Field(ge=0)], CHANGEABLE] = 1
    """Training steps whose frames are loaded, and decoded if need be, while earlier ones compute; 0 is off."""
    prefetch_mb: Annotated[PositiveInt, CHANGEABLE] = 4096
    """Frames in MiB that are held for the current and coming steps at most; the rest is loaded when it is needed."""
    features: bool = False
    """Keep what the vision tower makes of every medium in ``<dir>/features`` instead of computing it in every rollout
    and update. Needs ``vision`` and ``merger`` in ``model.freeze``."""
    features_mb: Annotated[PositiveInt, CHANGEABLE] = 65_536
    """Size limit of the kept features in MiB; those that were not used for the longest time go first."""

    @model_validator(mode="before")
    @classmethod
    def _on_miss_has_another_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and "on_miss" in values:
            raise ValueError(
                "on_miss is now mode: for on_miss: error write mode: cache_only, for on_miss: decode leave it out"
            )
        return values


Budget = TypeVar("Budget", bound=ImageBudget | VideoBudget)

#: What chooses frames by the rate of a video; of no effect where a fixed number of frames is in force.
_BY_RATE = ("fps", "min_frames", "max_frames")


class _Override(BaseConfig):
    def change(self) -> BudgetChange | None:
        """The same as a ``BudgetChange``; ``None`` when nothing is changed."""
        values = self.model_dump(exclude_none=True)
        return BudgetChange(**values) if values else None


class ImageOverride(_Override):
    """What a source changes of ``data.image`` for its own images; null leaves a value as it is."""

    rule: Literal["qwen", "hf"] | None = None
    """As ``data.image.rule``."""
    min_pixels: PositiveInt | None = None
    """Smaller images are enlarged to this many pixels."""
    max_pixels: PositiveInt | None = None
    """Larger images are reduced to this many pixels."""


class VideoOverride(_Override):
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
