"""Objectives of whole sequences, and of pairs of them, against numbers worked out by hand and independent loops."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.algorithms.batches import float64, loss_of, part, random_batch, stage

from easyvideor1.algorithms.advantages import ADVANTAGES as REGISTERED
from easyvideor1.algorithms.objectives import TokenBatch, pairs_of, pairs_within, value_loss

#: Two sequences of two and one trained tokens, and a token that is not trained on; log-ratios 0.1, 0.3, 9.0 | -0.4.
TINY = TokenBatch(
    logprobs=float64([-0.9, -1.7, 0.0, -2.4]),
    old_logprobs=float64([-1.0, -2.0, -9.0, -2.0]),
    ref_logprobs=float64([-1.5, -2.0, -3.0, -2.2]),
    advantages=float64([2.0, 2.0, 2.0, -1.0]),
    sequence=torch.tensor([0, 0, 0, 1]),
    weights=float64([0.25, 0.25, 0.0, 0.5]),
    group=torch.tensor([0, 0, 0, 0]),
)


def run(name, tokens, **options):
    return loss_of(tokens, stage({"objective": name}, options))


def gradient(name, tokens, **options):
    values = tokens.logprobs.clone().requires_grad_()
    return torch.autograd.grad(run(name, dataclasses.replace(tokens, logprobs=values), **options)[0], values)[0]


@pytest.mark.parametrize("name", ["gspo", "gspo_token"])
def test_gspo_by_hand(name):
    # s = exp(0.2), exp(-0.4); min(s A, clip(s) A): 2 * 1.1 (clipped) and max(0.67, 0.9) * -1 = -0.9 (clipped)
    loss, metrics = run(name, TINY, objective={"clip_low": 0.1, "clip_high": 0.1})
    assert loss.item() == pytest.approx(-(2 * 1.1 - 0.9) / 2)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(1.0)
    free, metrics = run(name, TINY, objective={"clip_low": 0.9, "clip_high": 0.9})
    assert free.item() == pytest.approx(-(2 * math.exp(0.2) - math.exp(-0.4)) / 2)
    assert metrics["policy/ratio"].item() == pytest.approx((math.exp(0.2) + math.exp(-0.4)) / 2)


def test_the_gradient_of_gspo_by_hand_and_the_same_in_its_token_form():
    # -1/2 s A / |y| for each trained token
    expected = float64([-math.exp(0.2) / 2, -math.exp(0.2) / 2, 0.0, math.exp(-0.4) / 2])
    for name in ("gspo", "gspo_token"):
        torch.testing.assert_close(
            gradient(name, TINY, objective={"clip_low": 0.9, "clip_high": 0.9}), expected, rtol=0, atol=1e-12
        )
    whole = random_batch()
    torch.testing.assert_close(gradient("gspo", whole), gradient("gspo_token", whole), rtol=0, atol=1e-12)


def test_gspo_token_takes_an_advantage_per_token():
    tokens = dataclasses.replace(TINY, advantages=float64([1.0, 3.0, 7.0, -1.0]))
    found = gradient("gspo_token", tokens, objective={"clip_low": 0.9, "clip_high": 0.9})
    s, r = math.exp(0.2), math.exp(-0.4)
    torch.testing.assert_close(found, float64([-s / 4, -3 * s / 4, 0.0, r / 2]), rtol=0, atol=1e-12)


def test_gmpo_by_hand():
    # logs held by A > 0: min(0.1, 0.1), min(0.3, 0.2); by A < 0: max(-0.4, -0.2)
    loss, metrics = run("gmpo", TINY, objective={"clip_low": 0.2, "clip_high": 0.2})
    assert loss.item() == pytest.approx(-(2 * math.exp(0.15) - math.exp(-0.2)) / 2)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(0.75)


def test_gmpo_is_the_root_of_a_product():
    whole, options = random_batch(spread=0.5), {"objective": {"clip_low": 0.4, "clip_high": 0.4}}
    expected = 0.0
    for number in range(7):
        mine = (whole.sequence == number) & (whole.weights > 0)
        a = whole.advantages[mine][0].item()
        product = 1.0
        for new, old in zip(whole.logprobs[mine].tolist(), whole.old_logprobs[mine].tolist(), strict=True):
            rho = math.exp(new - old)
            product *= abs(min(rho * a, min(max(rho, math.exp(-0.4)), math.exp(0.4)) * a))
        expected -= math.copysign(product ** (1 / int(mine.sum())), a) / 7
    assert run("gmpo", whole, **options)[0].item() == pytest.approx(expected, rel=1e-6)


def test_reg_grpo_by_hand():
    # R = 0.4, -0.4: mean 0, unbiased variance 0.32; z = R / sqrt(0.32 + 0.25)
    loss, metrics = run("reg_grpo", TINY, objective={"floor": 0.5})
    z = 0.4 / math.sqrt(0.57)
    assert loss.item() == pytest.approx(((2 - z) ** 2 + (-1 + z) ** 2) / 2)
    assert metrics["policy/fitted"].item() == pytest.approx(z)


@pytest.mark.parametrize("floor", [0.01, 1.0, 10.0])
def test_reg_grpo_starts_as_reinforce_over_the_floor(floor):
    """All log-ratios are 0: the paper's form is 0 / 0 there."""
    whole = random_batch()
    advantage_N = REGISTERED.resolve("grpo")(float64([1, 0, 0, 1, 0.5, 0.2, 0.9]), torch.tensor([0, 0, 0, 0, 1, 1, 1]))
    start = dataclasses.replace(whole, old_logprobs=whole.logprobs, advantages=advantage_N[whole.sequence])
    found = gradient("reg_grpo", start, objective={"floor": floor})
    # d/dlogp of mean over sequences of -2 A R / floor, R the sum over trained tokens; advantages of a group sum to 0
    expected = torch.where(whole.weights > 0, -2 * start.advantages / floor / 7, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)  # weights are float32 numbers


