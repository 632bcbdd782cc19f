"""Where a policy is trained: the ranks that share it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from easyvideor1.config.base import BaseConfig, NonNegativeInt, PositiveInt


class ClusterConfig(BaseConfig):
    """Ranks that train one policy together (docs/scaling.md). A run may resume with another number of them."""

    ranks: PositiveInt = 1
    """Processes that hold the policy in parts, with a device each. The run starts them on its machine, or is one of
    those that ``torchrun`` has started."""
    shard_size: NonNegativeInt = 0
    """Ranks that each layer is spread over; 0 is all of them. Where it is less, every so many ranks have the whole
    policy (hybrid sharding), such as those of one machine."""
    deadline: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds after which ranks that wait for one of them end the run, and name it; 0 is never. Longer than one
    micro-batch may take, and than reading its media."""
    max_restarts: NonNegativeInt = 2
    """How often ``evr1 train`` resumes by itself from the last checkpoint after a rank was lost (killed, silent or
    stalled). Ranks of a launcher are its own to start again (``torchrun --max-restarts``)."""

    @model_validator(mode="after")
    def _shards_fill_the_ranks(self) -> ClusterConfig:
        if self.shard_size and self.ranks % self.shard_size:
            raise ValueError(
                f"shard_size ({self.shard_size}) does not divide ranks ({self.ranks}); set a divisor, or 0 for all"
            )
        if self.shard_size == 1 < self.ranks:
            raise ValueError("shard_size is 1, so that nothing would be spread; set 2 or more, or 0 for all ranks")
        return self
