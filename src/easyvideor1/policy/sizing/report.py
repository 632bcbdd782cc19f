"""What of a prediction is neither memory of the device nor arithmetic: tokens of prompts, memory of the host, disk."""

from __future__ import annotations

import math
from collections.abc import Sequence

from easyvideor1.policy.sizing.memory import held, offloaded_parts, save_copy
from easyvideor1.policy.sizing.prediction import Problem
from easyvideor1.policy.sizing.workload import Asked
from easyvideor1.video.entry import TYPICAL_RATIO, raw_bytes

#: Libraries and interpreter of one process that has torch and transformers, and no model.
PROCESS_BYTES = 1 << 30


def histogram(asked: Sequence[Asked]) -> list[tuple[int, int, int]]:
    """Prompts by tokens, ``(from, below, prompts)``, in powers of two."""
    counts: dict[int, int] = {}
    for one in asked:
        power = max(int(math.log2(max(len(one.prompt), 1))), 6)
        counts[power] = counts.get(power, 0) + 1
    return [
        (0 if power == 6 else 2**power, 2 ** (power + 1), counts.get(power, 0))
        for power in range(min(counts), max(counts) + 1)
    ]


def cache_bytes(problem: Problem) -> int:
    """Bytes of the frame cache for all media of the stage; exact for ``raw``, by typical ratios for other codecs."""
    plans = {plan.digest: plan for one in problem.asked for plan in one.prompt.plans}
    return int(sum(map(raw_bytes, plans.values())) * TYPICAL_RATIO[problem.config.cache.codec])


def host_parts(problem: Problem) -> dict[str, int]:
    """Most bytes of the host's memory by part, beside the device's where that is the processor.

    With ranks on several machines (``cluster.nodes``) it is that of each. Decoding workers and frames are limits of the
    configuration, not what they usually take.
    """
    cache, rollout, cluster = problem.config.cache, problem.config.rollout, problem.config.cluster
    sizes, ranks = problem.sizes, cluster.ranks // cluster.nodes
    frames = sum(raw_bytes(plan) for one in problem.asked for plan in one.prompt.plans)
    parts = {
        "processes": PROCESS_BYTES * (ranks + rollout.workers),
        "frames read lately": min(cache.keep_mb << 20, frames),
        "frames of coming steps": min(cache.prefetch_mb << 20, frames) if cache.prefetch_steps else 0,
        "decoding workers, at most": cache.workers * (cache.memory_mb << 20),
    }
    if rollout.workers:
        parts["weights for engines in other processes"] = sizes.all_values * 4
    for name, size in offloaded_parts(sizes, problem.facts, problem.worst, problem.place).items():
        parts[name] = ranks * size
    if cluster.ranks > 1:  # each rank reads its rows, and one tensor at a time that it holds whole or writes
        own = 0 if problem.device.on_cpu else sum(each.weights for each in held(sizes, problem.place))
        parts["a checkpoint, opened"] = ranks * (own + sizes.largest_file)
    if problem.options.async_save:
        moving = problem.options.kl.reference == "ema"
        copied = save_copy(sizes, problem.place, ranks, critic=problem.facts.critic, moving_reference=moving)
        parts["a checkpoint, copied to be written"] = copied
    return {name: size for name, size in parts.items() if size}
