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
    sequence_parallel: PositiveInt = 1
    """Ranks that compute every micro-batch together, each a part of its tokens: for videos that are too long for one.
    It divides ``ranks`` and the attention heads of the model; ``micro_batch_tokens`` is of the whole micro-batch."""
    deadline: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds after which ranks that wait for one of them end the run, and name it; 0 is never. Longer than one
    micro-batch may take, and than reading its media."""

    @model_validator(mode="after")
    def _shards_fill_the_ranks(self) -> ClusterConfig:
        if self.shard_size and self.ranks % self.shard_size:
            raise ValueError(
                f"shard_size ({self.shard_size}) does not divide ranks ({self.ranks}); set a divisor, or 0 for all"
            )
        if self.ranks % self.sequence_parallel:
            raise ValueError(
                f"sequence_parallel ({self.sequence_parallel}) does not divide ranks ({self.ranks}); set a divisor"
            )
        if self.shard_size == 1 < self.ranks:
            raise ValueError("shard_size is 1, so that nothing would be spread; set 2 or more, or 0 for all ranks")
        return self
