"""One of two processes that train a model together: ``python -m tests.packing.two_ranks JOB RANK``.

``JOB`` is a directory with ``job.json``: checkpoints by name. Each rank writes ``calls.RANK.json``,
``updates.RANK.json``, ``refused.RANK.json`` and ``heads.RANK.json``; the first one ``<name>, <scenario>.safetensors``,
the summed gradients of both ranks.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from benchmarks.family_cases import CASES, load_noise, render_case
from safetensors.torch import save_file
from tests.tiny import random_turns
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from easyvideor1.attention.functions import split_attention, tree_attention
from easyvideor1.attention.layout import Layout, SplitLayout
from easyvideor1.attention.sequence_parallel import SequenceRanks
from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.families.features import FeatureCache, FeatureStore
from easyvideor1.families.vision_tower import tower_is_sharded
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate, equal_micro_batches, idle_batch
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.update_batch import UpdateBatch
from easyvideor1.types import ConfigError

#: Micro-batches of the two ranks, each a list of cases. In the second, one rank has fewer of them than the other.
SCENARIOS = {
    "text beside media": ([["text"]], [["image", "interleaved"]]),
    "fewer beside more": ([["text"], ["video"], ["text", "image"]], [["text"]]),
}
#: Micro-batches that both ranks compute together: one has an image of a single step, and one has no media.
TOGETHER = [["video", "text"], ["image"], ["interleaved"], ["text"]]
#: Heads and those of keys: as many as ranks or more, fewer, and numbers that ranks do not divide.
HEADS = [(4, 4), (4, 2), (4, 1), (6, 3)]


def open_policy(name, checkpoint):
    """The tests' policies: ``family`` or ``family without group and group``, which are frozen."""
    kind, _, frozen = name.partition(" without ")
    family = "tests.families.glm4v:Glm4V" if kind == "glm4v" else ""
    freeze = tuple(filter(None, frozen.split(" and ")))
    return Policy.open(
        ModelConfig(path=checkpoint, family=family, device="cpu", freeze=freeze, gradient_checkpointing=True)
    )


def batches_of(family, micro_batches, ranks=None):
    """Two responses to each case, and of each token its weight in the loss."""
    for cases in micro_batches:
        turns = [turn for case in cases for turn in random_turns(render_case(family, CASES[case]), [4, 3], len(case))]
        rows = pack_turns(turns, share_prefix=family.shares_prefix)
        yield range(len(turns)), collate(rows, family, load_noise, ranks=ranks)


def backward(policy, order, batch):
    """A loss of log-probs; tokens of an idle micro-batch have weight 0."""
    logprobs, _ = response_logprobs(policy.family, policy.model, batch)
    weights = torch.linspace(-1, 1, len(logprobs) + 1)[1:] if order else torch.zeros(len(logprobs))
    (logprobs * weights).sum().backward()


def shard(policy, mesh: DeviceMesh):
    """As a trainer would: layers, then what is called as a whole; embeddings and head stay with every rank."""
    model = policy.model.model
    kept = set(model.get_input_embeddings().parameters())
    for layer in model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model.language_model, mesh=mesh, ignored_params=kept)
    assert not tower_is_sharded(policy.family, policy.model), "only the language model is"
    for block in model.visual.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model.visual, mesh=mesh)
    assert tower_is_sharded(policy.family, policy.model)


def update_of(policy):
    """An update of several groups, and its plan: a micro-batch for each row, and the first rank has one of them."""
    policy.begin(StageConfig(name="rl", objective="reinforce", micro_batch_tokens=1))
    prompts = [render_case(policy.family, CASES[case]) for case in ("text", "image", "interleaved")]
    turns = [turn for n, prompt in enumerate(prompts) for turn in random_turns(prompt, [4, 3], n)]
    batch = UpdateBatch.of(turns, torch.linspace(-1, 1, len(turns)), policy.options)
    return batch, policy.plan_update(batch)


def together(policy, ranks):
    """Gradients of micro-batches that the ranks compute together, an idle one among them."""
    policy.model.train()
    policy.model.zero_grad()
    for order, batch in batches_of(policy.family, TOGETHER, ranks):
        backward(policy, order, batch)
    backward(policy, (), idle_batch(policy.family, torch.device("cpu"), ranks))
    return gradients(policy.model)


