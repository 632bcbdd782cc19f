"""REINFORCE++ against its equation, written as two loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.algorithms.batches import float64, stage

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage
from easyvideor1.algorithms.kl import token_rewards
from easyvideor1.algorithms.sequences import whiten

#: Two responses of three and of two tokens; the second token of the second is not trained on.
SEQUENCE = torch.tensor([0, 0, 0, 1, 1])
TRAINED = torch.tensor([True, True, True, True, False])
KL = float64([0.1, -0.2, 0.4, 0.3, 99.0])


def run(rewards, sequence, trained, kl=None, beta=0.0, **options):
    options = stage(advantage="reinforce_plus_plus", **options)
    rewards_T = token_rewards(rewards, sequence, trained, kl, beta)
    context = AdvantageContext(options=options.advantage, sequence=sequence, trained=trained, rewards=rewards_T)
    groups = torch.zeros(len(rewards), dtype=torch.int64)
    return call_advantage(ADVANTAGES.resolve("reinforce_plus_plus"), rewards, groups, context)


def test_by_hand():
    """``A_t = r - beta * (KL of this token and of all behind it)``, whitened over the four trained tokens."""
    raw = [1.0 - 0.5 * 0.3, 1.0 - 0.5 * 0.2, 1.0 - 0.5 * 0.4, 0.25 - 0.5 * 0.3]
    mean = sum(raw) / 4
    std = math.sqrt(sum((x - mean) ** 2 for x in raw) / 3)
    found = run(float64([1.0, 0.25]), SEQUENCE, TRAINED, KL, 0.5)
    assert found.tolist() == pytest.approx([*[(x - mean) / (std + 1e-8) for x in raw], 0.0], abs=1e-9)


def test_statistics_count_tokens_and_the_discount_is_none():
    """Without KL all tokens of a response have its reward, and the longer response moves the mean more."""
    found = run(float64([1.0, 0.0]), SEQUENCE, TRAINED)
    torch.testing.assert_close(found[TRAINED], whiten(float64([1.0, 1.0, 1.0, 0.0]), 1e-8))
    assert found[0] == found[2]


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    seed=st.integers(0, 999),
    beta=st.sampled_from([0.0, 0.3]),
)
def test_against_two_loops(lengths, seed, beta):
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    rewards = torch.rand(len(lengths), generator=generator, dtype=torch.float64)
    kl = torch.randn(len(sequence), generator=generator, dtype=torch.float64)
    trained = torch.rand(len(sequence), generator=generator) < 0.7
    raw = torch.zeros_like(kl)
    for t in range(len(sequence)):
        ahead = [kl[i] for i in range(t, len(sequence)) if sequence[i] == sequence[t] and trained[i]]
        raw[t] = rewards[sequence[t]] - beta * sum(ahead)
    expected = torch.zeros_like(raw)
    expected[trained] = whiten(raw[trained], 1e-8)
    torch.testing.assert_close(run(rewards, sequence, trained, kl, beta), expected, rtol=0, atol=1e-6)


def test_equal_rewards_are_exactly_no_signal():
    assert run(float64([0.3, 0.3]), SEQUENCE, TRAINED).tolist() == [0.0] * 5
