"""KL estimators: tables, closed forms, and what their gradients are gradients of."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tests.algorithms.batches import stage

from easyvideor1.algorithms.kl import (
    KLWeight,
    full_kl,
    kl_estimate,
    move_average,
    next_weight,
    reward_with_kl,
    token_rewards,
)

KINDS = ("k1", "k2", "k3", "abs")


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("k1", [0.0, 0.5, -1.0]),
        ("k2", [0.0, 0.125, 0.5]),
        ("k3", [0.0, math.exp(-0.5) - 0.5, math.e - 2]),
        ("abs", [0.0, 0.5, 1.0]),
    ],
)
def test_table(kind, expected):
    found = kl_estimate(kind, float64([-1.0, -1.0, -3.0]), float64([-1.0, -1.5, -2.0]))
    torch.testing.assert_close(found, float64(expected), rtol=0, atol=1e-12)


@given(st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=1))
@example([(-3.3641568102518994e-09, 0.0)])
def test_k2_and_k3_are_never_negative_and_always_finite(pairs):
    policy, reference = float64([p for p, _ in pairs]), float64([r for _, r in pairs])
    for kind in ("k2", "k3"):
        found = kl_estimate(kind, policy, reference)
        assert (found >= 0).all() and found.isfinite().all()


def distributions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.log_softmax(torch.randn(7, generator=generator, dtype=torch.float64), -1)
    return logits, reference


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_expectation_under_the_policy_is_kl(kind):
    logits, reference = distributions()
    policy = torch.log_softmax(logits, -1)
    expected = (policy.exp() * (policy - reference)).sum()
    found = (policy.exp() * kl_estimate(kind, policy, reference)).sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_gradients_in_expectation(kind):
    """Samples carry no gradient: k2 pulls along KL(policy || ref), k3 along KL(ref || policy), k1 nowhere."""
    logits, reference = distributions()
    policy = torch.log_softmax(logits, -1)
    (found,) = torch.autograd.grad((policy.exp().detach() * kl_estimate(kind, policy, reference)).sum(), logits)
    policy = torch.log_softmax(logits, -1)
    target = {
        "k1": 0 * policy.sum(),
        "k2": (policy.exp() * (policy - reference)).sum(),
        "k3": (reference.exp() * (reference - policy)).sum(),
    }[kind]
    (expected,) = torch.autograd.grad(target, logits)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences(kind):
    policy = float64([-0.1, -2.0, -7.5]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kl_estimate(kind, x, float64([-0.4, -1.0, -9.0])), policy)


def test_k3_is_clamped():
    far = kl_estimate("k3", float64([-100.0, 0.0]), float64([0.0, -100.0]))
    torch.testing.assert_close(far, float64([math.exp(20) - 21, math.exp(-20) + 19]), rtol=1e-12, atol=0)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="'k4': k1, k2, k3 or abs"):
        kl_estimate("k4", torch.zeros(1), torch.zeros(1))


def test_full_kl_is_that_of_torch_distributions():
    generator = torch.Generator().manual_seed(1)
    logits, reference = (3 * torch.randn(6, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits), torch.distributions.Categorical(logits=reference)
    )
    torch.testing.assert_close(full_kl(logits, reference), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(full_kl(logits + 5, reference - 3), expected, rtol=1e-10, atol=1e-12)
    assert full_kl(logits, logits).abs().max() < 1e-12


def test_full_kl_is_the_mean_of_the_sampled_estimators():
    logits, reference = distributions()
    policy = torch.log_softmax(logits, -1).detach()
    expected = (policy.exp() * kl_estimate("k3", policy, reference)).sum()
    torch.testing.assert_close(full_kl(logits[None].detach(), reference[None])[0], expected, rtol=1e-12, atol=1e-12)


def test_tokens_that_are_excluded_from_both_do_not_count():
    logits, reference = distributions()
    shut = torch.full((1, 2), float("-inf"), dtype=torch.float64)
    wide = torch.cat([logits[None], shut], 1).detach().requires_grad_()
    found = full_kl(wide, torch.cat([reference[None], shut], 1))
    torch.testing.assert_close(found, full_kl(logits[None], reference[None]))
    (gradient,) = torch.autograd.grad(found.sum(), wide)
    assert gradient.isfinite().all() and gradient[0, -2:].tolist() == [0.0, 0.0]
    assert full_kl(logits[None], reference[None].index_fill(1, torch.tensor([3]), float("-inf"))).item() == math.inf


def test_full_kl_by_finite_differences_and_in_chunks():
    generator = torch.Generator().manual_seed(2)
    logits, reference = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: full_kl(x, reference), logits.requires_grad_())
    chunks = [full_kl(a, b) for a, b in zip(logits.split(2), reference.split(2), strict=True)]
    assert torch.equal(torch.cat(chunks), full_kl(logits, reference))


SEQUENCE = torch.tensor([0, 0, 0, 1, 1, 3])
LEARN = torch.tensor([True, True, False, True, False, True])
KL = torch.tensor([0.1, 0.2, 99.0, 0.4, 99.0, -0.5])


def test_kl_in_the_reward_by_hand():
    found = reward_with_kl(torch.tensor([1.0, 0.0, 0.5, 1.0]), KL, SEQUENCE, LEARN, 0.5)
    assert found.tolist() == pytest.approx([0.85, -0.2, 0.5, 1.25])


def test_rewards_of_tokens_by_hand():
    rewards = torch.tensor([1.0, 0.25, 0.5, -1.0])
    assert token_rewards(rewards, SEQUENCE, LEARN).tolist() == [0.0, 1.0, 0.0, 0.25, 0.0, -1.0]
    found = token_rewards(rewards, SEQUENCE, LEARN, KL, 0.5)
    assert found.tolist() == pytest.approx([-0.05, 0.9, 0.0, 0.05, 0.0, -0.75])
    # what tokens get is what responses get
    total = torch.zeros(4).index_add(0, SEQUENCE, found)
    expected = reward_with_kl(rewards, KL, SEQUENCE, LEARN, 0.5)
    assert total[[0, 1, 3]].tolist() == pytest.approx(expected[[0, 1, 3]].tolist())


def test_an_adaptive_weight_by_hand():
    weight = KLWeight.of(
        stage(kl={"estimator": "k2", "control": "adaptive", "coef": 0.1, "target": 0.5, "horizon": 1000}).kl
    )
    assert next_weight(weight, 0.5, 100).coefficient == 0.1
    assert next_weight(weight, 0.55, 100).coefficient == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    assert next_weight(weight, 9.0, 100).coefficient == pytest.approx(0.1 * 1.02)  # the error is cut at 0.2
    assert next_weight(weight, 0.0, 100).coefficient == pytest.approx(0.1 * 0.98)


@given(st.floats(0, 50), st.integers(1, 10**6), st.integers(1, 10**6))
def test_an_adaptive_weight_stays_positive_and_moves_by_a_fifth_at_most(kl, sequences, horizon):
    """With a horizon far shorter than a step, as with more responses than the configuration counts."""
    found = next_weight(KLWeight(0.1, True, 0.5, horizon), kl, sequences).coefficient
    assert 0.08 <= round(found, 12) <= 0.12


def test_a_weight_is_resumed_exactly_from_its_coefficient():
    options = stage(kl={"estimator": "k2", "control": "adaptive", "coef": 0.1}).kl
    weight, seen = KLWeight.of(options), []
    for step in range(20):
        weight = next_weight(weight, 0.01 * step, 64)
        seen.append(weight)
    again = KLWeight.of(options, seen[9].coefficient)
    for step in range(10, 20):
        again = next_weight(again, 0.01 * step, 64)
        assert again == seen[step]


def test_a_fixed_weight_stays():
    weight = KLWeight.of(stage(kl={"estimator": "k2", "coef": 0.1}).kl)
    assert next_weight(weight, 9.0, 1000) == weight


def test_a_moving_average():
    average, current = [torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])]
    kept = average[0]
    move_average(average, current, 0.75)
    assert kept.tolist() == pytest.approx([0.75, 0.5]) and current[0].tolist() == [0.0, 2.0]
