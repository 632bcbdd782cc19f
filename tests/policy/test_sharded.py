"""Models that ranks cannot split are refused by name, before any rank waits for another."""

import pytest
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.policy.sharded import ShardedPolicy
from easyvideor1.policy.sharding import RankPlace
from easyvideor1.types import ConfigError

pytestmark = pytest.mark.model


def refusal(checkpoint, ranks: int, **model) -> str:
    place = RankPlace(0, ranks, ranks, torch.device("cpu"), sequence_parallel=ranks)
    with pytest.raises(ConfigError) as error:
        ShardedPolicy.open_sharded(ModelConfig(path=str(checkpoint), device="cpu", **model), checkpoint, [], place)
    return str(error.value)


def test_heads_that_ranks_do_not_divide(tiny_checkpoint) -> None:
    said = refusal(tiny_checkpoint, 4)
    assert "cluster.sequence_parallel is 4, which does not divide the 2 attention heads" in said
    assert "set a divisor" in said


def test_layers_of_linear_attention(family_checkpoints) -> None:
    said = refusal(family_checkpoints["qwen3_5"], 2)
    assert "layers of linear attention" in said and "set cluster.sequence_parallel=1" in said


def test_another_attention(tiny_checkpoint) -> None:
    assert "set model.attention to sdpa" in refusal(tiny_checkpoint, 2, attention="eager")
