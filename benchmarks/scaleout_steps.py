"""The steps that ``benchmarks.scaleout`` compares: ``python -m benchmarks.scaleout_steps CHECKPOINT OUT``.

Ten steps of GRPO on random responses to prompts with text, images and videos, in groups of unequal size; frames are
noise. Metrics, weights and log-probs go to ``OUT``. ``--cluster '{"ranks": 2}'`` is on two ranks.
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.family_cases import CASES, corpus, load_noise, render_case
from easyvideor1.config import ClusterConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.engines.worker_messages import WorkerMedia
from easyvideor1.families.family import Family, VisualInputs
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch, update_metrics
from easyvideor1.training.ranks.leader import Ranks
from easyvideor1.training.ranks.policy import RankedPolicy
from easyvideor1.types import Turn

STEPS = 10
_PROMPTS = ("video", "text", "image", "video, system", "video, odd rate")
_LENGTHS = ((5, 12, 3, 9), (4,), (2, 6), (3, 13, 1, 7, 5), (8, 8))
#: A gradient that is nothing but rounding must not become a step of AdamW, hence the large ``eps``.
_STAGE = StageConfig(
    name="grpo",
    kl="k3",
    micro_batch_tokens=512,
    optimizer=OptimizerConfig(lr=1e-3, eps=1e-4, weight_decay=0.1, max_grad_norm=0.5, warmup_steps=2),
)


def write_checkpoint(directory: Path) -> Path:
    """A tiny Qwen3-VL with random weights; its heads and layers can be shared out among four ranks."""
    return write_tiny_checkpoint(directory, corpus(), width=64, layers=4, vision_layers=2, vocabulary=1024)


def turns_of(family: Family) -> tuple[list[Turn], torch.Tensor]:
    """Random responses in ragged groups, and the group of each."""
    rng = np.random.default_rng(0)
    turns, groups = [], []
    for number, (name, lengths) in enumerate(zip(_PROMPTS, _LENGTHS, strict=True)):
        prompt = render_case(family, CASES[name])
        for length in lengths:
            ids = rng.integers(10, 250, length)
            turns.append(Turn(prompt, ids, np.ones(length, dtype=bool), None, "length", ""))
            groups.append(number)
    return turns, torch.tensor(groups)


def play(policy: Policy | RankedPolicy, out: Path) -> None:
    """Train, and write what came out."""
    policy.begin(_STAGE)
    turns, groups = turns_of(policy.family)
    metrics = []
    for step in range(1, STEPS + 1):
        # The third step has text alone: no rank has anything for its vision tower.
        kept = [n for n, turn in enumerate(turns) if step != 3 or not turn.prompt.media]
        advantages = torch.linspace(-1, 1, len(kept)) if len(kept) > 1 else torch.ones(1)
        batch = UpdateBatch.of([turns[n] for n in kept], advantages, _STAGE, group=groups[kept])
        found = policy.forward_backward(batch, load=load_noise)
        metrics.append(update_metrics(found.sums) | policy.optimizer_step(step))
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in policy.weights()}
    logprobs = policy.logprobs(turns, temperature=1.0, load=load_noise)
    tensors["logprobs"] = torch.cat([logprobs[n] for n in range(len(turns))])
    save_file(tensors, out / "weights.safetensors")
    (out / "metrics.json").write_text(json.dumps(metrics))


def largest_difference(one: Path, other: Path) -> float:
    """Of all metrics, weights and log-probs that two plays have written; relative where a number is larger than 1."""
    rows = [json.loads((out / "metrics.json").read_text()) for out in (one, other)]
    weights = [load_file(out / "weights.safetensors") for out in (one, other)]
    if weights[0].keys() != weights[1].keys() or [row.keys() for row in rows[0]] != [row.keys() for row in rows[1]]:
        raise ValueError(f"{one} and {other} have not the same tensors and metrics")
    pairs = [(mine[key], theirs[key]) for mine, theirs in zip(*rows, strict=True) for key in mine]
    found: list[float] = [abs(mine - theirs) / max(1.0, abs(mine)) for mine, theirs in pairs]
    for name, tensor in weights[0].items():
        found.append(float(((tensor - weights[1][name]).abs() / tensor.abs().clamp(min=1)).max()))
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{one} or {other} has numbers that are not finite")
    return max(found)


@torch.no_grad()
def logit_difference(checkpoint: Path, exported: Path) -> float:
    """The largest difference of logits between a policy and what transformers alone makes of an exported directory.

    Of a prompt with a video; by the policy's family on one side, by the model's own ``forward`` on the other.
    """
    from transformers import AutoModelForImageTextToText

    policy = Policy.open(ModelConfig(path=str(checkpoint), device="cpu", attention="eager"))
    batch = collate(pack_turns([turns_of(policy.family)[0][0]], share_prefix=False), policy.family, load_noise)
    length = batch.input_ids.shape[1]
    assert isinstance(batch.visual, VisualInputs)
    features = policy.family.encode(policy.model, batch.visual)
    embeddings = policy.family.embed(policy.model, batch.input_ids, features)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    wanted = policy.family.logits(policy.model, policy.family.decode(policy.model, embeddings, batch.positions, mask))
    model, loading = AutoModelForImageTextToText.from_pretrained(
        exported, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    if any(loading.values()):
        raise ValueError(f"transformers did not find in {exported} all that it needs: {loading}")
    inputs = {"pixel_values_videos": batch.visual.pixel_patches, "video_grid_thw": batch.visual.grid_thw}
    found = model.eval()(input_ids=batch.input_ids, position_ids=batch.positions, **inputs).logits
    return float((found - wanted).abs().max())


def main(words: list[str] | None = None) -> None:
    """Play the steps on one process or several ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cluster", type=json.loads, default={"ranks": 1}, help="cluster.* as JSON")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    model = ModelConfig(path=str(asked.checkpoint), device="cpu")
    cluster = ClusterConfig.model_validate(asked.cluster)
    ranks: Any = Ranks(cluster, None) if cluster.ranks > 1 else nullcontext()
    with ranks:
        if cluster.ranks > 1:
            policy = RankedPolicy.open_on(ranks, model, asked.checkpoint, [_STAGE], partial(WorkerMedia, load_noise))
            play(policy, asked.out)
        else:
            play(Policy.open(model), asked.out)


if __name__ == "__main__":
    main()
