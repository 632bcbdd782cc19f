"""A policy on several ranks: ``python -m tests.training.ranks.job JOB``.

``JOB`` is a directory with ``job.json``: the checkpoint, the number of ranks, and the scenarios that are played. What
``play`` gives of each is written there, as a test gets it of one process.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.tiny import load_frames, make_plan, make_prompt, random_turns

from easyvideor1.algorithms.kl import next_weight
from easyvideor1.config import ClusterConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.worker_messages import WorkerMedia
from easyvideor1.policy.update_batch import UpdateBatch, update_metrics
from easyvideor1.training.ranks.leader import RankError, Ranks
from easyvideor1.training.ranks.policy import RankedPolicy

#: Rounding of a gradient that is nothing else must not become a step of AdamW.
OPTIMIZER = OptimizerConfig(lr=1e-3, eps=1e-4, weight_decay=0.1, max_grad_norm=0.5, warmup_steps=2)
ADAPTIVE = {"estimator": "k3", "coef": 0.1, "control": "adaptive", "horizon": 2560}


def stage(name, **options):
    return StageConfig(**{"name": name, "micro_batch_tokens": 64, "optimizer": OPTIMIZER, **options})


STAGES = {
    "grpo": stage("grpo", kl=ADAPTIVE),
    "ppo": stage("ppo", advantage="gae", kl={"estimator": "k2", "coef": 0.05, "reference": "ema"}),
    "dpo": stage("dpo", objective="dpo", aggregation="sequence", advantage="reward"),
    "one turn": stage("one", objective="sft", advantage="ones"),
    "brief": stage("brief", kl=ADAPTIVE),
    "adapters": stage(
        "adapters", kl={"estimator": "full", "coef": 0.1, "reference": "adapter-off"}, weighter={"name": "tw_grpo"}
    ),
}


def steps_of(name: str) -> int:
    """Ten, but of the smallest."""
    return 3 if name in ("one turn", "brief") else 10


def open_media(job: Path):
    """Frames are noise, and none come once the job has a file ``stall``."""

    def load(ref, plan):
        while (job / "stall").exists():
            time.sleep(0.1)
        return load_frames(ref, plan)

    return WorkerMedia(load)


def stall(ranks, policy, job: Path) -> str:
    """What is said when another rank waits for its media for ever."""
    (job / "stall").touch()
    ranks.cluster = ranks.cluster.model_copy(update={"deadline": 2.0})
    try:
        policy.logprobs(turns_of(policy.family)[0], temperature=1.0, load=load_frames)
    except RankError as error:
        return str(error)
    return "nothing"


def turns_of(family):
    """Ragged groups of text, an image and videos."""
    prompts = [
        make_prompt(family, "<video>What moves?", make_plan("video", frames=2)),
        make_prompt(family, "What?"),
        make_prompt(family, "<image> <video>?", make_plan("image"), make_plan("video", frames=4)),
        make_prompt(family, "Answer with a letter."),
    ]
    lengths = [[5, 2, 3], [4], [2, 6], [3, 3, 1, 7]]
    turns = [turn for n, prompt in enumerate(prompts) for turn in random_turns(prompt, lengths[n], seed=n)]
    return turns, torch.tensor([n for n, group in enumerate(lengths) for _ in group])


def batch_of(policy, name, step):
    turns, group = turns_of(policy.family)
    fields = {}
    if name == "one turn":
        turns, group = turns[:1], group[:1]
    elif step % 4 == 2:  # nothing that the vision tower sees
        kept = [n for n, turn in enumerate(turns) if not turn.prompt.media]
        turns, group = [turns[n] for n in kept], group[kept]
    if name == "ppo":
        values = list(policy.values(turns, load=load_frames).values())
        fields = {"values": values, "returns": [value + torch.linspace(1, 2, len(value)) for value in values]}
    if name == "dpo":
        fields = {
            "pairs": torch.tensor([[0, 1], [1, 2], [4, 5], [6, 8]])
            if len(turns) > 5
            else torch.tensor([[1, 2], [3, 4]])
        }
        fields["trajectory"] = torch.arange(len(turns))
    advantages = torch.linspace(-1, 1, len(turns)) if len(turns) > 1 else torch.ones(1)
    coefficient = policy.kl_weight.coefficient
    return UpdateBatch.of(turns, advantages, policy.options, group=group, kl_coef=coefficient, **fields)


def step_of(policy, name, step):
    batch = batch_of(policy, name, step)
    metrics = {}
    if policy.critic is not None:
        metrics |= policy.critic_forward_backward(batch, load=load_frames) | policy.critic_step(step)
    found = policy.forward_backward(batch, load=load_frames)
    assert sorted(set(found.observations.turn.tolist())) == list(range(len(batch.turns)))
    metrics |= update_metrics(found.sums) | policy.optimizer_step(step)
    if policy.kl_weight.adaptive:
        policy.kl_weight = next_weight(policy.kl_weight, metrics["policy/kl"], len(batch.turns))
    return metrics | {"kl_coef": policy.kl_weight.coefficient}


def marks(policy) -> int:
    """What ranks have begun so far, which the watch of stalls looks at; 0 in one process."""
    return policy.phase.marks if isinstance(policy, RankedPolicy) else 0


def save(policy, directory: Path) -> None:
    """Save, which must be seen to go on tensor by tensor."""
    began = marks(policy)
    policy.save(directory)
    assert not began or marks(policy) - began > len(policy.model.state_dict())


def play(policy, name, checkpoint, out: Path, *, background: bool = False) -> None:
    """Ten steps of a stage: metrics, weights, and checkpoints of the first and the fifth step.

    In the ``background`` the latter is written while the sixth is done.
    """
    policy.load(checkpoint)
    policy.begin(STAGES[name])
    metrics = []
    for step in range(1, steps_of(name) + 1):
        if step == 6 and background:
            with closing(policy.snapshot()) as snapshot, ThreadPoolExecutor(1) as pool:
                written = pool.submit(snapshot.write, out / f"{name} 5")
                metrics.append(step_of(policy, name, step))
                written.result()
        else:
            metrics.append(step_of(policy, name, step))
        if step in (1, 5):
            (out / f"{name} {step}").mkdir(parents=True)
            if step == 1 or not background:
                save(policy, out / f"{name} {step}")
    finish(policy, name, out, metrics)


def resume(policy, name, checkpoint, before: Path, out: Path) -> None:
    """The last five steps, from the checkpoint in ``before``."""
    policy.load(checkpoint)
    policy.begin(STAGES[name])
    policy.restore(before)
    out.mkdir(parents=True, exist_ok=True)
    finish(policy, name, out, [step_of(policy, name, step) for step in range(6, steps_of(name) + 1)])


def finish(policy, name, out, metrics):
    turns, _ = turns_of(policy.family)
    numbers = policy.logprobs(turns, temperature=0.9, load=load_frames)
    assert list(numbers) == list(range(len(turns)))
    with closing(policy.weights()) as given_up:  # the other ranks gather them all, and do not wait for ever
        next(given_up)
    began = marks(policy)
    tensors = {key: tensor.clone().contiguous() for key, tensor in policy.weights()}
    assert not began or marks(policy) - began >= len(tensors)
    tensors["logprobs"] = torch.cat(list(numbers.values()))
    if policy.options.kl.estimator != "none":
        found = policy.kl(turns, temperature=0.9, load=load_frames)
        tensors["kl"] = torch.cat(list(found.values()))
    save_file(tensors, out / f"{name}.safetensors")
    (out / f"{name}.json").write_text(json.dumps(metrics))


def main(job: Path) -> None:
    torch.set_num_threads(1)
    asked = json.loads((job / "job.json").read_text())
    checkpoint, scenarios = Path(asked["checkpoint"]), asked["scenarios"]
    cluster = ClusterConfig(**asked["cluster"])
    model = ModelConfig(path=str(checkpoint), device="cpu", **asked["model"])
    with Ranks(cluster, None) as ranks:
        policy = RankedPolicy.open_on(
            ranks, model, checkpoint, [STAGES[name] for name in scenarios], partial(open_media, job)
        )
        for name in scenarios:
            play(policy, name, checkpoint, job / "out", background=True)
        for name, before in asked["resume"].items():
            resume(policy, name, checkpoint, Path(before), job / "resumed")
        (job / "stalled.txt").write_text(stall(ranks, policy, job))


if __name__ == "__main__":
    from tests.training.ranks import job  # what other ranks unpickle must have a module

    job.main(Path(sys.argv[1]))
