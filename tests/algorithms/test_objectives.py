"""Objectives: numbers worked out by hand, finite differences, and sums that do not depend on how a step is split."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.algorithms.objectives import OBJECTIVES, TokenBatch, token_weights
from easyvideor1.config import StageConfig

NAMES = ("ppo_clip", "reinforce", "sft")


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def stage(**options):
    return StageConfig(name="stage", **options)


#: Ratios 1, 1.5, 0.5, 1.5, 0.5 and a token that is not learnt; ranges 0.8 to 1.28.
OLD = [-1.0, -2.0, -1.0, -2.0, -1.0, -5.0]
RATIOS = [1.0, 1.5, 0.5, 1.5, 0.5, 9.0]
ADVANTAGES = [2.0, 1.0, 1.0, -1.0, -1.0, 100.0]
WEIGHTS = [0.2, 0.2, 0.2, 0.2, 0.2, 0.0]


def batch(**changes):
    values = {
        "logprobs": float64([old + math.log(ratio) for old, ratio in zip(OLD, RATIOS, strict=True)]),
        "old_logprobs": float64(OLD),
        "ref_logprobs": None,
        "advantages": float64(ADVANTAGES),
        "sequence": torch.tensor([0, 0, 1, 1, 2, 2]),
        "weights": float64(WEIGHTS),
    }
    return TokenBatch(**{**values, **changes})


def part(whole, index):
    """Some tokens of a step: a micro-batch."""
    fields = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
    return TokenBatch(**{name: None if value is None else value[index] for name, value in fields.items()})


def test_every_objective_is_tested():
    assert tuple(OBJECTIVES.names()) == NAMES


def test_ppo_clip_by_hand():
    loss, metrics = OBJECTIVES.resolve("ppo_clip")(batch(), stage(clip_low=0.2, clip_high=0.28))
    # min(rho A, clip(rho) A): 2; 1.28 (clipped); 0.5; -1.5; -0.8 (clipped)
    assert loss.item() == pytest.approx(-(2 + 1.28 + 0.5 - 1.5 - 0.8) / 5)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(2 / 5)
    assert metrics["policy/ratio"].item() == pytest.approx((1 + 1.5 + 0.5 + 1.5 + 0.5) / 5)


def test_a_clipped_token_has_no_gradient_and_the_others_have_theirs():
    logprobs = batch().logprobs.requires_grad_()
    loss, _ = OBJECTIVES.resolve("ppo_clip")(batch(logprobs=logprobs), stage(clip_low=0.2, clip_high=0.28))
    (gradient,) = torch.autograd.grad(loss, logprobs)
    # -w * rho * A where the unclipped branch is the smaller one
    torch.testing.assert_close(gradient, float64([-0.4, 0.0, -0.1, 0.3, 0.0, 0.0]), rtol=0, atol=1e-12)


def test_ppo_clip_on_its_own_policy_is_reinforce_in_gradient():
    values = float64(OLD).requires_grad_()
    own = batch(logprobs=values)
    gradients = [torch.autograd.grad(OBJECTIVES.resolve(name)(own, stage())[0], values)[0] for name in NAMES]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[1], gradients[2])


@pytest.mark.parametrize("name", ["reinforce", "sft"])
def test_policy_gradient_by_hand(name):
    loss, metrics = OBJECTIVES.resolve(name)(batch(logprobs=float64(OLD)), stage())
    # mean of A * logprob: -2, -2, -1, 2, 1
    assert loss.item() == pytest.approx(-(-2 - 2 - 1 + 2 + 1) / 5)
    assert metrics == {}


def test_sft_with_ones_is_the_mean_negative_log_likelihood():
    ones = batch(logprobs=float64(OLD), advantages=torch.ones(6, dtype=torch.float64))
    assert OBJECTIVES.resolve("sft")(ones, stage())[0].item() == pytest.approx((1 + 2 + 1 + 2 + 1) / 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "expected"), [("k1", -0.5), ("k2", 0.125), ("k3", math.exp(0.5) - 1.5)])
def test_the_kl_term_is_added_with_its_weight(name, kind, expected):
    both = batch(ref_logprobs=batch().logprobs + 0.5)
    plain, _ = OBJECTIVES.resolve(name)(both, stage(kl="none"))
    loss, metrics = OBJECTIVES.resolve(name)(both, stage(kl=kind, kl_coef=0.3))
    assert metrics["policy/kl"].item() == pytest.approx(expected)
    assert (loss - plain).item() == pytest.approx(0.3 * expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kl", ["none", "k1", "k2", "k3"])
def test_finite_differences(name, kl):
    generator = torch.Generator().manual_seed(3)
    old = -torch.rand(40, generator=generator, dtype=torch.float64) * 5
    shift = 0.6 * torch.randn(40, generator=generator, dtype=torch.float64)
    whole = TokenBatch(
        logprobs=(old + shift).requires_grad_(),
        old_logprobs=old,
        ref_logprobs=old - shift,
        advantages=torch.randn(40, generator=generator, dtype=torch.float64),
        sequence=torch.arange(40) // 8,
        weights=token_weights(torch.rand(40, generator=generator) < 0.8, torch.arange(40) // 8, "sequence").double(),
    )
    chosen, options = OBJECTIVES.resolve(name), stage(kl=kl, kl_coef=0.2)
    assert torch.autograd.gradcheck(
        lambda values: chosen(dataclasses.replace(whole, logprobs=values), options)[0], whole.logprobs
    )


@pytest.mark.parametrize("name", NAMES)
@given(split=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_micro_batches_sum_to_the_step(name, split):
    chosen, options = OBJECTIVES.resolve(name), stage(kl="k3", kl_coef=0.3)
    whole = batch(ref_logprobs=float64(OLD) - 0.2)
    loss, metrics = chosen(whole, options)
    parts = [chosen(part(whole, torch.tensor(split) == number), options) for number in range(4)]
    assert sum(p[0].item() for p in parts) == pytest.approx(loss.item(), abs=1e-12)
    for key, value in metrics.items():
        assert sum(p[1][key].item() for p in parts) == pytest.approx(value.item(), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_learnt_does_not_count(name):
    base, _ = OBJECTIVES.resolve(name)(batch(), stage())
    for value in (0.0, -1e9, float("-inf")):
        logprobs = batch().logprobs
        logprobs[-1] = value
        other, _ = OBJECTIVES.resolve(name)(batch(logprobs=logprobs), stage())
        assert other.item() == base.item()


def test_extreme_ratios_stay_finite():
    far = batch(logprobs=float64([-1.0, -2.0, -1.0, -2.0, -1.0, -5.0]), old_logprobs=float64([-900.0] * 3 + [0.0] * 3))
    loss, metrics = OBJECTIVES.resolve("ppo_clip")(far, stage())
    assert loss.isfinite() and all(value.isfinite() for value in metrics.values())


LEARN = torch.tensor([True, True, False, True, False, False, True])
SEQUENCE = torch.tensor([0, 0, 0, 2, 2, 3, 4])  # sequence 1 is empty, 3 learns nothing


def test_token_weights_by_hand():
    assert token_weights(LEARN, SEQUENCE, "token").tolist() == pytest.approx([0.25, 0.25, 0, 0.25, 0, 0, 0.25])
    third = 1 / 3
    assert token_weights(LEARN, SEQUENCE, "sequence").tolist() == pytest.approx(
        [third / 2, third / 2, 0, third, 0, 0, third]
    )


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=50), st.sampled_from(["token", "sequence"]))
def test_weights_sum_to_one_if_anything_is_learnt(tokens, aggregation):
    learn = torch.tensor([flag for _, flag in tokens], dtype=torch.bool)
    sequence = torch.tensor([number for number, _ in tokens], dtype=torch.int64)
    weights = token_weights(learn, sequence, aggregation)
    assert weights.sum().item() == pytest.approx(float(bool(learn.any())), abs=1e-6)
    assert bool(((weights > 0) == learn).all())
    if aggregation == "sequence":
        shares = {weights[sequence == number].sum().item() for number in sequence[learn].unique()}
        assert max(shares, default=0) - min(shares, default=0) < 1e-6


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="'words': token or sequence"):
        token_weights(LEARN, SEQUENCE, "words")
