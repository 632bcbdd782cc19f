"""Every group of ranks gets what its own micro-batches need, and what the groups return is the whole."""

from __future__ import annotations

import pytest
import torch
from benchmarks.scaleout_bytes import Pass, driver_bytes_per_sample, step_passes, step_samples
from tests.tiny import load_frames
from tests.training.ranks.job import STAGES, batch_of, turns_of
from tests.training.ranks.test_wire import same_turn

from easyvideor1.config import ModelConfig
from easyvideor1.packing.balance import rank_shares
from easyvideor1.policy.policy import Policy
from easyvideor1.training.ranks.shares import Share, ShareSender, joined_results, joined_turns
from easyvideor1.training.ranks.wire import Receiver, Sender


def shares_of(policy, what, plan, groups):
    parts = rank_shares(plan, groups, lambda rows: sum(row.row_length for row in rows))
    return [Share.of(what, part) for part in parts]


def over_the_wire(shares):
    """The shares as groups of ranks get them, in the order of the groups."""
    sent = dict(ShareSender(range(len(shares))).pack(shares))
    return [Receiver().unpack(sent[group]) for group in range(len(shares))]


@pytest.mark.model
@pytest.mark.parametrize("name", ["grpo", "ppo", "dpo", "one turn"])
def test_shares_that_were_sent_add_up_to_the_update(tiny_checkpoint, name) -> None:
    """With one turn, there are groups that have none."""
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
    policy.begin(STAGES[name])
    batch = batch_of(policy, name, 1)
    whole = policy.forward_backward(batch, load=load_frames)
    wanted = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    shares = shares_of(policy, batch, policy.plan_update(batch), 3)
    parts, summed = [], dict.fromkeys(wanted, 0.0)
    for part, micro_batches in over_the_wire(shares):
        parts.append(policy.forward_backward(part, micro_batches, load=load_frames))
        for parameter, tensor in policy.model.named_parameters():
            if tensor.grad is not None:
                summed[parameter] = summed[parameter] + tensor.grad
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(summed[parameter], gradient, rtol=1e-5, atol=1e-6)
    found = joined_results(parts, shares)
    assert found.sums == pytest.approx(whole.sums, rel=1e-5, abs=1e-6)
    for mine, theirs in zip(rows_of(found), rows_of(whole), strict=True):
        assert mine[0] == theirs[0] and mine[1:] == pytest.approx(theirs[1:], abs=1e-5, nan_ok=True)


def rows_of(result):
    """Turn, trainer's and engine's log-prob and whether it is trained on, of every token, turn by turn."""
    seen = result.observations
    order = seen.turn.argsort(stable=True)
    fields = (seen.turn, seen.trainer, seen.engine, seen.trained)
    return list(zip(*(field[order].tolist() for field in fields), strict=True))


@pytest.mark.model
def test_log_probs_of_shares_come_back_by_turn(tiny_checkpoint) -> None:
    policy = Policy.open(ModelConfig(path=str(tiny_checkpoint), device="cpu"))
    turns, _ = turns_of(policy.family)
    wanted = policy.logprobs(turns, temperature=0.9, load=load_frames)
    shares = shares_of(policy, turns, policy.plan(turns, max_tokens=64), 2)
    parts = [
        policy.logprobs(part, micro_batches, temperature=0.9, load=load_frames)
        for part, micro_batches in over_the_wire(shares)
    ]
    found = joined_turns(parts, shares)
    assert list(found) == list(wanted) == list(range(len(turns)))
    for number, values in wanted.items():
        torch.testing.assert_close(found[number], values, rtol=0, atol=1e-5)


def test_a_group_is_sent_its_own_turns_once() -> None:
    """A turn that changes groups between two passes of a step is sent to both; a second epoch sends none again."""
    samples = step_samples(64, 200, 4, count=8)
    passes = list(step_passes(samples, 4))
    sender, receivers, sent = ShareSender(range(2)), [Receiver(), Receiver()], []
    for each in passes:
        shares = each.shares(2)
        found = dict(sender.pack(shares))
        sent.append(sum(map(len, found.values())))
        assert sorted(n for share in shares for n in share.numbers.tolist()) == list(range(len(turns_in(each))))
        for group, share in enumerate(shares):
            what, micro_batches = receivers[group].unpack(found[group])
            turns = what if isinstance(what, list) else what.turns
            for turn, number in zip(turns, share.numbers.tolist(), strict=True):
                same_turn(turn, turns_in(each)[number])
            rows = [row for rows in micro_batches for row in rows]
            assert all(row.turns == tuple(turns[n] for n in row.sequences) for row in rows)
            assert len({id(turn.prompt) for row in rows for turn in row.turns}) == len(rows), "a prompt is one object"
    whole = len(Sender().pack(passes[0].what))
    assert sent[0] == pytest.approx(whole, rel=0.05), "each turn goes to one group"
    first, second = sum(sent[1:3]), sum(sent[3:5])
    assert second < first / 4, "log-probs and turns are there"


def turns_in(each: Pass):
    return each.what if isinstance(each.what, list) else each.what.turns


def test_a_step_of_long_videos_takes_less_than_64_kb_a_sample() -> None:
    """Eight responses of 500 tokens on average to each of 16 prompts of 17,400 tokens.

    A rank that gets all would get more than ``sample``.
    """
    sample = sum(len(Sender().pack(turns)) for turns in step_samples(256, 500, 8)) / 16
    two, four = (driver_bytes_per_sample(256, 500, 8, ranks=ranks) for ranks in (2, 4))
    assert len(two) == 1 and sum(two) < min(sample, 64_000)
    assert len(four) == 3 and sum(four) < 2 * sample and sum(four) < 64_000
