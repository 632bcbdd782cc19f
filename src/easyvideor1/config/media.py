"""Media: limits on pixels and frames, and the cache that keeps them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from easyvideor1.config.section import PositiveInt, Section, require_order


class ImageBudget(Section):
    """Limits on one image."""

    min_pixels: PositiveInt = 3136
    """Smaller images are enlarged to this many pixels."""
    max_pixels: PositiveInt = 1_048_576
    """Larger images are reduced to this many pixels."""

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> ImageBudget:
        require_order(self, "min_pixels", "max_pixels")
        return self


class VideoBudget(Section):
    """Limits on one video; the planner turns them into frames, sizes and an exact token count."""

    rule: Literal["qwen", "uniform"] = "qwen"
    """``qwen`` samples and resizes as qwen-vl-utils 0.0.14 does; ``uniform`` spaces frames evenly."""
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


class CacheConfig(Section):
    """The frame cache."""

    dir: str = "cache/frames"
    """Directory of the store; one store may serve any number of runs."""
    codec: Literal["raw", "zstd"] = "raw"
    """How pixels are kept: ``raw`` is mapped into memory, ``zstd`` is smaller. Both lose nothing."""
    workers: PositiveInt = 2
    """Processes that decode."""
    deadline: Annotated[float, Field(gt=0)] = 120.0
    """Seconds after which the decoding of one file is given up and its worker killed."""
    memory_mb: PositiveInt = 4096
    """Memory in MiB that one decoding worker may take."""
    on_miss: Literal["decode", "error"] = "decode"
    """What a read does that finds no entry."""