def test_reg_grpo_far_from_the_start_is_the_published_form():
    whole = random_batch(spread=3.0)
    expected = 0.0
    log_S = [((whole.logprobs - whole.old_logprobs) * (whole.weights > 0))[whole.sequence == n].sum() for n in range(7)]
    for members in ([0, 1, 2, 3], [4, 5, 6]):
        values = torch.stack([log_S[n] for n in members])
        z = (values - values.mean()) / values.std()
        a = torch.stack([whole.advantages[whole.sequence == n][0] for n in members])
        expected += ((a - z) ** 2).sum().item() / 7
    assert run("reg_grpo", whole, objective={"floor": 1e-3})[0].item() == pytest.approx(expected, rel=1e-5)


def test_reg_grpo_of_a_group_of_one_has_no_gradient():
    alone = dataclasses.replace(TINY, group=torch.tensor([0, 0, 0, 1]))
    assert gradient("reg_grpo", alone).tolist() == [0.0] * 4


def test_reg_grpo_takes_what_learns_nothing_for_absent():
    whole = random_batch()
    masked = whole.sequence == 1
    weights = torch.where(masked, 0.0, whole.weights)
    without = part(dataclasses.replace(whole, weights=weights), ~masked)
    masked_too = dataclasses.replace(whole, weights=weights)
    assert run("reg_grpo", masked_too)[0].item() == pytest.approx(run("reg_grpo", without)[0].item(), abs=1e-12)
    found = gradient("reg_grpo", masked_too)
    torch.testing.assert_close(found[~masked], gradient("reg_grpo", without), rtol=0, atol=1e-12)
    assert not found[masked].any()


def test_reg_grpo_does_not_see_a_constant_in_the_log_ratios():
    """Normalising over the group takes the partition function of the closed-form solution out."""
    whole = random_batch()
    first = torch.tensor([int((whole.sequence == n).nonzero()[0]) for n in range(7)])
    moved = whole.logprobs.clone()
    moved[first] += torch.where(whole.group[first] == 0, 0.7, -0.3)
    assert run("reg_grpo", dataclasses.replace(whole, logprobs=moved))[0].item() == pytest.approx(
        run("reg_grpo", whole)[0].item(), rel=1e-9
    )


def test_dpo_by_hand():
    # d: 0.6 + 0.3 = 0.9 and -0.2
    tokens = dataclasses.replace(TINY, pairs=torch.tensor([[0, 1]]), pair_weights=float64([1.0]))
    loss, metrics = run("dpo", tokens, objective={"beta": 0.5})
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.5 * 1.1)))
    assert metrics["policy/pair_accuracy"].item() == 1.0
    assert metrics["policy/pair_margin"].item() == pytest.approx(0.55)
    swapped = dataclasses.replace(tokens, pairs=torch.tensor([[1, 0]]))
    assert run("dpo", swapped, objective={"beta": 0.5})[0].item() == pytest.approx(math.log(1 + math.exp(0.5 * 1.1)))


