"""Gradients of objectives against finite differences, with everything that a stage may put around them."""

import dataclasses
import math

import pytest
import torch
from tests.algorithms.batches import OLD, SEQUENCE, batch, float64, loss_of, random_batch, stage

from easyvideor1.algorithms.aggregation import token_weights
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.kl import full_kl
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.token_batch import token_batch
from easyvideor1.algorithms.weighters import WEIGHTERS

OF_TOKENS = [name for name in OBJECTIVES.names() if name not in SEQUENCE]
CASES = [
    *[(name, options) for name in OBJECTIVES.names() for options in ({}, *({"kl": k} for k in ("k2", "k3", "abs")))],
    # Objectives of sequences have no term of a token that could be replaced; luffy replaces them itself.
    *[(name, {"off_policy": "sft"}) for name in OF_TOKENS if name != "luffy"],
    *[(name, {"off_policy": "luffy"}) for name in OF_TOKENS if name != "luffy"],
    ("ppo_clip", {"objective": {"clip_dual": 1.5}}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_finite_differences(name, options):
    whole = random_batch()
    values = whole.logprobs.clone().requires_grad_()
    log_ratio = whole.logprobs - whole.old_logprobs
    chosen = stage({"objective": name}, options, {"kl": {"coef": 0.2}} if "kl" in options else {})

    def loss(x):
        # The weight of CISPO is held: differences are taken with the ratio as it is.
        old = x.detach() - log_ratio if name == "cispo" else whole.old_logprobs
        return loss_of(dataclasses.replace(whole, logprobs=x, old_logprobs=old), chosen)[0]

    assert torch.autograd.gradcheck(loss, values)
    assert loss(values).isfinite()


def test_beyond_the_bound_of_the_dual_clip():
    """Ratios 9, 2.5 and 1.1 with negative advantages and a bound of 2: the first two have left the slope."""
    logprobs = (float64(OLD) + float64([math.log(9), math.log(2.5), math.log(1.1)] * 2)).requires_grad_()
    options = stage(objective={"clip_dual": 2.0})

    def loss(x):
        tokens = batch(logprobs=x, advantages=float64([-1.0, -2.0, -3.0] * 2))
        return loss_of(tokens, options)[0]

    assert torch.autograd.gradcheck(loss, logprobs)
    (gradient,) = torch.autograd.grad(loss(logprobs), logprobs)
    torch.testing.assert_close(gradient, float64([0, 0, 0.66, 0, 0, 0]))


@pytest.mark.parametrize("aggregation", ["token", "sequence", "turn", "fixed"])
@pytest.mark.parametrize("name", ["ppo_clip", "gspo", "sapo"])
def test_under_every_aggregation(name, aggregation):
    if name in SEQUENCE and aggregation not in ("sequence", "turn"):
        pytest.skip("the configuration refuses it")
    whole = random_batch()
    turns = torch.arange(len(whole.sequence)) // 2 + 100 * whole.sequence
    turn_T = torch.unique(turns, return_inverse=True)[1]
    length = 9 if aggregation == "fixed" else None
    weights = token_weights(whole.weights > 0, whole.sequence, aggregation, turn_T=turn_T, length=length).double()
    mean = {"name": aggregation, **({"length": length} if length else {})}
    options = stage(objective=name, aggregation=mean)

    def loss(x):
        return loss_of(dataclasses.replace(whole, logprobs=x, weights=weights), options)[0]

    assert torch.autograd.gradcheck(loss, whole.logprobs.clone().requires_grad_())


@pytest.mark.parametrize("options", [{"kl": {"estimator": "full", "coef": 0.3}}, {"objective": {"entropy_coef": 0.4}}])
@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_what_is_made_of_logits_reaches_them(name, options):
    """KL over the vocabulary and the entropy bonus, with the objective's own gradient through the sampled tokens."""
    whole, generator = random_batch(), torch.Generator().manual_seed(8)
    size = len(whole.sequence)
    logits, reference = (torch.randn(size, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    sampled = torch.randint(4, (size, 1), generator=generator)
    log_ratio = whole.logprobs - whole.old_logprobs
    chosen = stage({"objective": name}, options)

    def loss(x):
        log = torch.log_softmax(x, -1)
        logprobs = log.gather(1, sampled).squeeze(1)
        held = logprobs.detach() if name == "cispo" else torch.log_softmax(logits, -1).gather(1, sampled).squeeze(1)
        tokens = dataclasses.replace(
            whole, logprobs=logprobs, old_logprobs=held.detach() - log_ratio,
            entropy=-(log.exp() * log).sum(-1), full_kl=full_kl(x, reference),
        )  # fmt: skip
        return loss_of(tokens, chosen)[0]

    assert torch.autograd.gradcheck(loss, logits.clone().requires_grad_())


def assembled(options, whole, logprobs, engine):
    """The loss by way of ``token_batch``, as a step makes it."""
    tokens, _ = token_batch(
        options,
        logprobs=logprobs,
        engine_logprobs=engine,
        advantages=whole.advantages,
        sequence=whole.sequence,
        weights=whole.weights,
        group=whole.group,
        entropy=whole.entropy,
        divergence=whole.returns.abs(),
        offline=whole.offline,
    )
    return loss_of(tokens, options)[0]


@pytest.mark.parametrize(
    "options",
    [
        *[{"weighter": name} for name in WEIGHTERS.names() if name != "none"],
        *[{"correction": name} for name in CORRECTIONS.names() if name != "none"],
        {"weighter": "entropy_top", "correction": "tis"},
    ],
)
def test_factors_of_weighter_and_correction_are_held(options):
    whole = random_batch()
    gap = whole.logprobs - whole.old_logprobs
    chosen = stage(objective="reinforce", **options)
    values = whole.logprobs.clone().requires_grad_()
    # Corrections have no gradient: differences are taken with the distance to the engine as it is.
    assert torch.autograd.gradcheck(lambda x: assembled(chosen, whole, x, x.detach() - gap), values)
    plain = torch.autograd.grad(assembled(stage(objective="reinforce"), whole, values, values.detach() - gap), values)
    found = torch.autograd.grad(assembled(chosen, whole, values, values.detach() - gap), values)
    if options.get("correction") != "geometric_mask":
        assert not torch.allclose(plain[0], found[0]), "the factors are there at all"


@pytest.mark.parametrize("off_policy", ["none", "importance", "luffy", "sft"])
def test_offline_tokens_of_ppo_clip(off_policy):
    """With old log-probs that are fixed, for the policy's own tokens and, where they count, for offline ones."""
    whole = random_batch()
    chosen = stage(objective={"old_logprobs": "engine"}, off_policy=off_policy)
    # Without importance, offline tokens start at the ratio 1 wherever they are: there is no difference to be taken.
    own = whole.offline & (whole.weights > 0) if off_policy == "none" else torch.zeros_like(whole.offline)
    values = whole.logprobs.clone().requires_grad_()

    def loss(x):
        return assembled(chosen, whole, torch.where(own, x.detach(), x), whole.old_logprobs)

    assert torch.autograd.gradcheck(loss, values)
    if off_policy == "none":
        (found,) = torch.autograd.grad(assembled(chosen, whole, values, whole.old_logprobs), values)
        torch.testing.assert_close(found[own], (-whole.weights * whole.advantages)[own])
