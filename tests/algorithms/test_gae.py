"""Generalised advantage estimates against the sum that defines them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.algorithms.batches import float64

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, generalized_advantages
from easyvideor1.config import StageConfig


def by_definition(rewards, values, gamma, lam):
    """``A_t = sum_l (gamma lam)^l delta_(t+l)`` for one sequence, as two loops."""
    following = [*values[1:], 0.0][: len(values)]
    deltas = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [
        sum((gamma * lam) ** (u - t) * deltas[u] for u in range(t, len(deltas))) for t in range(len(deltas))
    ]  # fmt: skip


STEPS = st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.booleans())


@given(
    sequences=st.lists(st.lists(STEPS, max_size=7), min_size=1, max_size=4),
    gamma=st.sampled_from([0.0, 0.9, 1.0]),
    lam=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_against_the_definition(sequences, gamma, lam):
    """Tokens that are not trained on are passed over, wherever they stand."""
    flat = [step for steps in sequences for step in steps]
    index = torch.tensor([2 * n for n, steps in enumerate(sequences) for _ in steps], dtype=torch.int64)
    rewards, values = float64([float(r) for r, _, _ in flat]), float64([float(v) for _, v, _ in flat])
    learn = torch.tensor([flag for _, _, flag in flat], dtype=torch.bool)
    found, returns = generalized_advantages(rewards, values, index, learn, gamma, lam)
    expected = []
    for steps in sequences:
        trained = [(r, v) for r, v, flag in steps if flag]
        values_of = iter(by_definition([float(r) for r, _ in trained], [float(v) for _, v in trained], gamma, lam))
        expected += [next(values_of) if flag else 0.0 for _, _, flag in steps]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(returns, torch.where(learn, found + values, 0.0), rtol=0, atol=1e-12)


def test_the_two_ends_of_lambda():
    rewards, values = float64([0, 0, 1.0]), float64([0.2, 0.4, 0.7])
    index, learn = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)
    far, returns = generalized_advantages(rewards, values, index, learn, 1.0, 1.0)
    assert far.tolist() == pytest.approx([0.8, 0.6, 0.3]) and returns.tolist() == pytest.approx([1.0] * 3)
    near, _ = generalized_advantages(rewards, values, index, learn, 1.0, 0.0)
    assert near.tolist() == pytest.approx([0.2, 0.3, 0.3])


def gae(**context):
    options = StageConfig(name="stage", advantage={"name": "gae", "lam": 0.95})
    return call_advantage(
        ADVANTAGES.resolve("gae"),
        float64([1.0, 0.0]),
        torch.tensor([0, 0]),
        AdvantageContext(options=options.advantage, **context),
    )


def test_gae_is_whitened_over_what_is_trained_on():
    index, learn = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([True, False, True, True, True])
    values = float64([0.1, 9.0, 0.3, 0.5, 0.2])
    found = gae(sequence=index, trained=learn, values=values)
    raw = by_definition([0.0, 1.0], [0.1, 0.3], 1.0, 0.95) + by_definition([0.0, 0.0], [0.5, 0.2], 1.0, 0.95)
    expected = (float64(raw) - float64(raw).mean()) / float64(raw).std()
    torch.testing.assert_close(found[learn], expected, rtol=1e-6, atol=1e-9)
    assert found[1] == 0.0


def test_gae_takes_rewards_of_tokens_and_no_gradient():
    index = torch.tensor([0, 0, 1, 1])
    values = float64([0.1, 0.2, 0.3, 0.4]).requires_grad_()
    found = gae(sequence=index, values=values, rewards=float64([0.5, 1.0, -0.5, 0.0]))
    raw = by_definition([0.5, 1.0], [0.1, 0.2], 1.0, 0.95) + by_definition([-0.5, 0.0], [0.3, 0.4], 1.0, 0.95)
    assert not found.requires_grad
    torch.testing.assert_close(found, (float64(raw) - float64(raw).mean()) / float64(raw).std(), rtol=1e-6, atol=1e-9)


def test_a_critic_that_is_right_leaves_nothing_to_learn():
    index = torch.tensor([0, 0, 1])
    assert gae(sequence=index, values=float64([1.0, 1.0, 0.0])).tolist() == [0.0, 0.0, 0.0]
