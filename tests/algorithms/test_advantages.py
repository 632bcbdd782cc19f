"""Advantages: tables worked out by hand, and what must hold for any rewards."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, group_mean
from easyvideor1.config import StageConfig
from easyvideor1.types import ConfigError

#: Rewards of three groups: one mixed, one of two, one alone.
REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.25, 0.75, 0.9], dtype=torch.float64)
GROUPS = torch.tensor([0, 0, 0, 0, 1, 1, 2])
HALF = 0.5 / (math.sqrt(1 / 3) + 1e-6)  # four rewards of 0 and 1: unbiased variance 4 * 0.25 / 3
PAIR = 0.25 / (math.sqrt(0.125) + 1e-6)

#: What the context says of those seven: accuracies, formats, lengths and the rewards of greedy responses.
ACCURACY = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]
FORMAT = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
LENGTHS = [1, 2, 3, 4, 3, 1, 7]
GREEDY = [0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 1.0]


def whitened(values):
    mean = sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return [(v - mean) / (std + 1e-8) for v in values]


#: Accuracy of the first group as above, of the second (0, 1); format of the first (1, 1, 0, 1): std 0.5.
HALF_PAIR = 0.5 / (math.sqrt(0.5) + 1e-6)
PARTS_1 = [HALF, -HALF, -HALF, HALF, -HALF_PAIR, HALF_PAIR, 0.0]
PARTS_2 = [0.25 / 0.500001, 0.25 / 0.500001, -0.75 / 0.500001, 0.25 / 0.500001, HALF_PAIR, -HALF_PAIR, 0.0]

TABLE = {
    "gdpo": whitened([a + b for a, b in zip(PARTS_1, PARTS_2, strict=True)]),
    "mean_only": [0.5, -0.5, -0.5, 0.5, -0.25, 0.25, 0.0],
    "opo": [0.5, -0.5, -0.5, 0.5, -0.125, 0.375, 0.0],  # baselines 5 / 10, 1.5 / 4, 0.9
    # k = 2, two of four wrong: m = 1 - 1 / 6, s = sqrt(5) / 6; of two, one wrong: m = 1, s = 0
    "pass_at_k": [1 / math.sqrt(5), -1 / math.sqrt(5), -1 / math.sqrt(5), 1 / math.sqrt(5), 0.0, 0.0, 0.0],
    "per_turn": [0.5, -0.5, -0.5, 0.5, -0.25, 0.25, 0.0],
    "reinforce_plus_plus_baseline": whitened([0.5, -0.5, -0.5, 0.5, -0.25, 0.25, 0.0]),
    "remax": [0.5, -0.5, -0.5, 0.5, 0.25, 0.75, -0.1],
    "reward": [1.0, 0.0, 0.0, 1.0, 0.25, 0.75, 0.9],
    "grpo": [HALF, -HALF, -HALF, HALF, -PAIR, PAIR, 0.0],
    "dr_grpo": [0.5, -0.5, -0.5, 0.5, -0.25, 0.25, 0.0],
    "rloo": [2 / 3, -2 / 3, -2 / 3, 2 / 3, -0.5, 0.5, 0.0],
    "ones": [1.0] * 7,
}
CENTRED = ("dr_grpo", "grpo", "mean_only", "per_turn", "rloo")
#: Those that look at one group at a time.
WITHIN = (*CENTRED, "ones", "opo", "pass_at_k", "remax", "reward")


OPTIONS = {"pass_at_k": {"name": "pass_at_k", "k": 2}}


def advantage(name, rewards, groups, rows=None):
    """By name, with a context made of the columns above; ``rows`` says which of them, all if there are none."""
    rows = torch.arange(7) if rows is None else rows
    column = {"accuracy": ACCURACY, "format": FORMAT, "lengths": LENGTHS, "greedy": GREEDY}
    taken = {key: torch.tensor(values, dtype=torch.float64)[rows] for key, values in column.items()}
    context = AdvantageContext(
        options=StageConfig(name="stage", advantage=OPTIONS.get(name, name)).advantage,
        parts={key: taken[key] for key in ("accuracy", "format")},
        lengths=taken["lengths"],
        baseline_rewards=taken["greedy"],
    )
    return call_advantage(ADVANTAGES.resolve(name), rewards, groups, context)


def plain(name, rewards, groups):
    """One that reads rewards and groups alone, though it may take a context."""
    return advantage(name, rewards, groups, torch.zeros_like(groups))


GROUPED = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=9), min_size=1, max_size=6)


def tensors(grouped, dtype=torch.float64):
    rewards = torch.tensor([value / 1000 for group in grouped for value in group], dtype=dtype)
    return rewards, torch.repeat_interleave(torch.arange(len(grouped)), torch.tensor([len(g) for g in grouped]))


def test_every_advantage_has_a_table():
    # Those of single tokens have tests of their own.
    assert ADVANTAGES.names() == sorted([*TABLE, "gae", "reinforce_plus_plus"])


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    found = advantage(name, REWARDS, GROUPS)
    torch.testing.assert_close(found, torch.tensor(TABLE[name], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_float32_stays_float32_and_nothing_is_changed_in_place(name):
    rewards = REWARDS.float()
    found = advantage(name, rewards, GROUPS)
    assert found.dtype == torch.float32 and torch.equal(rewards, REWARDS.float())
    torch.testing.assert_close(found, torch.tensor(TABLE[name], dtype=torch.float32), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_no_rewards_are_no_advantages(name):
    none = torch.zeros(0, dtype=torch.int64)
    assert advantage(name, torch.zeros(0), none, none).shape == (0,)


@pytest.mark.parametrize("name", CENTRED)
@given(grouped=GROUPED)
def test_groups_sum_to_zero_and_order_is_kept(name, grouped):
    rewards, index = tensors(grouped)
    found = plain(name, rewards, index)
    for group in range(len(grouped)):
        mine = found[index == group]
        assert abs(mine.sum()) < 1e-6
        order = rewards[index == group].argsort(stable=True)
        assert (mine[order].diff() >= -1e-12).all()


@pytest.mark.parametrize("name", CENTRED)
@given(grouped=GROUPED, shift=st.integers(-5, 5))
def test_a_constant_added_to_a_group_changes_nothing(name, grouped, shift):
    rewards, index = tensors(grouped)
    moved = rewards + shift * (index + 1)
    torch.testing.assert_close(plain(name, moved, index), plain(name, rewards, index), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", WITHIN)
@given(grouped=GROUPED, seed=st.integers(0, 99))
def test_groups_do_not_see_each_other(name, grouped, seed):
    rewards, index = tensors(grouped)
    rows = torch.randint(7, (len(rewards),), generator=torch.Generator().manual_seed(seed))
    whole = advantage(name, rewards, index, rows)
    parts = []
    for group in range(len(grouped)):
        mine = index == group
        parts.append(advantage(name, rewards[mine], torch.zeros(int(mine.sum()), dtype=torch.int64), rows[mine]))
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-9)


@given(grouped=GROUPED, scale=st.sampled_from([0.1, 3.0, 100.0]))
def test_grpo_does_not_see_the_scale_and_the_others_follow_it(grouped, scale):
    rewards, index = tensors(grouped)
    grpo = ADVANTAGES.resolve("grpo")
    torch.testing.assert_close(grpo(rewards * scale, index), grpo(rewards, index), rtol=0.02, atol=1e-9)
    for name in ("dr_grpo", "rloo"):
        torch.testing.assert_close(plain(name, rewards * scale, index), plain(name, rewards, index) * scale)


@given(grouped=st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=9), min_size=1, max_size=6))
def test_grpo_has_unit_deviation(grouped):
    rewards, index = tensors(grouped)
    found = ADVANTAGES.resolve("grpo")(rewards, index)
    for group, values in enumerate(grouped):
        expected = 1.0 if len(set(values)) > 1 else 0.0
        assert found[index == group].std().item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", CENTRED)
@given(value=st.floats(0, 1, width=32), size=st.integers(1, 16))
def test_equal_rewards_are_exactly_no_signal(name, value, size):
    """0.9 summed seven times in float32 is not 6.3: divided by its own rounding it would look like a signal."""
    found = plain(name, torch.full((size,), value), torch.zeros(size, dtype=torch.int64))
    assert found.tolist() == [0.0] * size


@given(grouped=GROUPED)
def test_rloo_is_the_reward_less_the_mean_of_the_others(grouped):
    rewards, index = tensors(grouped)
    found = ADVANTAGES.resolve("rloo")(rewards, index)
    for n in range(len(rewards)):
        others = [float(rewards[m]) for m in range(len(rewards)) if m != n and index[m] == index[n]]
        expected = float(rewards[n]) - sum(others) / len(others) if others else 0.0
        assert found[n].item() == pytest.approx(expected, abs=1e-9)


def test_group_mean():
    mean, size = group_mean(REWARDS, GROUPS)
    assert mean.tolist() == pytest.approx([0.5] * 4 + [0.5] * 2 + [0.9])
    assert size.tolist() == [4, 4, 4, 4, 2, 2, 1]


def test_an_unknown_advantage_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown advantage 'gpro': did you mean grpo"):
        ADVANTAGES.resolve("gpro")
