"""What a configuration may not say, whoever makes it."""

import math

import pytest
from pydantic import ValidationError

from easyvideor1.config import parse_config
from easyvideor1.config.migrate import migrate
from easyvideor1.config.schema import CacheConfig, ImageBudget, OptimizerConfig, VideoBudget
from easyvideor1.types import ConfigError


@pytest.mark.parametrize(
    ("section", "low", "high"),
    [
        (ImageBudget, "min_pixels", "max_pixels"),
        (VideoBudget, "min_pixels", "max_pixels"),
        (VideoBudget, "min_frames", "max_frames"),
    ],
)
def test_limits_are_in_order(section, low, high):
    assert section(**{low: 50, high: 50})
    with pytest.raises(ValidationError, match=rf"{low} \(51\) is larger than {high} \(50\); lower the first or raise"):
        section(**{low: 51, high: 50})


def test_a_contradiction_in_a_file_is_told_with_its_place():
    with pytest.raises(ConfigError, match=r"f:2: data\.video: min_frames \(9\) is larger than max_frames \(8\)"):
        parse_config("data:\n  video: {min_frames: 9, max_frames: 8}", "f")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    for section, field in ((CacheConfig, "deadline"), (OptimizerConfig, "lr"), (VideoBudget, "fps")):
        with pytest.raises(ValidationError, match="finite"):
            section(**{field: value})


def test_gradients_may_be_left_at_any_norm():
    assert OptimizerConfig(max_grad_norm=math.inf).max_grad_norm == math.inf
    for value in (math.nan, -math.inf, 0.0):
        with pytest.raises(ValidationError):
            OptimizerConfig(max_grad_norm=value)


def test_fewer_frames_than_the_usual_least_can_be_migrated():
    video = migrate("data: {video_max_frames: 2}", "old.yaml").config.data.video
    assert (video.min_frames, video.max_frames) == (2, 2)
