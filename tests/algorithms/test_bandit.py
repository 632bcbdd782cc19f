"""Every advantage and every objective makes a policy better: signs, scales and wiring in one small problem.

A response is three tokens of a vocabulary of four; its reward is the share of tokens that are 0. The policy is a table
of logits by position and token before, so that its expected reward is known exactly. Several updates follow each
rollout: from the second on ratios are off 1, and objectives differ that are the same in the first.
"""

from typing import NamedTuple

import pytest
import torch
from tests.algorithms.batches import loss_of as batch_loss
from tests.algorithms.batches import stage

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, call_advantage, is_per_token
from easyvideor1.algorithms.objectives import OBJECTIVES, pairs_of, token_weights
from easyvideor1.algorithms.token_batch import stage_needs, token_batch
from easyvideor1.algorithms.weighters import position_divergence

GROUPS, SIZE, LENGTH, WORDS = 4, 6, 3, 4
COUNT = GROUPS * SIZE
GROUP_N = torch.arange(GROUPS).repeat_interleave(SIZE)
SEQUENCE_T = torch.arange(COUNT).repeat_interleave(LENGTH)
#: The first two tokens of a response are a turn, the third is another.
TURN_T = torch.tensor([0, 0, 1]).repeat(COUNT) + 2 * SEQUENCE_T
TRAINED_T = torch.ones_like(SEQUENCE_T, dtype=torch.bool)


class Rollout(NamedTuple):
    """Responses, which of them another policy wrote, and the table of the policy that wrote the rest."""

    tokens: torch.Tensor  # (N, L)
    offline: torch.Tensor  # bool (N,)
    table: torch.Tensor


def distributions(table_LPV, tokens_NL):
    """Log-probabilities ``(N, L, V)`` at every position of some responses."""
    before_NL = torch.cat([torch.full_like(tokens_NL[:, :1], WORDS), tokens_NL[:, :-1]], 1)
    return torch.log_softmax(table_LPV[torch.arange(LENGTH), before_NL], -1)


def sample(table_LPV, generator, hybrid):
    """Responses of a policy; under ``hybrid`` the last of every group is all 0, written by one that often does that."""
    tokens = torch.zeros(COUNT, LENGTH, dtype=torch.int64)
    for place in range(LENGTH):
        before = tokens[:, place - 1] if place else torch.full((COUNT,), WORDS)
        chances = torch.softmax(table_LPV[place, before], -1)
        tokens[:, place] = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    offline = (torch.arange(COUNT) % SIZE == SIZE - 1) & hybrid
    return Rollout(torch.where(offline[:, None], 0, tokens), offline, table_LPV)


def expected_reward(table_LPV):
    chances, total = torch.nn.functional.one_hot(torch.tensor(WORDS), WORDS + 1).double(), 0.0
    for place in range(LENGTH):
        following = chances @ torch.softmax(table_LPV[place], -1)
        total += following[0].item() / LENGTH
        chances = torch.cat([following, torch.zeros(1, dtype=torch.float64)])
    return total


def context_of(options, table, rewards, tokens):
    values_L = torch.softmax(table[:, WORDS], -1)[:, 0].flip(0).cumsum(0).flip(0) / LENGTH
    greedy = (distributions(table, tokens).argmax(-1) == 0).double().mean()
    return AdvantageContext(
        options=options.advantage,
        parts={"accuracy": (rewards > 0.5).double(), "format": (tokens[:, 0] == 0).double()},
        lengths=torch.full_like(rewards, LENGTH),
        baseline_rewards=greedy.expand(COUNT),
        sequence=SEQUENCE_T,
        values=values_L.repeat(COUNT),
    )


def loss_of(options, table, reference, rollout):
    """The loss of a whole step, differentiable in ``table``."""
    tokens, picked = rollout.tokens, rollout.tokens[..., None]
    rewards = (tokens == 0).double().mean(-1)
    chosen = ADVANTAGES.resolve(options.advantage.name)
    found = call_advantage(chosen, rewards, GROUP_N, context_of(options, rollout.table, rewards, tokens))
    length = getattr(options.aggregation, "length", None)
    weights = token_weights(TRAINED_T, SEQUENCE_T, options.aggregation.name, turn_T=TURN_T, length=length).double()
    log_NLV = distributions(table, tokens)

    def read(log):
        return log.gather(2, picked).flatten()

    behaviour = read(distributions(rollout.table, tokens))
    written = torch.where(rollout.offline[SEQUENCE_T], torch.tensor(0.5).log().double(), behaviour)
    divergence = None
    if "full_logits" in stage_needs(options):
        alive = torch.ones(SIZE, LENGTH, dtype=torch.bool)
        of_groups = [position_divergence(part.detach(), alive) for part in log_NLV.split(SIZE)]
        divergence = torch.cat([each.repeat(SIZE) for each in of_groups])
    batch, _ = token_batch(
        options,
        logprobs=read(log_NLV),
        engine_logprobs=written,
        ref_logprobs=read(distributions(reference, tokens)),
        advantages=found if is_per_token(chosen) else found[SEQUENCE_T],
        sequence=SEQUENCE_T,
        weights=weights,
        total_weight=float(weights.sum()),
        group=GROUP_N[SEQUENCE_T],
        entropy=-(log_NLV.exp() * log_NLV).sum(-1).flatten(),
        divergence=divergence,
        offline=rollout.offline[SEQUENCE_T],
        step_pairs=pairs_of(rewards, GROUP_N),
    )
    return batch_loss(batch, options)[0]


