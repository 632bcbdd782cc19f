"""What of ``rollout.vllm`` does not go with the rest of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from easyvideor1.config.cluster import ClusterConfig
from easyvideor1.config.engines import VLLMConfig


class _Rollout(Protocol):
    """What is read of ``RolloutConfig``."""

    @property
    def engine(self) -> str: ...
    @property
    def workers(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def vllm(self) -> VLLMConfig: ...


def vllm_conflicts(rollout: _Rollout, cluster: ClusterConfig, max_prompt_tokens: int) -> Iterator[str]:
    """A sentence for each setting of vLLM that would have no effect, refuse requests, or ask for more than a GPU."""
    settings = rollout.vllm
    if rollout.engine != "vllm":
        # An engine of the user's own is given them, too.
        if ":" not in rollout.engine and (given := settings.model_dump(exclude_defaults=True)):
            yield (
                f"rollout.vllm.{next(iter(given))} would have no effect: rollout.engine is {rollout.engine}; set "
                "rollout.engine to vllm, or leave out rollout.vllm"
            )
        return
    longest, needed = settings.max_model_len, max_prompt_tokens + rollout.max_new_tokens
    if longest is not None and longest < needed:
        yield (
            f"rollout.vllm.max_model_len ({longest}) is less than data.max_prompt_tokens ({max_prompt_tokens}) and "
            f"rollout.max_new_tokens ({rollout.max_new_tokens}) together, so that vllm would refuse requests: raise it "
            f"to {needed}, or lower one of the others"
        )
    try:
        shared = cluster.engine_share(rollout.workers, rollout.gpus_per_worker) > 0
        engines = cluster.engines_per_gpu(rollout.workers, rollout.gpus_per_worker)
    except ValueError:
        return  # told where the ranks are looked at
    if (shared or engines > 1) and engines * settings.share >= 1:
        whose = "" if settings.gpu_memory_utilization else " (vLLM's choice where it is null)"
        fewer = f"rollout.workers to {cluster.ranks}, " if shared and engines > 1 else ""
        count = f"{engines} engines" if engines > 1 else "an engine"
        yield (
            f"rollout.vllm.gpu_memory_utilization: Ray would place {count} on each GPU, and each engine takes "
            f"{settings.share:g} of the memory{whose}: set it below {1 / engines:.2g}, {fewer}or "
            "rollout.gpus_per_worker to 1 for GPUs apart"
        )
