"""``python -m benchmarks.shared_prefix``: what shared prefixes gain on two ranks, beside what they gain on one.

The gain is the time of an update's forward and backward passes over equal sequences that share nothing, each with a
video of its own, over that of groups that answer one video each. Gradients are summed over ranks; the step of the
optimiser, which does not depend on sharing, is left out. Both go through the same code, in rows of the same bound.
Ranks take micro-batches of their own (data parallel), and compute every micro-batch together (sequence parallel). The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Timing, by_round, check_packages, interleaved, table, timed
from benchmarks.step_paths import PASS_TOKENS, StepData, make_step_data, write_model
from easyvideor1.config import ClusterConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.worker_messages import WorkerMedia
from easyvideor1.families.family import Family
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.policy import RankedPolicy
from easyvideor1.types import Frames, MediaPlan, MediaRef

#: How two ranks train together.
CLUSTERS: Mapping[str, ClusterConfig] = {
    "data parallel": ClusterConfig(ranks=2),
    "sequence parallel": ClusterConfig(ranks=2, sequence_parallel=2),
}
GOAL = 0.9
LENGTHS = (56, 72)
STAGE = StageConfig(
    name="benchmark",
    objective="reinforce",
    micro_batch_tokens=PASS_TOKENS,
    optimizer=OptimizerConfig(lr=1e-6, max_grad_norm=1e9),
)


@dataclass(frozen=True, slots=True)
class Size:
    """Groups of responses to prompts of so many tokens at least."""

    groups: int = 2
    responses: int = 4
    prompt: int = 2000


@dataclass(slots=True)
class Noise:
    """Frames that depend on their plan alone, made once."""

    held: dict[str, Frames] = field(default_factory=dict)

    def load(self, ref: MediaRef, plan: MediaPlan) -> Frames:
        """The frames of a plan."""
        if plan.digest not in self.held:
            rng = np.random.default_rng(zlib.crc32(plan.digest.encode()))
            shape = (len(plan.frame_indices), plan.height, plan.width, 3)
            self.held[plan.digest] = Frames(rng.integers(0, 256, shape, dtype=np.uint8), plan)
        return self.held[plan.digest]


def open_noise() -> WorkerMedia:
    """What a rank reads frames with."""
    return WorkerMedia(Noise().load)


def shared_prefix_kept(
    checkpoint: Path, cluster: ClusterConfig, *, rounds: int = 3, size: Size | None = None
) -> dict[str, float]:
    """What shared prefixes gain on the ranks of a cluster, and how much of their gain in one process that is.

    Everything is measured in turns. This process must be the only one of its process group.

    Args:
        checkpoint: of a tiny Qwen3-VL (``step_paths.write_model``).
        cluster: the ranks.
        rounds: measured repetitions.
        size: of the updates.

    Returns:
        ``gain_alone`` and ``gain_ranks``: how many times faster passes are where responses share their prompt, by
        the clock; ``shared_prefix_kept``, the second over the first; and ``cpu_kept``, the same by the processor time
        of the first process, which is less sensitive to what else the machine does.
    """
    size = size or Size()
    model = ModelConfig(path=str(checkpoint), device="cpu")
    alone = Policy.open(model)
    alone.begin(STAGE)
    updates = _updates(alone.family, size)
    load = Noise().load
    with Ranks(cluster, None) as ranks:
        shared = RankedPolicy.open_on(ranks, model, checkpoint, [STAGE], open_noise)
        shared.begin(STAGE)
        works = {
            f"{place}, {what}": timed(passes_of(policy, data, load))
            for place, policy in (("alone", alone), ("ranks", shared))
            for what, data in updates.items()
        }
        timings = interleaved(works, rounds, warm_up=1)
    gains = {place: by_round(*_pair(timings, place)) for place in ("alone", "ranks")}
    cpus = {place: separate.cpu / together.cpu for place in gains for separate, together in [_pair(timings, place)]}
    return {
        "gain_alone": gains["alone"],
        "gain_ranks": gains["ranks"],
        "shared_prefix_kept": gains["ranks"] / gains["alone"],
        "cpu_kept": cpus["ranks"] / cpus["alone"],
        **{f"seconds, {name}": timing.wall for name, timing in timings.items()},
    }


def _pair(timings: Mapping[str, Timing], place: str) -> tuple[Timing, Timing]:
    return timings[f"{place}, separate"], timings[f"{place}, shared"]


def _updates(family: Family, size: Size) -> dict[str, StepData]:
    """The same number of responses of the same lengths, in groups and each to a video of its own."""
    shared = make_step_data(
        family, prompt_tokens=size.prompt, responses=size.responses, lengths=LENGTHS, groups=size.groups
    )
    lengths = [len(turn.response_ids) for turn in shared.turns]
    singles = [
        make_step_data(family, prompt_tokens=size.prompt, responses=1, lengths=(length, length), seed=1 + number)
        for number, length in enumerate(lengths)
    ]
    turns = tuple(turn for each in singles for turn in each.turns)
    return {"separate": StepData(turns, shared.advantages, {}), "shared": shared}


def passes_of(policy: Policy, data: StepData, load: LoadFrames) -> Callable[[], None]:
    """The passes of an update of a policy that has begun ``STAGE``."""

    def run() -> None:
        assert policy.options is not None
        batch = UpdateBatch.of(data.turns, data.advantages, policy.options)
        policy.forward_backward(batch, load=load)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured repetitions")
    parser.add_argument("--prompt", type=int, default=Size().prompt, help="tokens of a prompt")
    args = parser.parse_args()
    check_packages()
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory(prefix="easyvideor1-ranks.") as temporary:
        checkpoint = write_model(Path(temporary) / "model")
        for name, cluster in CLUSTERS.items():
            found[name] = shared_prefix_kept(checkpoint, cluster, rounds=args.rounds, size=Size(prompt=args.prompt))
    rows = [[name, *(f"{value:.3g}" for value in list(each.values())[:4])] for name, each in found.items()]
    print(table(f"Gain of shared prefixes (goal: kept >= {GOAL})", ["", "one", "two", "kept", "kept, cpu"], rows))
    print(json.dumps(found))


if __name__ == "__main__":
    from benchmarks import shared_prefix  # what other ranks unpickle must have a module

    shared_prefix.main()