def heads_apart(heads, keys, ranks):
    """Largest difference of this rank's part of an attention, and of its gradients, from that of one process."""
    stretches = ((0, 7, 16), (7, 10, 10), (10, 16, 16), (16, 22, 22))
    shapes = [(1, count, 22, 8) for count in (heads, keys, keys)]
    generator = torch.Generator().manual_seed(heads * keys)
    whole = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    wanted = tree_attention(*whole, Layout(stretches, 22), 0.3)
    weights = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    (wanted * weights).sum().backward()
    own = slice(ranks.index * 11, (ranks.index + 1) * 11)
    parts = [tensor.detach()[:, :, own].clone().requires_grad_() for tensor in whole]
    found = split_attention(*parts, SplitLayout(stretches, 22, ranks), 0.3)
    (found * weights[:, :, own]).sum().backward()
    pairs = [(found, wanted), *((part.grad, tensor.grad) for part, tensor in zip(parts, whole, strict=True))]
    return max(float((one - other[:, :, own]).abs().max()) for one, other in pairs)


def refusal(policy, directory: Path) -> str:
    """What a cache of features says to a frozen tower."""
    policy.model.requires_grad_(False)
    try:
        FeatureCache(policy.family, policy.model, FeatureStore(directory, 1 << 20))
    except ConfigError as error:
        return str(error)
    return ""


def gradients(model):
    """Summed over ranks, whole; of what no rank has a gradient for, none."""
    found = {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if isinstance(parameter, DTensor):  # FSDP takes the mean
            grad = None if grad is None else grad.full_tensor() * dist.get_world_size()
        else:
            grad = torch.zeros_like(parameter) if grad is None else grad
            dist.all_reduce(grad)
        if grad is not None:
            found[name] = grad.contiguous()
    return found


def main(job: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{job / 'meet'}", rank=rank, world_size=2, timeout=timedelta(seconds=100)
    )
    mesh = init_device_mesh("cpu", (2,))
    ranks = SequenceRanks(mesh.get_group(), rank, 2)
    apart = [heads_apart(heads, keys, ranks) for heads, keys in HEADS]
    (job / f"heads.{rank}.json").write_text(json.dumps(apart))
    calls: dict[str, list[int]] = {}
    refused = {}
    updates = {}
    for name, checkpoint in json.loads((job / "job.json").read_text()).items():
        policy = open_policy(name, checkpoint)
        policy.model.train()
        count: list[int] = []
        policy.model.model.visual.patch_embed.register_forward_hook(lambda *_, into=count: into.append(1))

        def run(scenario, policy=policy, count=count):
            policy.model.zero_grad()
            mine = SCENARIOS[scenario][rank]
            given = equal_micro_batches(batches_of(policy.family, mine), len(mine), policy.family, torch.device("cpu"))
            found = []
            for order, batch in given:
                count.clear()
                backward(policy, order, batch)
                found.append(len(count))
            return found

        calls[f"{name}, whole"] = run("text beside media")
        shard(policy, mesh)
        for scenario in SCENARIOS:
            calls[f"{name}, {scenario}"] = run(scenario)
            summed = gradients(policy.model)
            if rank == 0:
                save_file(summed, job / f"{name}, {scenario}.safetensors")
        batch, plan = update_of(policy)
        found = policy.forward_backward(batch, plan[:1] if rank == 0 else plan[1:], load=load_noise)
        updates[name] = {"sums": found.sums, "turns": found.observations.turn.tolist()}
        summed = gradients(policy.model)
        if rank == 0:
            save_file(summed, job / f"{name}, update.safetensors")
        if policy.family.shares_prefix:
            summed = together(policy, ranks)
            if rank == 0:
                save_file(summed, job / f"{name}, together.safetensors")
        with torch.no_grad():  # the weights stay gathered after this one, and the next must know all the same
            policy.model.eval()
            calls[f"{name}, no gradient"] = []
            for cases in ["text"], ["text"]:
                count.clear()
                ((_, batch),) = batches_of(policy.family, [cases if rank == 0 else ["image"]])
                response_logprobs(policy.family, policy.model, batch)
                calls[f"{name}, no gradient"].append(len(count))
        refused[name] = refusal(policy, job / "features")
    (job / f"updates.{rank}.json").write_text(json.dumps(updates))
    (job / f"refused.{rank}.json").write_text(json.dumps(refused))
    (job / f"calls.{rank}.json").write_text(json.dumps(calls))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
