"""Objectives of tokens: numbers worked out by hand, and what holds for every objective."""

import dataclasses
import math

import pytest
import torch
from tests.algorithms.batches import ADVANTAGES, OLD, RATIOS, SEQUENCE, batch, float64, loss_of, random_batch, stage

from easyvideor1.algorithms.objectives import OBJECTIVES, objective_loss, ratio_base, token_objective

TOKEN = ("cispo", "luffy", "ppo_clip", "reinforce", "reward_weighted_sft", "sapo", "sft")
NAMES = tuple(sorted((*TOKEN, *SEQUENCE)))
NO_OFFLINE = torch.zeros(6, dtype=torch.bool)


def run(name, tokens, **options):
    return loss_of(tokens, stage({"objective": name}, options))


def test_every_objective_is_tested():
    assert tuple(OBJECTIVES.names()) == NAMES


def test_ppo_clip_by_hand():
    loss, metrics = run("ppo_clip", batch(), objective={"clip_low": 0.2, "clip_high": 0.28})
    # min(rho A, clip(rho) A): 2; 1.28 (clipped); 0.5; -1.5; -0.8 (clipped)
    assert loss.item() == pytest.approx(-(2 + 1.28 + 0.5 - 1.5 - 0.8) / 5)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(2 / 5)
    assert metrics["policy/ratio"].item() == pytest.approx((1 + 1.5 + 0.5 + 1.5 + 0.5) / 5)


def test_a_clipped_token_has_no_gradient_and_the_others_have_theirs():
    logprobs = batch().logprobs.requires_grad_()
    loss, _ = run("ppo_clip", batch(logprobs=logprobs), objective={"clip_low": 0.2, "clip_high": 0.28})
    (gradient,) = torch.autograd.grad(loss, logprobs)
    # -w * rho * A where the unclipped branch is the smaller one
    torch.testing.assert_close(gradient, float64([-0.4, 0.0, -0.1, 0.3, 0.0, 0.0]), rtol=0, atol=1e-12)


def test_dual_clip_by_hand():
    """Ratio 9 with advantage -1 is worth -9; three times the advantage is the bound."""
    tokens = batch(logprobs=float64(OLD) + math.log(9), advantages=float64([-1, -1, 1, 1, -2, 0]))
    loss, metrics = run("ppo_clip", tokens, objective={"clip_dual": 3.0, "clip_high": 0.28})
    assert loss.item() == pytest.approx(-(-3 - 3 + 1.28 + 1.28 - 6) / 5)
    assert metrics["policy/dual_clip_fraction"].item() == pytest.approx(3 / 5)
    unbound, _ = run("ppo_clip", tokens, objective={"clip_high": 0.28})
    assert unbound.item() == pytest.approx(-(-9 - 9 + 1.28 + 1.28 - 18) / 5)


def test_cispo_by_hand():
    logprobs = batch().logprobs.requires_grad_()
    loss, metrics = run("cispo", batch(logprobs=logprobs), objective={"clip_low": 0.2, "clip_high": 0.28})
    weights = [1.0, 1.28, 0.8, 1.28, 0.8]
    terms = [w * a * x for w, a, x in zip(weights, ADVANTAGES, logprobs.tolist(), strict=False)]
    assert loss.item() == pytest.approx(-sum(terms) / 5)
    assert metrics["policy/clip_fraction"].item() == pytest.approx(4 / 5)
    (gradient,) = torch.autograd.grad(loss, logprobs)  # every token keeps one
    expected = [-0.2 * w * a for w, a in zip(weights, ADVANTAGES, strict=False)]
    torch.testing.assert_close(gradient, float64([*expected, 0.0]), rtol=0, atol=1e-12)


def test_sapo_by_hand():
    loss, _ = run("sapo", batch(), objective={"tau_positive": 1.0, "tau_negative": 2.0})

    def gate(ratio, tau):
        return 4 / tau / (1 + math.exp(-tau * (ratio - 1)))

    taus = [1.0, 1.0, 1.0, 2.0, 2.0]
    terms = [gate(r, t) * a for r, t, a in zip(RATIOS, taus, ADVANTAGES, strict=False)]
    assert loss.item() == pytest.approx(-sum(terms) / 5)


@pytest.mark.parametrize("name", ["reinforce", "sft"])
def test_policy_gradient_by_hand(name):
    loss, metrics = run(name, batch(logprobs=float64(OLD)))
    # mean of A * logprob: -2, -2, -1, 2, 1
    assert loss.item() == pytest.approx(-(-2 - 2 - 1 + 2 + 1) / 5)
    assert metrics == {}


