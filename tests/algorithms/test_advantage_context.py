"""Advantages that need more than rewards: independent oracles, and how they are called."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.algorithms.batches import float64

from easyvideor1.algorithms.advantages import (
    ADVANTAGES,
    AdvantageContext,
    call_advantage,
    group_centred,
    is_group_centred,
    is_per_token,
    wants_context,
)
from easyvideor1.algorithms.needs import NEEDS, needs_of, requires
from easyvideor1.algorithms.sequences import whiten
from easyvideor1.config import StageConfig
from easyvideor1.types import EasyVideoError

ZERO = torch.zeros(4, dtype=torch.int64)


def call(name, rewards, groups, options=None, **context):
    options = StageConfig(name="stage", **{"advantage": name, "group_size": 9, **(options or {})})
    context = AdvantageContext(options=options.advantage, **context)
    return call_advantage(ADVANTAGES.resolve(name), rewards, groups, context)


@given(right=st.lists(st.booleans(), min_size=1, max_size=9), k=st.integers(1, 8))
def test_pass_at_k_is_the_mean_over_all_sets_of_k(right, k):
    n = len(right)
    k = min(k, n)
    sets = list(itertools.combinations(range(n), k))
    best = [float(any(right[i] for i in members)) for members in sets]
    mean = sum(best) / len(best)
    std = math.sqrt(mean * (1 - mean))
    expected = []
    for i in range(n):
        mine = [b - mean for b, members in zip(best, sets, strict=True) if i in members]
        expected.append(sum(mine) / len(mine) / std if std else 0.0)
    rewards = torch.tensor(right, dtype=torch.float64)
    found = call(
        "pass_at_k",
        rewards,
        torch.zeros(n, dtype=torch.int64),
        {"advantage": {"name": "pass_at_k", "k": k}, "group_size": 9},
    )
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_pass_at_one_is_grpo_with_the_biased_deviation():
    rewards = float64([1, 0, 0, 0])
    found = call("pass_at_k", rewards, ZERO, {"advantage": {"name": "pass_at_k", "k": 1}})
    torch.testing.assert_close(found, (rewards - rewards.mean()) / rewards.std(unbiased=False))


def test_pass_at_k_reads_accuracy_before_the_total():
    parts = {"accuracy": float64([0.0, 0.5, 0.4, 0.0])}
    options = {"advantage": {"name": "pass_at_k", "k": 1, "threshold": 0.5}}
    found = call("pass_at_k", float64([0.1, 0.2, 0.1, 0.1]), ZERO, options, parts=parts)
    assert found.argmax() == 1 and (found > 0).sum() == 1


@given(
    rewards=st.lists(st.integers(0, 10), min_size=2, max_size=8),
    lengths=st.lists(st.integers(1, 50), min_size=8, max_size=8),
)
def test_opo_has_the_least_variance_if_gradients_grow_with_length(rewards, lengths):
    """E[l (r - b)^2] is what the variance comes to; no other b makes it smaller."""
    r, l = float64(rewards), float64(lengths[: len(rewards)])  # noqa: E741 - as in the formula
    found = call("opo", r, torch.zeros(len(r), dtype=torch.int64), lengths=l)
    least = (l * found.square()).sum()
    for shift in (-0.1, 0.1):
        assert (l * (found + shift).square()).sum() > least
    torch.testing.assert_close(found, r - (l * r).sum() / l.sum(), rtol=0, atol=1e-9)


def test_gdpo_keeps_apart_what_grpo_makes_equal():
    """Right in one part, or in another that the sum weighs the same: not the same thing where one is rarer."""
    parts = {"accuracy": float64([1, 0, 0, 0]), "format": float64([0, 1, 1, 0])}
    total = parts["accuracy"] + parts["format"]
    summed = call("grpo", total, ZERO)
    assert summed[0] == summed[1]
    found = call("gdpo", total, ZERO, parts=parts)
    assert found[0] > found[1] + 0.25
    assert found.mean().item() == pytest.approx(0, abs=1e-12) and found.std().item() == pytest.approx(1, abs=1e-6)


def test_gdpo_weighs_its_parts_and_one_that_no_group_has_adds_nothing():
    parts = {"accuracy": float64([1, 0, 0, 0]), "format": float64([0, 1, 1, 0]), "brevity": float64([0, 0, 0, 1])}

    def gdpo(**weights):
        return call(
            "gdpo", float64([0] * 4), ZERO, {"advantage": {"name": "gdpo", "part_weights": weights}}, parts=parts
        )

    torch.testing.assert_close(gdpo(accuracy=2.0), whiten(call("grpo", parts["accuracy"], ZERO), 1e-8))
    assert gdpo(accuracy=1.0, brevity=3.0).argmax() == 3
    assert torch.equal(gdpo(accuracy=1.0, style=5.0), gdpo(accuracy=1.0)), "no response of this step has a style"
    assert gdpo(style=1.0).tolist() == [0.0] * 4


def test_an_easy_group_is_not_blown_up_by_the_batch():
    """One wrong answer of eight, one of eight by a hair: GRPO scales both the same, REINFORCE++-baseline does not."""
    rewards = float64([1.0] * 7 + [0.0] + [1.0] * 7 + [0.99])
    groups = torch.repeat_interleave(torch.arange(2), 8)
    within, batchwide = call("grpo", rewards, groups), call("reinforce_plus_plus_baseline", rewards, groups)
    assert within[7] == pytest.approx(within[15].item(), rel=1e-3)
    assert abs(batchwide[15]) < abs(batchwide[7]) / 50


def test_every_turn_gets_its_trajectorys_advantage():
    """Two trajectories of one group, of three turns and of one; only last turns are scored."""
    found = call(
        "per_turn", float64([0, 0, 1.0, 0.5]), ZERO,
        trajectory=torch.tensor([4, 4, 4, 7]), turn=torch.tensor([0, 1, 2, 0]),
    )  # fmt: skip
    assert found.tolist() == pytest.approx([0.25, 0.25, 0.25, -0.25])  # the mean is over trajectories: 0.75
    torch.testing.assert_close(found, call("mean_only", float64([1.0, 0.5]), ZERO[:2])[[0, 0, 0, 1]])


def test_rewards_of_turns_are_discounted():
    found = call(
        "per_turn", float64([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 0, 0, 1]),
        {"advantage": {"name": "per_turn", "gamma": 0.5}},
        trajectory=torch.tensor([0, 0, 0, 1]), turn=torch.tensor([0, 1, 2, 0]),
    )  # fmt: skip
    # returns 1 + 1 + 1 = 3, 2 + 2 = 4, 4; the group's only trajectory begins with 3
    assert found.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])


def test_advantages_are_clipped_if_the_stage_says_so():
    rewards = float64([10.0, 0, 0, 0])
    assert call("dr_grpo", rewards, ZERO, {"advantage": {"clip": 2.0}}).tolist() == [2.0, -2.0, -2.0, -2.0]
    assert call("dr_grpo", rewards, ZERO).tolist() == [7.5, -2.5, -2.5, -2.5]


def test_a_function_of_two_or_three_parameters_is_called_as_it_asks():
    context = AdvantageContext(options=StageConfig(name="stage").advantage, step=7)
    rewards = float64([1.0, 2.0])

    def two(rewards_N, group_N):
        return rewards_N + 1

    def tuned(rewards_N, group_N, epsilon=10.0):
        return rewards_N + epsilon

    def three(rewards_N, group_N, what):
        return rewards_N + what.step

    def named(rewards_N, group_N, context=None):
        return rewards_N * context.step

    class Held:
        def __call__(self, rewards_N, group_N, context):
            return rewards_N - context.step

    expected = {two: [2, 3], tuned: [11, 12], three: [8, 9], named: [7, 14], Held(): [-6, -5], torch.add: [1, 2]}
    for function, values in expected.items():
        found = call_advantage(function, rewards, torch.tensor([0, 0]), context)
        assert found.tolist() == values, function
    assert [wants_context(f) for f in (two, tuned, three, named, print)] == [False, False, True, True, False]


def everything(rewards, groups):
    """A context with all that any advantage reads, as a caller may fill it."""
    count = len(rewards)
    column = torch.linspace(0.1, 0.9, count, dtype=torch.float64)
    return {
        "parts": {"accuracy": rewards, "format": rewards},
        "lengths": torch.arange(1, count + 1).double(),
        "baseline_rewards": column,
        "sequence": torch.arange(count),
        "values": column,
    }


@pytest.mark.parametrize("name", ADVANTAGES.names())
def test_those_that_say_so_and_no_others_learn_nothing_where_responses_score_the_same(name):
    rewards, groups = float64([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    found = call(name, rewards, groups, **everything(rewards, groups))
    assert is_group_centred(ADVANTAGES.resolve(name)) == (not found.any())


def test_what_declares_nothing_is_thought_to_learn_from_flat_groups():
    """Nothing is tried out: a function that reads parts of its own cannot be called on an invented context."""

    def own(rewards_N, group_N, context):
        return context.parts["mine"]

    assert not is_group_centred(own) and is_group_centred(group_centred(own)) and needs_of(own) == set()


def test_pass_at_k_gives_a_group_that_has_shrunk_to_k_nothing():
    """With k responses or fewer one set holds all of them, and there is no other to compare it with."""
    for size in (1, 2, 3):
        rewards = float64([1.0, 0.0, 1.0][:size])
        assert call(
            "pass_at_k", rewards, ZERO[:1].expand(size), {"advantage": {"name": "pass_at_k", "k": 3}}
        ).tolist() == ([0.0] * size)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("opo", "lengths"),
        ("remax", "greedy"),
        ("gdpo", "parts"),
        ("gae", "critic"),
        ("reinforce_plus_plus", "rewards of tokens"),
    ],
)
def test_what_is_missing_is_named(name, what):
    with pytest.raises(EasyVideoError, match=what):
        call(name, float64([0, 1, 0, 1]), ZERO)


def test_needs_are_declared():
    assert needs_of(ADVANTAGES.resolve("remax")) == {"greedy"}
    assert needs_of(ADVANTAGES.resolve("grpo")) == set() and needs_of(len) == set()
    assert all(needs_of(ADVANTAGES.resolve(name)) <= set(NEEDS) for name in ADVANTAGES.names())
    with pytest.raises(ValueError, match="unknown need 'luck'"):
        requires("luck")


def test_some_advantages_are_of_tokens():
    of_tokens = {name for name in ADVANTAGES.names() if is_per_token(ADVANTAGES.resolve(name))}
    assert of_tokens == {"gae", "reinforce_plus_plus"}