def train(options, *, steps=30, updates=3, lr=3.0, stale=0):
    """The table after some steps of several updates each; responses are of the policy ``stale`` steps before."""
    generator = torch.Generator().manual_seed(5)
    table = torch.zeros(LENGTH, WORDS + 1, WORDS, dtype=torch.float64).requires_grad_()
    reference, past = table.detach().clone(), [table.detach().clone()]
    for _ in range(steps):
        rollout = sample(past[max(len(past) - 1 - stale, 0)], generator, options.hybrid is not None)
        for _ in range(updates):
            (gradient,) = torch.autograd.grad(loss_of(options, table, reference, rollout), table)
            with torch.no_grad():
                table -= lr * gradient
        past.append(table.detach().clone())
    return table.detach()


def learn(*parts, **options):
    given = {key: options.pop(key) for key in ("steps", "updates", "lr", "stale") if key in options}
    return expected_reward(train(stage(*parts, **options), **given))


#: With ratios, old log-probs are those of the rollout: after the first update of a step they are not the trainer's.
RATIO = ("cispo", "gmpo", "gspo", "gspo_token", "luffy", "ppo_clip", "reg_grpo", "sapo")
SETTINGS = {
    **{name: {"objective": {"old_logprobs": "engine"}} for name in RATIO},
    "dpo": {"objective": {"beta": 1.0}},
    "sft": {"advantage": "reward"},
    "reward_weighted_sft": {"objective": {"temperature": 0.3}},
}


def test_it_begins_with_one_in_four():
    assert learn(steps=1, lr=0.0) == pytest.approx(1 / WORDS)


@pytest.mark.parametrize("name", [n for n in ADVANTAGES.names() if n != "ones"])
def test_every_advantage_learns(name):
    options = {"advantage": {"k": 2}} if name == "pass_at_k" else {}
    assert learn({"advantage": name}, options, objective={"old_logprobs": "engine"}) > 0.6


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_objective_learns(name):
    assert learn({"objective": name}, SETTINGS.get(name, {})) > 0.6


def test_after_the_first_update_no_two_objectives_are_the_same():
    """One step of three updates; what is the same in its first update is told apart by those that follow."""
    chosen = {
        name: stage({"objective": name}, SETTINGS.get(name, {})) for name in OBJECTIVES.names() if name != "luffy"
    }
    # A short step, and clip ranges that the second update leaves.
    first = {name: train(options, steps=1, updates=1, lr=30.0) for name, options in chosen.items()}
    third = {name: train(options, steps=1, updates=3, lr=30.0) for name, options in chosen.items()}
    same = {name for name, table in first.items() if torch.allclose(table, first["reinforce"], atol=1e-9)}
    assert same == {"cispo", "gmpo", "gspo", "gspo_token", "ppo_clip", "reinforce", "sapo"}
    for name in same - {"gspo"}:
        for other in same - {name, "gspo"}:
            assert not torch.allclose(third[name], third[other], atol=1e-3), (name, other)
    # One advantage for all tokens of a response makes the two forms of GSPO one.
    torch.testing.assert_close(third["gspo"], third["gspo_token"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in RATIO if name != "luffy"])
def test_ratios_against_an_older_policy_learn_too(name):
    assert learn(objective={"name": name, "old_logprobs": "engine"}, stale=2, updates=1, lr=2.0, steps=40) > 0.45


@pytest.mark.parametrize("name", ["tis", "tis_sequence", "icepop", "sequence_mask"])
def test_corrections_learn_from_an_older_policy(name):
    bounds = {"correction": {"low": 0.2}} if name in ("icepop", "sequence_mask") else {}
    assert learn({"correction": name}, bounds, stale=2, updates=1, steps=60) > 0.6


def test_without_a_comparison_nothing_is_trained_on():
    assert learn(advantage="ones", objective="reinforce") < 0.45


@pytest.mark.parametrize(
    "options", [{"aggregation": {"name": "fixed", "length": 3}}, {"aggregation": "sequence"}, {"aggregation": "turn"}]
)
def test_every_aggregation_learns(options):
    assert learn(objective={"old_logprobs": "engine"}, **options) > 0.6


def test_turns_weigh_their_tokens():
    """The third token is a turn of its own and counts twice as much as either of the first two."""
    token, turn = (train(stage(aggregation=how), steps=1, updates=1) for how in ("token", "turn"))
    torch.testing.assert_close(turn[2], token[2] * 1.5)
    torch.testing.assert_close(turn[:2], token[:2] * 0.75)


@pytest.mark.parametrize("off_policy", ["none", "importance", "luffy", "sft"])
def test_every_treatment_of_offline_responses_learns(off_policy):
    """One perfect response in every group."""
    assert learn(hybrid={}, off_policy=off_policy, objective={"old_logprobs": "engine"}) > 0.6


def test_the_treatments_of_offline_responses_differ():
    how = ("none", "importance", "luffy", "sft")
    found = [train(stage(hybrid={}, off_policy=name, objective={"old_logprobs": "engine"}), steps=1) for name in how]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(found) for b in found[:i])
    luffy = train(stage(objective={"name": "luffy", "old_logprobs": "engine"}), steps=1)
    torch.testing.assert_close(luffy, found[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["tw_grpo", "entropy_top"])
def test_every_weighter_learns(name):
    options = {"weighter": {"share": 0.5}} if name == "entropy_top" else {"weighter": {"alpha": 3.0}}
    assert learn({"weighter": name}, options, objective={"old_logprobs": "engine"}) > 0.6
    weighed = train(stage({"weighter": name}, options), steps=3)
    assert not torch.allclose(weighed, train(stage(), steps=3), atol=1e-3), "the weights are not all 1"


def test_regularisers_hold_the_policy_back():
    free = learn()
    assert learn(kl={"estimator": "k2", "coef": 1.0}) < free - 0.1
    assert learn(objective={"entropy_coef": 1.0}) < free - 0.1