def test_sft_with_ones_is_the_mean_negative_log_likelihood():
    ones = batch(logprobs=float64(OLD), advantages=torch.ones(6, dtype=torch.float64))
    assert run("sft", ones)[0].item() == pytest.approx((1 + 2 + 1 + 2 + 1) / 5)


def test_reward_weighted_sft_by_hand():
    loss, metrics = run(
        "reward_weighted_sft", batch(logprobs=float64(OLD)), objective={"temperature": 0.5, "weight_cap": 20}
    )
    weights = [20.0, math.exp(2), math.exp(2), math.exp(-2), math.exp(-2)]  # exp(4) is cut
    assert loss.item() == pytest.approx(sum(-w * x for w, x in zip(weights, OLD, strict=False)) / 5)
    assert metrics["policy/reward_weight"].item() == pytest.approx(sum(weights) / 5)


def test_luffy_by_hand():
    offline = torch.tensor([True, True, False, False, False, False])
    loss, _ = run("luffy", batch(offline=offline), objective={"clip_low": 0.2, "clip_high": 0.28, "gamma": 0.1})
    p = [math.exp(-1.0), 1.5 * math.exp(-2.0)]
    shaped = [2.0 * p[0] / (p[0] + 0.1), 1.0 * p[1] / (p[1] + 0.1)]
    assert loss.item() == pytest.approx(-(sum(shaped) + 0.5 - 1.5 - 0.8) / 5)
    same, _ = run("ppo_clip", batch(offline=offline), off_policy="luffy", objective={"clip_high": 0.28})
    assert same.item() == loss.item()


def test_luffy_shaping_is_steepest_where_the_probability_is_gamma():
    logs = torch.linspace(-6, -0.01, 600, dtype=torch.float64).requires_grad_()
    size = torch.ones(600, dtype=torch.float64)
    tokens = batch(
        logprobs=logs, old_logprobs=logs.detach(), advantages=size, weights=size, sequence=torch.arange(600),
        offline=torch.ones(600, dtype=torch.bool),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(run("luffy", tokens, objective={"gamma": 0.1})[0], logs)
    steepest = logs[gradient.argmin()].item()
    assert steepest == pytest.approx(math.log(0.1), abs=0.02) and gradient.min().item() == pytest.approx(
        -0.25, abs=1e-4
    )


def test_offline_tokens_can_be_imitated():
    offline = torch.tensor([True, False, False, False, False, False])
    loss, _ = run(
        "ppo_clip", batch(offline=offline), off_policy={"name": "sft", "coef": 0.5}, objective={"clip_high": 0.28}
    )
    assert loss.item() == pytest.approx(-(0.5 * -1.0 + 1.28 + 0.5 - 1.5 - 0.8) / 5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [-1.0, -1.0, -1.0]),
        ({"objective": {"old_logprobs": "engine"}}, [-2.0, -1.0, -1.0]),
        ({"objective": {"old_logprobs": "engine"}, "off_policy": "importance"}, [-2.0, -3.0, -1.0]),
        ({"objective": {"old_logprobs": "engine"}, "off_policy": "sft"}, [-2.0, -1.0, -1.0]),
        ({"off_policy": "importance"}, [-1.0, -3.0, -1.0]),
        ({"off_policy": "luffy"}, [-1.0, -1.0, -1.0]),
    ],
)
def test_what_ratios_are_taken_against(options, expected):
    engine, offline = float64([-2.0, -3.0, math.nan]), torch.tensor([False, True, True])
    assert ratio_base(stage(**options), float64([-1.0] * 3), engine, offline).tolist() == expected


