"""KL estimators: tables, closed forms, and what their gradients are gradients of."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.algorithms.kl import kl_estimate

KINDS = ("k1", "k2", "k3")


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("k1", [0.0, 0.5, -1.0]),
        ("k2", [0.0, 0.125, 0.5]),
        ("k3", [0.0, math.exp(-0.5) - 0.5, math.e - 2]),
    ],
)
def test_table(kind, expected):
    found = kl_estimate(kind, float64([-1.0, -1.0, -3.0]), float64([-1.0, -1.5, -2.0]))
    torch.testing.assert_close(found, float64(expected), rtol=0, atol=1e-12)


@given(st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=1))
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


@pytest.mark.parametrize("kind", KINDS)
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
    with pytest.raises(ValueError, match="'k4': k1, k2 or k3"):
        kl_estimate("k4", torch.zeros(1), torch.zeros(1))
