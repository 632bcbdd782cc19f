"""Where a policy is trained: the ranks that share it, and the machines they are on."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from easyvideor1.config.base import BaseConfig, NonNegativeInt, PositiveInt

#: What a launcher such as ``torchrun`` sets in the environment of every process that it starts as a rank.
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched_ranks() -> int:
    """Ranks that a launcher says it has started, this process being one of them; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _LAUNCHED) else 1


class ClusterConfig(BaseConfig):
    """Ranks that train one policy together (docs/scaling.md). A run may resume with another number of them."""

    placement: Literal["auto", "process", "ray"] = "auto"
    """Where the ranks beside the first are: ``process`` is on this machine, or where a launcher such as ``torchrun``
    has started them; with ``ray`` they are actors of the Ray cluster that ``RAY_ADDRESS`` names (extra ``ray``).
    ``auto`` is ``ray`` where ``nodes`` is more than 1 and no launcher has started this process."""
    nodes: PositiveInt = 1
    """Machines that the ranks are spread over evenly."""
    gpus_per_node: NonNegativeInt = 0
    """Ranks on each machine, with a GPU each; 0 leaves it to ``ranks``, as on the CPU."""
    ranks: PositiveInt = 1
    """Processes that hold the policy in parts, with a device each. Where it is left out it follows from ``nodes`` and
    ``gpus_per_node``. The run starts them, or is one of those that ``torchrun`` has started."""
    shard_size: NonNegativeInt = 0
    """Ranks that each layer is spread over; 0 is all of them. Where it is less, every so many ranks have the whole
    policy (hybrid sharding), such as those of one machine."""
    sequence_parallel: PositiveInt = 1
    """Ranks that compute every micro-batch together, each a part of its tokens: for videos that are too long for one.
    It divides ``ranks`` and the attention heads of the model; ``micro_batch_tokens`` is of the whole micro-batch."""
    deadline: Annotated[float, Field(ge=0)] = 1800.0
    """Seconds after which ranks that wait for one of them end the run, and name it; 0 is never. Longer than one
    micro-batch may take, and than reading its media."""
    max_restarts: NonNegativeInt = 2
    """How often ``evr1 train`` resumes by itself from the last checkpoint after a rank was lost (killed, silent or
    stalled). Ranks of a launcher are its own to start again (``torchrun --max-restarts``)."""

    @model_validator(mode="before")
    @classmethod
    def _ranks_follow(cls, values: Any) -> Any:
        """The number of ranks, where only machines and GPUs are given."""
        if not isinstance(values, dict) or "ranks" in values:
            return values
        nodes, gpus = values.get("nodes", 1), values.get("gpus_per_node", 0)
        try:
            ranks = int(nodes) * (int(gpus) or 1)
        except (TypeError, ValueError):
            return values  # told with their own key
        return {**values, "ranks": ranks} if ranks > 1 else values

    @model_validator(mode="after")
    def _ranks_fit_the_machines(self) -> ClusterConfig:
        if self.gpus_per_node and self.ranks != self.nodes * self.gpus_per_node:
            raise ValueError(
                f"ranks ({self.ranks}) is not nodes ({self.nodes}) times gpus_per_node ({self.gpus_per_node}); leave "
                "out ranks, or correct one of them"
            )
        if self.ranks % self.nodes:
            raise ValueError(f"nodes ({self.nodes}) does not divide ranks ({self.ranks}); each has equally many")
        if self.placement == "ray" and self.ranks == 1:
            raise ValueError(
                "placement would have no effect: a single rank is the process of the run; set nodes and gpus_per_node, "
                "or ranks, or leave out placement"
            )
        return self

    @property
    def asks_for_ray(self) -> bool:
        """Whether Ray places the ranks, unless a launcher has done so."""
        return self.placement == "ray" or (self.placement == "auto" and self.nodes > 1)

    @property
    def ranks_per_node(self) -> int:
        """Ranks on each machine."""
        return self.ranks // self.nodes

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

    def engine_share(self, workers: int, gpus_per_worker: float) -> float:
        """What workers have of the GPU of each rank: where Ray places both, those that ask for less than a GPU share
        the GPUs of the ranks.

        Raises:
            ValueError: they would leave a rank so little that Ray may give one GPU to two ranks.
        """
        if not self.asks_for_ray or not 0 < gpus_per_worker < 1:
            return 0.0
        share = gpus_per_worker * -(-workers // self.ranks)
        if share >= 0.5:
            raise ValueError(
                f"rollout.gpus_per_worker: {workers} workers on {self.ranks} ranks would take {share:g} of each GPU, "
                "and Ray may place two ranks on one GPU if each asks for half of it or less; have the workers take "
                "less than half (how much memory an engine takes is set apart), or set it to 1 for GPUs apart"
            )
        return share

    def engines_per_gpu(self, workers: int, gpus_per_worker: float) -> int:
        """The most workers that Ray places on one GPU; 0 where it reserves no GPUs for them.

        Raises:
            ValueError: see ``engine_share``.
        """
        if not gpus_per_worker:
            return 0
        if self.engine_share(workers, gpus_per_worker):
            return -(-workers // self.ranks)
        return min(workers, int(1 / gpus_per_worker + 1e-9))  # 1 / (1 / 3) is a little less than 3
