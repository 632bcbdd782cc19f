"""Rewards and advantages of a step, laid out for the update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.token_batch import stage_needs
from easyvideor1.config import StageConfig
from easyvideor1.rollout.groups import score_metrics, selector
from easyvideor1.training.train_batch import Sources, TrainBatch, flatten_groups, make_train_batch
from easyvideor1.types import EasyVideoError, Group, Prompt, Sample, Score, Trajectory, Turn


def turn(tokens: int, finish: str = "stop") -> Turn:
    return Turn(Prompt(np.arange(3)), np.arange(tokens), np.ones(tokens, dtype=bool), None, finish, "")  # type: ignore[arg-type]


def group(*members: tuple[float, Sequence[int]]) -> Group:
    """Members are a reward and the lengths of their turns."""
    trajectories = tuple(Trajectory(tuple(turn(length) for length in lengths)) for _, lengths in members)
    return Group(
        Sample("a", "q", "math", "1"), trajectories, tuple(Score(r, 1.0, r, {"iou": r / 2}) for r, _ in members)
    )


def sources(kl: float = 0.0, value: float = 0.0, coefficient: float = 0.5) -> Sources:
    return Sources(
        lambda turns: [torch.full((len(each.response_ids),), kl) for each in turns],
        lambda turns: [torch.full((len(each.response_ids),), value) for each in turns],
        lambda: coefficient,
    )


def train_batch(groups: Sequence[Group], given: Sources | None = None, **options: object) -> TrainBatch:
    stage = StageConfig.model_validate({"name": "rl", **options})
    function = ADVANTAGES.resolve(stage.advantage.name)
    return make_train_batch(groups, function, stage, 10, stage_needs(stage), given or sources(), 1)


GROUPS = [group((1.0, [2]), (0.0, [3])), group((0.5, [1]), (0.5, [2]), (2.0, [1]))]


def test_rows_are_numbered_over_the_step() -> None:
    rows = flatten_groups([group((1.0, [2, 1]), (0.0, [3])), group((1.0, [1]))])
    assert rows.owner.tolist() == [0, 0, 1, 2] and rows.group.tolist() == [0, 0, 1]
    assert rows.sequence.tolist() == [0, 0, 0, 1, 1, 1, 2] and rows.trained.all()
    assert [each.tolist() for each in rows.split(torch.arange(7))] == [[0, 1], [2], [3, 4, 5], [6]]


def test_advantages_are_taken_group_by_group() -> None:
    found = train_batch(GROUPS, advantage="dr_grpo")
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.5, -0.5, -0.5, -0.5, 1.0]))
    assert (
        found.has_trained_tokens
        and not train_batch([]).has_trained_tokens
        and len(train_batch([]).trajectory_advantages) == 0
    )


def test_what_was_cut_is_not_trained_on_but_counts_for_its_group() -> None:
    first = replace(GROUPS[0], trajectories=(Trajectory((turn(2, "length"),)), GROUPS[0].trajectories[1]))
    found = train_batch([first], advantage="dr_grpo", overlong={"filter": True})
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.5, -0.5]))
    assert found.rows.trained.tolist() == [False, False, True, True, True]
    assert (
        found.rows.turns[0].response_mask.tolist() == [False, False]
        and first.trajectories[0].turns[0].response_mask.all()
    )


def test_a_greedy_baseline_is_its_groups() -> None:
    judged = [replace(one, baseline=0.25 + i) for i, one in enumerate(GROUPS)]
    found = train_batch(judged, advantage="remax")
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.75, -0.25, -0.75, -0.75, 0.75]))
    assert found.metrics["reward/greedy"] == 0.75
    # A greedy response that could not be judged: the mean of the group, 0.5, stands for it.
    found = train_batch([replace(judged[0], baseline=None), judged[1]], advantage="remax")
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.5, -0.5, -0.75, -0.75, 0.75]))


def test_kl_goes_off_the_reward_by_length() -> None:
    found = train_batch(GROUPS, sources(kl=0.1), advantage="reward", kl={"estimator": "k1", "placement": "reward"})
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.9, -0.15, 0.45, 0.4, 1.95]))
    assert found.metrics["policy/kl"] == pytest.approx(0.1)


def test_a_critic_gives_advantages_per_token_and_returns() -> None:
    options = {"advantage": {"name": "gae", "gamma": 1.0, "lam": 1.0}}
    found = train_batch(GROUPS, sources(value=0.5), **options)
    assert isinstance(found.advantages, list) and [len(each) for each in found.advantages] == [2, 3, 1, 2, 1]
    assert torch.cat(found.advantages).mean() == pytest.approx(0, abs=1e-6)
    assert found.returns is not None and found.values is not None
    torch.testing.assert_close(torch.cat(found.returns), torch.tensor([1.0, 1, 0, 0, 0, 0.5, 0.5, 0.5, 2]))
    assert torch.cat(found.values).tolist() == [0.5] * 9
    # With KL, every token pays its own and what follows it.
    returns = train_batch(GROUPS[:1], sources(kl=0.2), **options, kl={"estimator": "k1", "placement": "reward"}).returns
    assert returns is not None
    torch.testing.assert_close(torch.cat(returns), torch.tensor([0.8, 0.9, -0.3, -0.2, -0.1]))


def test_turns_share_what_their_trajectory_earned() -> None:
    groups = [group((1.0, [2, 1]), (0.0, [3]))]
    found = train_batch(groups, advantage="per_turn")
    assert isinstance(found.advantages, torch.Tensor)
    torch.testing.assert_close(found.advantages, torch.tensor([0.5, 0.5, -0.5]))
    torch.testing.assert_close(found.trajectory_advantages, torch.tensor([0.5, -0.5]))
    torch.testing.assert_close(train_batch(groups, advantage="dr_grpo").advantages, torch.tensor([0.5, 0.5, -0.5]))


def test_turns_with_rewards_of_their_own() -> None:
    """Worked out by hand: returns are sums from a turn on; statistics are those of a turn, over those that have it."""
    whole = group((0.5, [2, 1]), (0.1, [3, 1]), (0.3, [1]))
    turns = ((1.0, 0.0), (0.0, 0.2), (0.8,))
    own = replace(whole, scores=tuple(replace(s, turns=t) for s, t in zip(whole.scores, turns, strict=True)))

    def found(**options: object) -> list[float]:
        advantages = train_batch([own], advantage={"name": "per_turn", **options}).advantages
        assert isinstance(advantages, torch.Tensor)
        return advantages.tolist()

    # Returns are [1, 0], [0.2, 0.2] and [0.8]; their mean at the first turn is 2 / 3.
    assert found() == pytest.approx([1 / 3, -2 / 3, -7 / 15, -7 / 15, 2 / 15])
    assert found(baseline="same") == pytest.approx([1 / 3, -0.1, -7 / 15, 0.1, 2 / 15])
    assert found(baseline="same", gamma=0.0) == pytest.approx([0.4, -0.1, -0.6, 0.1, 0.2])
    first, second = np.std([1.0, 0.0, 0.8], ddof=1), np.std([0.0, 0.2], ddof=1)
    expected = [0.4 / first, -0.1 / second, -0.6 / first, 0.1 / second, 0.2 / first]
    assert found(baseline="same", gamma=0.0, scale="std") == pytest.approx(expected, rel=1e-4)
    # What is taken off a response for its length stays with its last turn: 8 of 10 tokens with a cache of 4 cost 0.5.
    long = replace(own, trajectories=(Trajectory((turn(1), turn(8))), *own.trajectories[1:]))
    cut = train_batch([long], advantage={"name": "per_turn", "gamma": 0.0}, overlong={"cache": 4}).advantages
    assert isinstance(cut, torch.Tensor) and cut[:2].tolist() == pytest.approx([1 - 0.6, -0.5 - 0.6])


def test_rewards_of_other_turns_than_there_are_are_refused() -> None:
    whole = group((0.5, [2, 1]), (0.1, [3]))
    # As many as there are turns in all: by their sum alone they could be taken for each other's.
    scores = tuple(replace(s, turns=t) for s, t in zip(whole.scores, ((1.0,), (0.0, 0.2)), strict=True))
    with pytest.raises(ValueError, match="1 rewards of turns for a trajectory of 2"):
        train_batch([replace(whole, scores=scores)], advantage="per_turn")


def test_a_group_whose_turns_differ_is_not_flat() -> None:
    flat = group((0.5, [1, 1]), (0.5, [1, 1]))
    scores = tuple(replace(s, turns=t) for s, t in zip(flat.scores, ((1.0, 0.0), (0.0, 1.0)), strict=True))
    differing = replace(flat, scores=scores)
    for advantage, kept in (("per_turn", True), ("grpo", False)):
        stage = StageConfig.model_validate({"name": "rl", "advantage": advantage})
        assert (selector(stage, 10)([differing]) == [differing]) == kept
        assert selector(stage, 10)([flat]) == []
    assert score_metrics([differing], [])["reward/turn/1"] == 0.5


def test_pairs_are_there_for_those_who_compare() -> None:
    found = train_batch(GROUPS, objective="dpo", aggregation="sequence")
    assert found.pairs is not None and found.pairs.tolist() == [[0, 1], [4, 2]]
    assert train_batch(GROUPS).pairs is None


def test_pairs_that_a_group_comes_with_go_before_those_of_rewards() -> None:
    given = replace(group((1.0, [2]), (1.0, [3]), (1.0, [1])), pairs=((2, 0), (1, 0)))
    dpo = {"objective": "dpo", "aggregation": "sequence"}
    assert train_batch([given, GROUPS[0]], **dpo).pairs.tolist() == [[2, 0], [1, 0], [3, 4]]
    assert train_batch([GROUPS[0], given], **dpo).pairs.tolist() == [[4, 2], [3, 2], [0, 1]]
    assert train_batch([replace(given, pairs=())], **dpo).pairs.tolist() == []
    cut = replace(given, trajectories=(*given.trajectories[:2], Trajectory((turn(1, "length"),))))
    assert train_batch([cut], **dpo, overlong={"filter": True}).pairs.tolist() == [[1, 0]]


def test_a_response_of_which_nothing_is_trained_on_is_in_no_pair() -> None:
    """Cut at the limit, or empty: the other one of its pair would be pushed by itself."""
    cut = Trajectory((turn(2, "length"),))
    first = replace(GROUPS[1], trajectories=(cut, *GROUPS[1].trajectories[1:]))
    found = train_batch([first], objective="dpo", aggregation="sequence", overlong={"filter": True})
    assert found.pairs is not None and found.pairs.tolist() == [[2, 1]]
    empty = replace(GROUPS[0], trajectories=(Trajectory((turn(0),)), GROUPS[0].trajectories[1]))
    found = train_batch([empty, GROUPS[1]], objective="dpo", aggregation="sequence")
    assert found.pairs is not None and found.pairs.tolist() == [[4, 2]]


def test_the_kl_of_reinforce_plus_plus_is_that_of_this_token_and_those_behind_it() -> None:
    options = {"advantage": "reinforce_plus_plus", "kl": {"estimator": "k1", "placement": "reward"}}
    found = train_batch(GROUPS[:1], sources(kl=0.2), **options)
    raw = torch.tensor([1 - 0.2, 1 - 0.1, -0.3, -0.2, -0.1])
    expected = (raw - raw.mean()) / (raw.std() + 1e-8)
    assert isinstance(found.advantages, list) and found.values is None and found.returns is None
    torch.testing.assert_close(torch.cat(found.advantages), expected)
    torch.testing.assert_close(found.trajectory_advantages, torch.stack([expected[:2].mean(), expected[2:].mean()]))


def test_the_lengths_of_opo_are_those_that_were_generated() -> None:
    """A response that overlong filtering leaves out has its length in the baseline, like its reward."""
    first = replace(GROUPS[0], trajectories=(Trajectory((turn(2, "length"),)), GROUPS[0].trajectories[1]))
    for filtered in (False, True):
        found = train_batch([first], advantage="opo", overlong={"filter": filtered})
        torch.testing.assert_close(found.trajectory_advantages, torch.tensor([1 - 2 / 5, -2 / 5]))


def test_parts_reach_those_who_weigh_them() -> None:
    found = train_batch(GROUPS, advantage={"name": "gdpo", "part_weights": {"iou": 1.0}})
    assert found.trajectory_advantages[0] > 0 > found.trajectory_advantages[1]
    other = replace(GROUPS[0], scores=tuple(replace(score, parts={}) for score in GROUPS[0].scores))
    found = train_batch([other], advantage={"name": "gdpo", "part_weights": {"iou": 1.0, "accuracy": 0.5}})
    assert found.trajectory_advantages[0] > 0 > found.trajectory_advantages[1], "no group of this step has an iou"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda rewards, group: rewards[:1], "shape (1,) for 2 rewards"),
        (lambda rewards, group: rewards / 0, "2 values of 2 that are not finite"),
        (lambda rewards, group: rewards.tolist(), "returned list, not a tensor"),
    ],
)
def test_a_wrong_advantage_is_named(wrong, words: str) -> None:
    with pytest.raises(EasyVideoError) as refused:
        make_train_batch(GROUPS[:1], wrong, StageConfig(name="rl"), 10, frozenset(), sources(), 1)
    assert words in str(refused.value)


def test_a_part_is_the_batch_of_its_groups() -> None:
    groups = [*GROUPS, group((0.0, [2, 2]), (1.0, [3]), (0.2, [1])), group((1.0, [4]), (0.5, [1]))]
    whole = train_batch(groups, advantage="dr_grpo", objective="dpo", aggregation="sequence")
    logprobs = [torch.full((len(turn.response_ids),), -float(n)) for n, turn in enumerate(whole.rows.turns)]
    whole = replace(whole, rollout_logprobs=logprobs)
    for chosen in ([0], [1, 3], [0, 1, 2, 3]):
        part = whole.part(chosen, overlong_filter=False)
        alone = train_batch([groups[g] for g in chosen], advantage="dr_grpo", objective="dpo", aggregation="sequence")
        for name in ("owner", "group", "offline", "sequence", "trained"):
            assert torch.equal(getattr(part.rows, name), getattr(alone.rows, name)), name
        assert torch.equal(part.advantages, alone.advantages) and torch.equal(
            part.trajectory_advantages, alone.trajectory_advantages
        )
        assert torch.equal(part.pairs, alone.pairs)
        turns = [i for i, owner in enumerate(whole.rows.owner.tolist()) if int(whole.rows.group[owner]) in chosen]
        assert [each.tolist() for each in part.rollout_logprobs or []] == [
            [-float(i)] * len(whole.rows.turns[i].response_ids) for i in turns
        ]


def test_a_part_of_token_advantages_has_its_tokens() -> None:
    whole = train_batch(GROUPS, sources(value=0.2), advantage="gae")
    part = whole.part([1], overlong_filter=False)
    assert isinstance(whole.advantages, list) and isinstance(part.advantages, list)
    assert [each.tolist() for each in part.advantages] == [each.tolist() for each in whole.advantages[2:]]
    assert part.values is not None and part.returns is not None
    assert [len(each) for each in part.values] == [len(each) for each in part.returns] == [1, 2, 1]
