"""Scoring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from easyvideor1.config.section import Probability, Section


class RewardConfig(Section):
    """How responses are scored."""

    accuracy_weight: Probability = 0.9
    """Weight of accuracy in the total."""
    format_weight: Probability = 0.1
    """Weight of the format reward in the total."""
    custom: dict[str, str] = Field(default_factory=dict)
    """Task type -> ``module:attr`` of your own reward ``(sample, response) -> Score | None``; ``*`` for all."""
    on_error: Literal["stop", "mask"] = "stop"
    """A reward that raises stops the run, or masks the sample and is counted."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardConfig:
        if abs(self.accuracy_weight + self.format_weight - 1) > 1e-9:
            raise ValueError("accuracy_weight and format_weight must sum to 1")
        return self
