"""From options to a micro-batch, and what options ask for."""

import math

import pytest
import torch
from tests.algorithms.batches import float64, loss_of, random_batch, stage

from easyvideor1.algorithms.needs import NEEDS
from easyvideor1.algorithms.objectives import token_weights
from easyvideor1.algorithms.token_batch import stage_needs, token_batch
from easyvideor1.types import ConfigError

NAN = math.nan


def assemble(options, **changes):
    values = {
        "logprobs": float64([-1.0, -2.0, float("-inf"), -1.5]),
        "engine_logprobs": float64([-1.5, NAN, -3.0, -1.0]),
        "advantages": float64([1.0, 1.0, 1.0, -1.0]),
        "sequence": torch.tensor([0, 0, 0, 1]),
        "weights": float64([0.25, 0.25, 0.0, 0.5]),
        "group": torch.tensor([0, 0, 0, 0]),
    }
    return token_batch(options, **{**values, **changes})


def test_the_default_is_the_trainers_own_ratio_and_nothing_else():
    batch, metrics = assemble(stage())
    assert batch.logprobs.tolist() == batch.old_logprobs.tolist() == [-1.0, -2.0, 0.0, -1.5]
    assert batch.base_weights is None and batch.weights.tolist() == [0.25, 0.25, 0.0, 0.5] and metrics == {}


def test_log_probs_of_the_engine_are_taken_where_they_are_known():
    batch, _ = assemble(stage(objective={"old_logprobs": "engine"}))
    assert batch.old_logprobs.tolist() == [-1.5, -2.0, 0.0, -1.0]


def test_a_correction_multiplies_the_weights_and_is_reported():
    batch, metrics = assemble(stage(correction={"name": "tis", "cap": 1.2}))
    factors = [1.2, 1.0, 1.0, math.exp(-0.5)]
    assert batch.weights.tolist() == pytest.approx([0.25 * 1.2, 0.25, 0.0, 0.5 * factors[3]])
    assert batch.base_weights.tolist() == [0.25, 0.25, 0.0, 0.5]
    assert metrics["mismatch/weight"].item() == pytest.approx(0.25 * 1.2 + 0.25 + 0.5 * factors[3])
    assert metrics["mismatch/corrected"].item() == pytest.approx(0.25)


def test_offline_tokens_are_not_corrected():
    batch, _ = assemble(stage(correction="tis", off_policy="luffy"), offline=torch.tensor([True, True, True, False]))
    assert batch.weights.tolist() == pytest.approx([0.25, 0.25, 0.0, 0.5 * math.exp(-0.5)])


def test_a_weighter_and_a_correction_multiply():
    batch, _ = assemble(
        stage(correction="tis", weighter={"name": "entropy_top", "share": 0.5}), entropy=float64([0.1, 0.5, 9.0, 0.7])
    )
    assert batch.weights.tolist() == pytest.approx([0.0, 0.25, 0.0, 0.5 * math.exp(-0.5)])
    with pytest.raises(ValueError, match="group of every token"):
        assemble(stage(weighter="entropy_top"), group=None)


def test_pairs_of_the_step_are_those_of_the_micro_batch():
    batch, _ = assemble(stage(objective="dpo"), step_pairs=torch.tensor([[1, 0], [7, 8]]), ref_logprobs=torch.zeros(4))
    assert batch.pairs.tolist() == [[1, 0]] and batch.pair_weights.tolist() == [0.5]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"kl": "k3"}, {"ref_logprobs"}),
        ({"kl": "full"}, {"full_kl"}),
        ({"advantage": "gae", "objective": {"entropy_coef": 0.1}}, {"values", "entropy"}),
        ({"advantage": "remax", "objective": "gspo"}, {"greedy", "sequence_ids"}),
        ({"objective": "dpo"}, {"pairs", "ref_logprobs", "sequence_ids"}),
        ({"weighter": "tw_grpo"}, {"full_logits", "group_ids"}),
        ({"correction": "tis"}, {"engine_logprobs"}),
        ({"off_policy": "importance"}, {"offline", "engine_logprobs"}),
    ],
)
def test_needs(options, expected):
    assert stage_needs(stage(**options)) == expected and expected <= set(NEEDS)


def test_a_function_of_the_users_own_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="'nowhere:icepop': no module"):
        stage_needs(stage(correction="nowhere:icepop"))


@pytest.mark.parametrize("aggregation", ["token", "sequence", "turn", "fixed"])
@pytest.mark.parametrize("options", [{}, {"weighter": "entropy_top"}, {"correction": "sequence_mask"}])
def test_splitting_a_step_by_groups_changes_nothing(aggregation, options):
    whole = random_batch()
    length = 10 if aggregation == "fixed" else None
    mean = {"name": aggregation, **({"length": length} if length else {})}
    chosen = stage(aggregation=mean, kl={"estimator": "k2", "coef": 0.1}, **options)
    weights = token_weights(whole.weights > 0, whole.sequence, aggregation, length=length).double()
    columns = {
        "logprobs": whole.logprobs,
        "engine_logprobs": whole.old_logprobs,
        "ref_logprobs": whole.ref_logprobs,
        "advantages": whole.advantages,
        "sequence": whole.sequence,
        "weights": weights,
        "group": whole.group,
        "entropy": whole.entropy,
    }
    total = float(weights.sum())

    def run(index):
        mine = {name: column[index] for name, column in columns.items()}
        batch, metrics = token_batch(chosen, total_weight=total, **mine)
        loss, more = loss_of(batch, chosen)
        return {"loss": loss, **metrics, **more}

    step = run(torch.ones_like(whole.group, dtype=torch.bool))
    parts = [run(whole.group == number) for number in range(2)]
    for name, value in step.items():
        assert sum(p[name].item() for p in parts) == pytest.approx(value.item(), abs=1e-12), name
    assert step["policy/ratio"].item() == pytest.approx(1.0)
