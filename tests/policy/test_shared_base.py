"""Ranks hold their part of a frozen base once, whatever references and critics a run has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from easyvideor1.config import ModelConfig, StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.sharded import ShardedPolicy
from easyvideor1.policy.sharding import RankPlace, sharded_modules
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.memory import Placement
from easyvideor1.policy.sizing.memory import held as held_by_a_rank
from easyvideor1.policy.spread import is_spread, local

pytestmark = pytest.mark.model

PPO = StageConfig(name="ppo", advantage="gae", kl={"estimator": "k2", "coef": 0.1, "reference": "ema"})


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], RankPlace]]:
    """Makes this process the first of some ranks. The others do not exist: what needs them, as writing a checkpoint, is
    not done here."""
    monkeypatch.setattr(RankPlace, "holders", lambda _: None)

    def get(ranks: int) -> RankPlace:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        return RankPlace(0, ranks, ranks, torch.device("cpu"))

    yield get
    dist.destroy_process_group()


def held(*models: torch.nn.Module) -> int:
    """Bytes of this rank's parameters, each piece of memory once."""
    parts = [local(parameter) for model in models for parameter in model.parameters()]
    assert not any(part.is_meta for part in parts)
    return sum({part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}.values())


def expected(policy: Policy, ranks: int, copies: int) -> tuple[int, int]:
    """Bytes of a rank by the model of one process: what every rank has whole once, of layers a part; trained parameters
    in every copy. Second, what more it takes where ranks do not divide the rows of a weight: padding, and a part of its
    own in each copy."""
    modules, kept = sharded_modules(policy.family, policy.model)
    spread = {p: None for module in modules for p in module.parameters() if p not in kept}
    total, extra = 0, 0
    for parameter in policy.model.parameters():
        times = 1 + copies if parameter.requires_grad else 1
        if parameter not in spread:
            total += times * parameter.nbytes
            continue
        total += times * parameter.nbytes // ranks
        if len(parameter) % ranks:
            extra += (1 + copies) * math.ceil(len(parameter) / ranks) * parameter[0].nbytes
    return total, extra


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "options", [{"lora": {"rank": 4}}, {"freeze": ("vision", "merger")}], ids=["adapters", "whole"]
)
def test_copies_take_no_more_than_what_is_trained(
    tiny_checkpoint: Path, join: Callable[[int], RankPlace], ranks: int, options: dict[str, object]
) -> None:
    if "lora" in options:
        pytest.importorskip("peft")
    config = ModelConfig(path=str(tiny_checkpoint), device="cpu", **options)
    place = join(ranks)
    policy = ShardedPolicy.open_sharded(config, tiny_checkpoint, [PPO], place)
    assert policy.copies.keys() == {"reference", "critic"}
    total, extra = expected(Policy.open(config), ranks, copies=2)
    found = held(policy.model, *policy.copies.values())
    assert total <= found <= total + extra
    if ranks == 2:
        assert extra == 0
        sizes = measure_model(policy.family, config, tiny_checkpoint)
        predicted, _ = held_by_a_rank(sizes, Placement(ranks, ranks, on_cpu=True))
        assert predicted.weights + 2 * predicted.trained == pytest.approx(found, rel=1e-3), "what evr1 fit says"
    policy.begin(PPO)
    for each in policy.copies.values():
        for copied, own in zip(each.parameters(), policy.model.parameters(), strict=True):
            assert is_spread(copied) == is_spread(own) and torch.equal(local(copied), local(own))


def test_a_frozen_weight_that_is_read_again_is_read_for_all(
    tiny_checkpoint: Path, join: Callable[[int], RankPlace]
) -> None:
    pytest.importorskip("peft")
    config = ModelConfig(path=str(tiny_checkpoint), device="cpu", lora={"rank": 4})
    policy = ShardedPolicy.open_sharded(config, tiny_checkpoint, [PPO], join(2))
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if not parameter.requires_grad:
                local(parameter).zero_()
    policy.load(tiny_checkpoint)
    policy.begin(PPO)
    wanted = dict(Policy.open(config).model.named_parameters())
    for each in policy.copies.values():
        for name, copied in each.named_parameters():
            whole = wanted[name].detach()
            part = whole.chunk(2)[0] if is_spread(copied) else whole
            assert torch.equal(local(copied), part), name
