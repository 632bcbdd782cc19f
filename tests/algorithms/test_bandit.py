"""Every advantage and every objective makes a policy better: signs, scales and wiring in one small problem.

A response is three tokens of a vocabulary of four; its reward is the share of tokens that are 0. The policy is a table
of logits, so that its expected reward is known exactly.
"""

import pytest
import torch
from tests.algorithms.batches import SEQUENCE, stage

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, to_tokens
from easyvideor1.algorithms.assembly import token_batch
from easyvideor1.algorithms.objectives import OBJECTIVES, pairs_of, token_weights

GROUPS, SIZE, LENGTH, WORDS = 4, 6, 3, 4
GROUP_N = torch.arange(GROUPS).repeat_interleave(SIZE)
SEQUENCE_T = torch.arange(GROUPS * SIZE).repeat_interleave(LENGTH)


def reward_of(tokens_NL):
    return (tokens_NL == 0).double().mean(-1)


def expected_reward(logits_LV):
    return torch.softmax(logits_LV, -1)[:, 0].mean().item()


def context_of(options, logits, rewards, tokens):
    greedy = reward_of(logits.detach().argmax(-1)[None]).expand(len(rewards))
    values_L = torch.softmax(logits.detach(), -1)[:, 0].flip(0).cumsum(0).flip(0) / LENGTH
    return AdvantageContext(
        options=options,
        parts={"accuracy": (rewards > 0.5).double(), "format": (tokens[:, 0] == 0).double()},
        lengths=torch.full_like(rewards, LENGTH),
        baseline_rewards=greedy,
        sequence=SEQUENCE_T,
        values=values_L.repeat(len(rewards)),
    )


def train(options, steps=40, lr=2.0, stale=False):
    """Expected reward before and after; with ``stale`` the responses are those of a policy two steps old."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.zeros(LENGTH, WORDS, dtype=torch.float64).requires_grad_()
    reference, past = logits.detach().clone(), [logits.detach().clone()]
    before = expected_reward(logits.detach())
    chosen = ADVANTAGES.resolve(options.advantage)
    for _ in range(steps):
        behaviour = torch.log_softmax(past[-3] if stale and len(past) > 2 else past[-1], -1)
        tokens = torch.multinomial(behaviour.exp(), GROUPS * SIZE, replacement=True, generator=generator).T
        picked = tokens.flatten()[:, None]

        def read(log_LV, picked=picked):
            return log_LV.repeat(GROUPS * SIZE, 1).gather(1, picked).squeeze(1)

        rewards = reward_of(tokens)
        found = call_advantage(chosen, rewards, GROUP_N, context_of(options, logits, rewards, tokens))
        weights = token_weights(
            torch.ones_like(SEQUENCE_T, dtype=torch.bool), SEQUENCE_T, options.aggregation,
            length=options.aggregation_length,
        )  # fmt: skip
        batch, _ = token_batch(
            options,
            logprobs=read(torch.log_softmax(logits, -1)),
            engine_logprobs=read(behaviour),
            ref_logprobs=read(torch.log_softmax(reference, -1)),
            advantages=to_tokens(chosen, found, SEQUENCE_T),
            sequence=SEQUENCE_T,
            weights=weights.double(),
            total_weight=float(weights.sum()),
            group=GROUP_N[SEQUENCE_T],
            entropy=torch.distributions.Categorical(logits=logits).entropy().repeat(GROUPS * SIZE),
            offline=torch.zeros_like(SEQUENCE_T, dtype=torch.bool),
            step_pairs=pairs_of(rewards, GROUP_N),
        )
        loss, _ = OBJECTIVES.resolve(options.objective)(batch, options)
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= lr * gradient
        past.append(logits.detach().clone())
    return before, expected_reward(logits.detach())


@pytest.mark.parametrize("name", [n for n in ADVANTAGES.names() if n != "ones"])
def test_every_advantage_learns(name):
    before, after = train(stage(advantage=name, pass_k=2))
    assert before == pytest.approx(0.25) and after > 0.6


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_objective_learns(name):
    options = {"dpo_beta": 1.0} if name == "dpo" else {}
    before, after = train(stage(objective=name, clip_low=0.3, clip_high=0.3, **options))
    assert before == pytest.approx(0.25) and after > 0.6


@pytest.mark.parametrize("name", [n for n in OBJECTIVES.names() if n not in ("dpo", "reinforce", "sft")])
def test_ratios_against_an_older_policy_learn_too(name):
    _, after = train(stage(objective=name, old_logprobs="engine", clip_low=0.3, clip_high=0.3), lr=1.0, stale=True)
    assert after > 0.45


@pytest.mark.parametrize("name", ["tis", "tis_sequence", "icepop", "sequence_mask"])
def test_corrections_learn_from_an_older_policy(name):
    _, after = train(stage(correction=name, correction_low=0.2), stale=True)
    assert after > 0.6


def test_without_a_comparison_nothing_is_learnt():
    before, after = train(stage(advantage="ones", objective="reinforce"))
    assert after < before + 0.2


@pytest.mark.parametrize("options", [{"aggregation": "fixed", "aggregation_length": 3}, {"aggregation": "sequence"}])
def test_every_aggregation_learns(options):
    assert train(stage(**options))[1] > 0.6


def test_regularisers_hold_the_policy_back():
    free = train(stage())[1]
    assert train(stage(kl="k2", kl_coef=1.0))[1] < free - 0.1
    assert train(stage(entropy_coef=1.0))[1] < free - 0.1
    assert set(SEQUENCE) < set(OBJECTIVES.names())
