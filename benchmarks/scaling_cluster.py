"""What the devices of a simulated cluster take for the parts of a step: closed formulas, no events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scaling_costs import Controller, Hardware, Model, Workload
from benchmarks.scaling_events import Decoding


@dataclass(frozen=True, slots=True)
class Setting:
    """How a cluster is used. ``staleness`` 0 has engines on the trainer's GPUs; more gives them GPUs apart.

    ``engine_share`` is the share of GPUs that generate then. ``shard`` is ``cluster.shard_size``. ``split`` cuts the
    responses of a prompt over engines where there are more engines than prompts, which a run does not.
    """

    staleness: int = 0
    engine_share: float = 0.5
    shard: int = 0
    split: bool = False
    steps: int = 3
    seed: int = 0


def draw(workload: Workload, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Visual tokens ``(P,)`` of the prompts of a step, and tokens ``(P, G)`` of the responses to them."""
    rng = np.random.default_rng((seed, step))
    video = workload.video_tokens * rng.uniform(workload.least, 1.0, workload.prompts)
    lengths = workload.median * np.exp(workload.spread * rng.standard_normal((workload.prompts, workload.group)))
    return video, np.clip(np.rint(lengths), 1, workload.limit).astype(np.int64)


def forward_operations(model: Model, workload: Workload, video: float, new: Sequence[float], *, logits: bool) -> float:
    """Of one pass over a prompt and its responses; without ``shared`` every response has the prompt before it."""
    costs, prompt = model.costs, video + workload.text_tokens
    copies = 1 if workload.shared else len(new)
    total = copies * (prompt * costs.token + prompt * (prompt + 1) / 2 * costs.pair)
    # 2 frames of 32 x 32 pixels are a token and four patches; patches see those of their own temporal step.
    total += copies * 4 * video * (costs.patch + costs.patch_pair * 1024)
    for length in new:
        total += length * costs.token + length * (prompt + length / 2) * costs.pair
        total += length * costs.target * logits
    return total


class Cluster:
    """The devices of a setting and what they take for things."""

    def __init__(self, model: Model, hardware: Hardware, workload: Workload, controller: Controller, setting: Setting):
        self.model, self.hardware, self.workload = model, hardware, workload
        self.controller, self.setting = controller, setting
        apart = bool(setting.staleness) and hardware.gpus > 1
        self.engines = max(round(hardware.gpus * setting.engine_share), 1) if apart else hardware.gpus
        self.ranks = hardware.gpus - self.engines if apart else hardware.gpus
        rng = np.random.default_rng(setting.seed)
        slow = np.exp(hardware.uneven * np.abs(rng.standard_normal(hardware.gpus)))
        self.engine_slowness = slow[: self.engines]
        self.rank_slowness = slow[-self.ranks :]
        self.nodes = -(-hardware.gpus // hardware.per_node)
        self.shard = min(setting.shard or self.ranks, self.ranks)

    def ring(self, ranks: int) -> tuple[float, float]:
        """Bytes per second of a ring of so many ranks, and seconds of its hops."""
        hardware = self.hardware
        if ranks <= hardware.per_node:
            return hardware.ring_in_node, hardware.hop_in_node * max(ranks - 1, 0)
        nodes = -(-ranks // hardware.per_node)
        # NCCL goes over to trees where a ring would be mostly hops.
        hops = hardware.hop_in_node * hardware.per_node + hardware.hop_between_nodes * min(
            nodes, 2 * math.log2(nodes) + 8
        )
        return hardware.ring_between_nodes, hops

    def gather(self, size: float, ranks: int, operations: int) -> float:
        """Seconds of an all-gather or a reduce-scatter of ``size`` bytes in so many operations."""
        if ranks == 1:
            return 0.0
        rate, hops = self.ring(ranks)
        return size * (ranks - 1) / ranks / rate + operations * hops

    @property
    def spread_bytes(self) -> float:
        """Bytes of the parameters that are spread, in float32."""
        return 4 * (self.model.parameters - self.model.whole)

    def pass_gathers(self, *, backward: bool) -> float:
        """Seconds that a pass of the trainer waits for the network, beside its arithmetic."""
        layers, found = self.model.layers, self.gather(self.spread_bytes, self.shard, self.model.layers)
        if backward:
            replicas = self.ranks // self.shard
            found += 2 * self.gather(self.spread_bytes, self.shard, layers)
            found += 2 * self.gather(self.spread_bytes / self.shard, replicas, layers)
        return found

    def optimizer(self) -> float:
        """Seconds to sum the gradients of what is whole, and to move the weights."""
        moved = self.model.whole + (self.model.parameters - self.model.whole) / self.shard
        return 2 * self.gather(4 * self.model.whole, self.ranks, 2) + 28 * moved / self.hardware.memory

    def new_weights(self) -> float:
        """Seconds until every engine has the weights: gathered on the ranks, then sent by the first one to engines."""
        gathered = self.gather(self.spread_bytes, self.shard, 10 * self.model.layers)
        if self.hardware.gpus == 1:
            return 2 * self.model.parameters / self.hardware.memory
        size, hardware = 2 * self.model.parameters, self.hardware
        if self.hardware.gpus <= hardware.per_node:
            return gathered + size / hardware.ring_in_node
        return gathered + size / hardware.card + 2 * math.log2(self.engines) * hardware.hop_between_nodes

    def call(self, samples: int, *, first: bool) -> float:
        """Seconds until all ranks know what to do: packed once, handed out to one after the other, planned by each."""
        cost = self.controller
        if self.ranks == 1:
            return samples * cost.plan
        size = cost.call_bytes if first else cost.again_bytes
        return samples * (cost.pack + cost.unpack + cost.plan + size * (self.ranks - 1) / cost.line)

    def decoding(self) -> Decoding:
        """A step of decoding of one engine."""
        costs, hardware = self.model.costs, self.hardware
        return Decoding(
            2 * self.model.parameters / hardware.memory,
            self.model.key_values / hardware.memory,
            (costs.token + costs.target) / hardware.arithmetic,
            hardware.step_overhead,
        )
