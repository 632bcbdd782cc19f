"""What a stage makes of the rollouts that earlier stages of its run have paid for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from easyvideor1.config.base import BaseConfig, PositiveInt, Probability


class PairConfig(BaseConfig):
    """One kind of pair of a better and a worse response."""

    builder: str
    """``accuracy``, ``consistency``, ``reflection``, ``repetition``, ``length``, or ``module:attr`` of a function
    ``(record, **options) -> [(better, worse), ...]`` of your own (docs/stages.md)."""
    per_prompt: PositiveInt = 1
    """Pairs that are taken of one group at most, drawn from all that the builder finds."""
    options: dict[str, float | int | str | bool] = Field(default_factory=dict)
    """Options of the builder."""


class RolloutsConfig(BaseConfig):
    """Which rollouts of earlier stages a stage reads, and what for."""

    stages: tuple[str, ...] = ()
    """Names of earlier stages; all whose responses the policy generated if empty."""
    last_steps: PositiveInt | None = None
    """Only the last so many steps of each of them; null for all."""
    pairs: tuple[PairConfig, ...] = ()
    """Pairs that ``trajectories: rollouts`` trains on."""
    drop_solved: Annotated[Probability, Field(validate_default=True)] = 0.0
    """Share of the solved samples that this stage does not draw. A sample is solved if all responses to it were right
    when it was drawn last. Which ones are dropped follows from the seed."""
