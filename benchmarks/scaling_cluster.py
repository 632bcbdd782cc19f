"""What the devices of a simulated cluster take for the parts of a step: closed formulas, no events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from benchmarks.scaling_costs import Controller, Hardware, Model, Workload
from benchmarks.scaling_events import Decoding


@dataclass(frozen=True, slots=True)
class Setting:
    """How a cluster is used. ``staleness`` 0 has engines on the trainer's GPUs; more gives them GPUs apart.

    ``engine_share`` is the share of GPUs that generate then. ``shard`` is ``cluster.shard_size``. ``split`` cuts the
    responses of a prompt over engines where there are more engines than prompts, which a run does not. Of ``steps`` the
    first are left out, ``lead`` of them, until the state is steady; and the last ones, which no later step disturbs.
    """

    staleness: int = 0
    engine_share: float = 0.5
    shard: int = 0
    split: bool = False
    steps: int = 20
    seed: int = 0

    @property
    def lead(self) -> int:
        """Steps before those that count: a synchronous step begins with idle engines, whatever came before it."""
        return 4 if self.staleness else 1

    @property
    def counted(self) -> slice:
        """The steps that count, at least one. A step ahead, short and long steps take turns: an even number counts."""
        first = min(self.lead, self.steps - 1)
        count = max(self.steps - self.staleness - first, 1)
        if self.staleness and count > 1:
            count -= count % 2
        return slice(first, first + count)


@cache
def _normal(count: int) -> np.ndarray:
    """The middles of ``count`` equally likely parts of a normal distribution, in their order."""
    return np.array([NormalDist().inv_cdf((number + 0.5) / count) for number in range(count)])


def draw(workload: Workload, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Visual tokens ``(P,)`` of the prompts of a step, and tokens ``(P, G)`` of the responses to them.

    Every part of a distribution occurs equally often and only the order is drawn: steps and clusters of any size have
    the same work per prompt.
    """
    rng, count = np.random.default_rng((seed, step)), workload.prompts
    places = (rng.permutation(count) + 0.5) / count
    video = workload.video_tokens * (workload.least + (1.0 - workload.least) * places)
    normal = rng.permutation(_normal(count * workload.group)).reshape(count, workload.group)
    lengths = workload.median * np.exp(workload.spread * normal)
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
        # Parts of half a normal distribution, in an order that is drawn: clusters of any size have the same mean speed.
        slow = np.exp(hardware.uneven * rng.permutation(_normal(2 * hardware.gpus)[hardware.gpus :]))
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
    def spread(self) -> float:
        """Parameters that are spread over ranks."""
        return self.model.parameters - self.model.whole

    def pass_gathers(self, *, backward: bool) -> float:
        """Seconds of the network in a pass of the trainer: weights in bfloat16, sums of gradients in float32."""
        layers, shard = self.model.layers, self.shard
        found = self.gather(2 * self.spread, shard, layers)
        if backward:
            found += self.gather(2 * self.spread, shard, layers) + self.gather(4 * self.spread, shard, layers)
            found += 2 * self.gather(4 * self.spread / shard, self.ranks // shard, layers)
        return found

    def optimizer(self) -> float:
        """Seconds to sum the gradients of what is whole, and to move the weights."""
        moved = self.model.whole + (self.model.parameters - self.model.whole) / self.shard
        return 2 * self.gather(4 * self.model.whole, self.ranks, 2) + 28 * moved / self.hardware.memory

    def new_weights(self) -> float:
        """Seconds until every engine has the weights: gathered on the ranks, then sent by the first one to engines.

        Engines on the GPUs of ranks get them by gloo through the CPU, those on GPUs of their own by NCCL.
        """
        size, hardware = 2 * self.model.parameters, self.hardware
        if self.hardware.gpus == 1:
            return size / self.hardware.memory
        gathered = self.gather(4 * self.spread, self.shard, 10 * self.model.layers)
        if not self.setting.staleness:
            return gathered + size / hardware.through_cpu
        if self.hardware.gpus <= hardware.per_node:
            return gathered + size / hardware.ring_in_node
        return gathered + size / hardware.card + 2 * math.log2(self.engines) * hardware.hop_between_nodes

    def call(self, samples: int, *, first: bool) -> float:
        """Seconds until all ranks know what to do: planned, packed and handed out by the first one, to each its share.

        After the first call of a step a rank has the prompts and responses of its share only if it had them before.
        """
        cost, others = self.controller, 1 - 1 / self.ranks
        if self.ranks == 1:
            return samples * cost.plan
        size = cost.call_bytes if first else cost.again_bytes + others * cost.call_bytes
        return samples * (cost.plan + cost.pack + others * size / cost.line + cost.unpack / self.ranks)

    def decoding(self) -> Decoding:
        """A step of decoding of one engine."""
        costs, hardware = self.model.costs, self.hardware
        return Decoding(
            2 * self.model.parameters / hardware.memory,
            self.model.key_values / hardware.memory,
            (costs.token + costs.target) / hardware.arithmetic,
            hardware.step_overhead,
        )