@pytest.mark.parametrize("name", ["cispo", "luffy", "ppo_clip", "sapo"])
def test_on_its_own_policy_the_gradient_is_that_of_reinforce(name):
    values = float64(OLD).requires_grad_()
    own = batch(logprobs=values, offline=NO_OFFLINE)
    found, expected = (torch.autograd.grad(run(n, own)[0], values)[0] for n in (name, "reinforce"))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "expected"), [("k2", 0.125), ("k3", math.exp(0.5) - 1.5), ("abs", 0.5), ("full", 2.0)]
)
def test_the_kl_term_is_added_with_its_weight(name, kind, expected):
    tokens = random_batch()
    tokens = dataclasses.replace(
        tokens, ref_logprobs=tokens.logprobs + 0.5, full_kl=torch.full_like(tokens.logprobs, 2.0)
    )
    plain, _ = run(name, tokens, kl="none")
    loss, metrics = run(name, tokens, kl={"estimator": kind, "coef": 0.3})
    assert metrics["policy/kl"].item() == pytest.approx(expected)
    assert (loss - plain).item() == pytest.approx(0.3 * expected)
    adapted, _ = run(name, dataclasses.replace(tokens, kl_coef=0.7), kl={"estimator": kind, "coef": 0.3})
    assert (adapted - plain).item() == pytest.approx(0.7 * expected)
    if name == "dpo":
        return  # reads no reward, and is refused a KL in it
    in_reward, metrics = run(
        name, tokens, kl={"estimator": kind, "coef": 0.3, "placement": "reward"}, advantage="reward"
    )
    assert in_reward.item() == plain.item() and "policy/kl" not in metrics


@pytest.mark.parametrize("name", NAMES)
def test_the_entropy_bonus(name):
    tokens = random_batch()
    plain, _ = run(name, tokens)
    loss, _ = run(name, tokens, objective={"entropy_coef": 0.2})
    assert (plain - loss).item() == pytest.approx(0.2 * (tokens.entropy * tokens.weights).sum().item())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_trained_on_does_not_count(name):
    whole = random_batch()
    base, _ = run(name, whole)
    for value in (0.0, -1e9, float("-inf")):
        logprobs = whole.logprobs.clone()
        logprobs[whole.weights == 0] = value
        assert run(name, dataclasses.replace(whole, logprobs=logprobs))[0].item() == base.item()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("dpo", "reg_grpo")])
def test_extreme_ratios_stay_finite(name):
    old = torch.tensor([-900.0] * 3 + [0.0] * 3)
    logprobs = torch.tensor([-1.0, -2.0, -1.0, -900.0, -1.0, -5.0]).requires_grad_()
    far = batch(logprobs=logprobs, old_logprobs=old, advantages=torch.tensor(ADVANTAGES), offline=NO_OFFLINE)
    loss, metrics = run(name, far)
    assert loss.isfinite() and all(value.isfinite() for value in metrics.values())
    assert torch.autograd.grad(loss, logprobs)[0].isfinite().all()


def test_a_weighter_scales_the_policy_gradient_but_no_regulariser_and_no_metric():
    plain = batch(ref_logprobs=batch().logprobs + 0.5)
    doubled = dataclasses.replace(plain, weights=2 * plain.weights, base_weights=plain.weights)
    options = {"kl": {"estimator": "k2", "coef": 4.0}}
    (one, metrics), (two, same) = run("ppo_clip", plain, **options), run("ppo_clip", doubled, **options)
    assert two.item() - 0.5 == pytest.approx(2 * (one.item() - 0.5))
    assert {k: v.item() for k, v in metrics.items()} == {k: v.item() for k, v in same.items()}


def test_metrics_are_means_whatever_the_weights_sum_to():
    whole = batch()
    fixed = dataclasses.replace(whole, weights=whole.weights / 4, total_weight=0.25)
    assert run("ppo_clip", fixed)[0].item() == pytest.approx(run("ppo_clip", whole)[0].item() / 4)
    assert run("ppo_clip", fixed)[1]["policy/ratio"].item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("ppo_clip", {"kl": "k3"}, "kl: k3 needs ref_logprobs"),
        ("ppo_clip", {"kl": "full"}, "kl: full needs full_kl"),
        ("ppo_clip", {"objective": {"entropy_coef": 0.1}}, "entropy_coef needs entropy"),
        ("ppo_clip", {"off_policy": "luffy"}, "luffy needs offline"),
        ("luffy", {}, "luffy needs offline"),
        ("dpo", {}, "dpo needs pairs"),
        ("reg_grpo", {}, "reg_grpo needs group_ids"),
    ],
)
def test_what_is_missing_is_named(name, options, what):
    with pytest.raises(ValueError, match=what):
        run(name, batch(), **options)


def test_a_token_loss_of_ones_own_becomes_an_objective():
    def squares(tokens, options):
        """My own."""
        return tokens.logprobs.square(), {"mine": tokens.advantages}

    objective = token_objective(squares)
    loss, metrics = objective_loss(objective, batch(logprobs=float64(OLD)), stage())
    assert loss.item() == pytest.approx((1 + 4 + 1 + 4 + 1) / 5) and metrics["mine"].item() == pytest.approx(0.4)
    assert objective.__doc__ == "My own."
