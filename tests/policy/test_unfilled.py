"""A rank that reads its own rows of a checkpoint opens the policy that one process opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sharded import ShardedPolicy
from easyvideor1.policy.sharding import RankPlace
from easyvideor1.policy.spread import is_sharded

pytestmark = pytest.mark.model

FROZEN = {"freeze": ("vision", "merger"), "dtype": "bfloat16"}
#: What the model is opened as, what its file holds, and whether frozen weights are kept in bfloat16 then.
CASES = {
    "as the model": ({}, "float32", False),
    "in bfloat16": ({}, "bfloat16", False),
    "frozen, in bfloat16": (FROZEN, "bfloat16", True),
    "frozen, of numbers that bfloat16 has": (FROZEN, "rounded", True),
    "frozen, of numbers that bfloat16 has not": (FROZEN, "float32", False),
    "adapters": ({"lora": {"rank": 4}}, "float32", False),
    "with older names": ({}, "renamed", False),
    "no safetensors": ({}, "pickle", False),
}
PPO = StageConfig(name="ppo", advantage="gae", kl={"estimator": "k2", "coef": 0.1})


@pytest.fixture
def place() -> Iterator[RankPlace]:
    """The place of a rank that is alone, which shards all the same."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield RankPlace(0, 1, 1, torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def written(checkpoint: Path, out: Path, kind: str) -> Path:
    shutil.copytree(checkpoint, out)
    tensors = load_file(out / "model.safetensors")
    if kind in ("bfloat16", "rounded"):
        tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    if kind == "rounded":
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
    if kind in ("renamed", "pickle"):
        tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    if kind == "pickle":
        (out / "model.safetensors").unlink()
        torch.save(tensors, out / "pytorch_model.bin")
    else:
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_policy_of_one_process(tiny_checkpoint: Path, tmp_path: Path, place: RankPlace, case: str) -> None:
    options, kind, halved = CASES[case]
    if "lora" in options:
        pytest.importorskip("peft")
    checkpoint = written(tiny_checkpoint, tmp_path / "checkpoint", kind)
    config = ModelConfig(path=str(checkpoint), device="cpu", **options)
    torch.use_deterministic_algorithms(True)  # as runs do: then torch fills new memory
    try:
        found, wanted = ShardedPolicy.open_sharded(config, checkpoint, [PPO], place), Policy.open(config)
    finally:
        torch.use_deterministic_algorithms(False)
    assert is_sharded(found.model)
    assert any(p.dtype == torch.bfloat16 for p in found.model.parameters()) == halved
    for policy in (found, wanted):
        policy.begin(PPO)
    copies = [(each.model, each.reference, each.critic.model) for each in (found, wanted)]
    for mine, theirs in zip(*copies, strict=True):
        for (name, one), (same, other) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
            one = one.full_tensor() if hasattr(one, "full_tensor") else one
            assert name == same and one.dtype == other.dtype and torch.equal(one, other), name
            assert one.requires_grad == other.requires_grad, name
        for (name, one), (same, other) in zip(mine.named_buffers(), theirs.named_buffers(), strict=True):
            assert name == same and torch.equal(one, other), name
        assert mine.training == theirs.training
    if kind != "pickle":
        assert not any(tensor.is_meta for tensor in (*found.model.parameters(), *found.model.buffers()))
    for policy, name in ((found, "mine"), (wanted, "theirs")):
        (tmp_path / name).mkdir()
        with closing(policy.snapshot()) as snapshot:
            snapshot.write(tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