def test_dpo_starts_at_the_logarithm_of_two_and_its_gradient_by_hand():
    tokens = dataclasses.replace(
        TINY, ref_logprobs=TINY.logprobs, pairs=torch.tensor([[0, 1]]), pair_weights=float64([1.0])
    )
    assert run("dpo", tokens)[0].item() == pytest.approx(math.log(2))
    # -beta * sigmoid(0) towards the better, away from the worse
    torch.testing.assert_close(gradient("dpo", tokens, objective={"beta": 0.1}), float64([-0.05, -0.05, 0.0, 0.05]))


def test_dpo_without_a_pair_adds_nothing():
    empty = dataclasses.replace(TINY, pairs=torch.zeros((0, 2), dtype=torch.int64), pair_weights=float64([]))
    assert run("dpo", empty)[0].item() == 0.0
    assert gradient("dpo", empty).tolist() == [0.0] * 4


def test_pairs_of_rewards():
    rewards, groups = float64([0.5, 1.0, 0.0, 1.0, 0.3, 0.3, 0.9]), torch.tensor([0, 0, 0, 0, 1, 1, 2])
    assert pairs_of(rewards, groups).tolist() == [[1, 2]]
    assert pairs_of(float64([]), torch.zeros(0, dtype=torch.int64)).shape == (0, 2)


def test_what_learns_nothing_is_in_no_pair():
    """Its gap to the reference would be 0 whatever it says, and the other one would be pushed by itself."""
    rewards, groups = float64([0.5, 1.0, 0.0, 0.9, 0.3, 0.1]), torch.tensor([0, 0, 0, 0, 1, 1])
    trained = torch.tensor([True, False, True, True, True, False])
    assert pairs_of(rewards, groups, trained).tolist() == [[3, 2]]
    assert pairs_of(rewards, groups, torch.zeros(6, dtype=torch.bool)).shape == (0, 2)


def test_pairs_of_a_micro_batch():
    pairs = torch.tensor([[0, 2], [5, 4]])
    mine, weights = pairs_within(pairs, torch.tensor([4, 4, 5, 6]))
    assert mine.tolist() == [[5, 4]] and weights.tolist() == [0.5]
    with pytest.raises(ValueError, match="lies in two micro-batches"):
        pairs_within(pairs, torch.tensor([0, 1]))


@given(st.permutations(range(7)))
def test_numbers_of_sequences_are_only_names(order):
    whole = random_batch()
    names = torch.tensor(order) * 3 + 2
    renamed = dataclasses.replace(
        whole, sequence=names[whole.sequence], pairs=names[whole.pairs], group=whole.group + 9
    )
    for name in ("gspo", "gspo_token", "gmpo", "reg_grpo", "dpo"):
        assert run(name, renamed)[0].item() == pytest.approx(run(name, whole)[0].item(), abs=1e-12)


def test_the_value_loss_by_hand():
    tokens = dataclasses.replace(
        TINY, values=float64([1.0, 2.0, 50.0, 0.0]), old_values=float64([0.0, 2.0, 0.0, 0.5]),
        returns=float64([2.0, 1.0, 0.0, 0.4]),
    )  # fmt: skip
    # near the old values: 0.5, 2, -, 0; squared errors 1|2.25, 1|1, 0.16|0.16
    loss, metrics = value_loss(tokens, stage(advantage="gae", critic={"value_clip": 0.5}).critic)
    assert loss.item() == pytest.approx((2.25 * 0.25 + 1 * 0.25 + 0.16 * 0.5) / 2)
    assert metrics["critic/clip_fraction"].item() == pytest.approx(0.25)
    plain, _ = value_loss(tokens, stage(advantage="gae", critic={"value_clip": None}).critic)
    assert plain.item() == pytest.approx((1 * 0.25 + 1 * 0.25 + 0.16 * 0.5) / 2)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_the_value_loss_by_finite_differences(clip):
    whole = random_batch()
    options = stage(advantage="gae", critic={"value_clip": clip}).critic
    assert torch.autograd.gradcheck(
        lambda x: value_loss(dataclasses.replace(whole, values=x), options)[0], whole.values.clone().requires_grad_()
    )
    with pytest.raises(ValueError, match="critic needs values"):
        value_loss(TINY, options)
