"""Scores, selection, advantages and metrics of groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from easyvideor1.algorithms.advantages import ADVANTAGES, AdvantageContext, group_centred
from easyvideor1.config import StageConfig
from easyvideor1.rollout.groups import (
    GroupScorer,
    attach_scores,
    filter_by_mean,
    flat_rule,
    is_trained_on,
    response_rewards,
    score_metrics,
    select_groups,
    split_offline,
)
from easyvideor1.types import Completion, EasyVideoError, Group, Prompt, Sample, Score, Trajectory, Turn

PROMPT = Prompt(np.arange(3))


def always(group: Group) -> bool:
    return True


def never(group: Group) -> bool:
    return False


def trajectory(text: str, tokens: int = 2, finish: str = "stop") -> Trajectory:
    turn = Turn(PROMPT, np.arange(tokens), np.ones(tokens, dtype=bool), None, finish, text)  # type: ignore[arg-type]
    return Trajectory((turn,))


def scorer(sample: Sample, completion: Completion) -> Score:
    response = completion.text
    if response == "?":
        return Score(0.0, 0.0, 0.0, applicable=False, reason="no judge")
    value = float(response)
    return Score(value, 1.0, 0.9 * value + 0.1)


def score_group(sample: Sample, responses: Sequence[Completion]) -> list[Score]:
    return [scorer(sample, response) for response in responses]


def by_group(one: Callable[[Sample, Sequence[Completion]], Sequence[Score]]) -> GroupScorer:
    """A scorer of a step from one of a group."""
    return lambda asked: [one(sample, responses) for sample, responses in asked]


def scored(*responses: str, task: str = "math") -> Group:
    group = Group(Sample("a", "q", task, "1"), tuple(trajectory(text) for text in responses))
    return attach_scores([group], by_group(score_group))[0]


def test_scores_stay_with_their_trajectories() -> None:
    group = scored("1", "?", "0")
    assert [score.accuracy for score in group.scores] == [1, 0, 0]
    assert [score.applicable for score in group.scores] == [True, False, True]


def test_a_scorer_of_groups_sees_all_responses_and_answers_each() -> None:
    group = scored("1", "0")
    seen: list[list[str]] = []

    def whole(sample: Sample, responses: Sequence[Completion]) -> list[Score]:
        seen.append([response.text for response in responses])
        return score_group(sample, responses)

    assert attach_scores([group], by_group(whole))[0].scores == group.scores
    assert seen == [["1", "0"]]
    with pytest.raises(EasyVideoError, match="1 scores for 2 responses to 'a'"):
        attach_scores([group], by_group(lambda sample, responses: score_group(sample, responses)[:1]))


def test_parts_and_reasons_reach_the_metrics() -> None:
    group = scored("1", "?", "?", "0")
    with_parts = [replace(score, parts={"length": 0.5 * score.accuracy}) for score in group.scores]
    metrics = score_metrics([replace(group, scores=tuple(with_parts))], [])
    assert metrics["part/length"] == 0.25
    assert metrics["not_applicable/math/no judge"] == 2.0
    assert metrics["response/not_applicable"] == 2.0


def test_what_cannot_be_judged_is_taken_out() -> None:
    group = scored("1", "?", "0")
    (used,) = select_groups([group], drop_flat=always)
    assert used.trajectories == (group.trajectories[0], group.trajectories[2])
    assert [score.accuracy for score in used.scores] == [1, 0]
    assert select_groups([scored("?", "?")], drop_flat=never) == []
    # One judged response is a flat group.
    assert select_groups([scored("1", "?")], drop_flat=always) == []


def test_pairs_go_with_what_is_kept_and_keep_a_flat_group() -> None:
    group = scored("1", "1", "1", "1")
    paired = replace(group, pairs=((3, 1), (0, 2)))
    assert select_groups([paired, group], drop_flat=always) == [paired]
    unjudged = replace(paired, scores=(replace(group.scores[0], applicable=False), *group.scores[1:]))
    (kept,) = select_groups([unjudged], drop_flat=always)
    assert kept.pairs == ((2, 0),) and len(kept.trajectories) == 3
    assert select_groups([replace(group, pairs=())], drop_flat=always) == []


def test_flat_and_empty_groups() -> None:
    flat, mixed = scored("1", "1"), scored("1", "0")
    empty = attach_scores([Group(Sample("b", "q", "math", "1"), ())], by_group(score_group))[0]
    assert select_groups([flat, empty, mixed], drop_flat=always) == [mixed]
    assert select_groups([flat, empty, mixed], drop_flat=never) == [flat, mixed]


def flat_is_dropped(group: Group, advantage: str = "grpo", **options: object) -> bool:
    stage = StageConfig.model_validate({"name": "rl", "advantage": advantage, **options})
    return flat_rule(stage, ADVANTAGES.resolve(advantage))(group)


def test_flat_groups_go_where_they_teach_nothing() -> None:
    own = scored("1", "1")
    mixed = replace(own, trajectories=(own.trajectories[0], replace(own.trajectories[1], origin="offline")))
    assert flat_is_dropped(own) and flat_is_dropped(own, "per_turn")
    assert not flat_is_dropped(own, "gae") and not flat_is_dropped(own, "ones")
    assert not flat_is_dropped(own, objective="reward_weighted_sft"), "a weight of exp(0)"
    assert flat_is_dropped(own, "reward", objective="dpo", aggregation="sequence"), "no pair"
    assert not flat_is_dropped(own, kl={"estimator": "k2", "placement": "reward"}), "their KL tells them apart"
    hybrid = {"hybrid": {}, "off_policy": "sft"}
    assert flat_is_dropped(own, **hybrid) and not flat_is_dropped(mixed, **hybrid), "offline members are imitated"
    assert flat_is_dropped(mixed, hybrid={}, off_policy="luffy")


def test_what_a_stage_says_of_flat_groups_is_done() -> None:
    own = scored("1", "1")
    assert flat_is_dropped(own, "remax", selection={"drop_flat_groups": True})
    assert flat_is_dropped(own, objective="reward_weighted_sft", selection={"drop_flat_groups": True})
    assert not flat_is_dropped(own, selection={"drop_flat_groups": False})


def test_a_function_of_ones_own_says_itself_whether_flat_groups_go() -> None:
    def own(rewards_N: torch.Tensor, group_N: torch.Tensor, context: AdvantageContext) -> torch.Tensor:
        return context.parts["mine"]  # which no invented context has

    stage = StageConfig(name="rl", advantage="my_module:own")
    assert not flat_rule(stage, own)(scored("1", "1")) and flat_rule(stage, group_centred(own))(scored("1", "1"))


def test_a_group_of_which_nothing_is_trained_on_is_left_out() -> None:
    """Dynamic sampling then draws another in its place."""
    cut = Group(Sample("a", "q", "math", "1"), (trajectory("1", 4, "length"), trajectory("0", 4, "length")))
    half = replace(cut, trajectories=(trajectory("1", 4, "length"), trajectory("0", 4)))
    groups = attach_scores([cut, half], by_group(score_group))
    for filtered, kept in ((True, groups[1:]), (False, groups)):
        trained = partial(is_trained_on, overlong_filter=filtered)
        found = select_groups(groups, drop_flat=always, trained=trained)
        assert found == kept
    assert not is_trained_on(trajectory("", 0), overlong_filter=False), "an empty response"


def test_an_online_filter_looks_at_the_mean_of_its_key() -> None:
    bounds = StageConfig(name="rl", selection={"filter_key": "accuracy", "filter_low": 0.25, "filter_high": 0.75})
    within = filter_by_mean(bounds.selection)
    groups = [scored("1", "1"), scored("1", "0"), scored("0", "0"), scored("1", "0", "0", "0"), scored("1", "0", "?")]
    assert select_groups(groups, drop_flat=never, within=within)[0] == groups[1]
    assert len(select_groups(groups, drop_flat=never, within=within)) == 2, "strictly within, of judged responses"
    assert filter_by_mean(bounds.selection.model_copy(update={"filter_key": "iou"}))(groups[0]), "nothing to look at"
    own = replace(
        groups[0], trajectories=(groups[0].trajectories[0], replace(groups[0].trajectories[1], origin="offline"))
    )
    assert not within(own), "the offline one does not count"


def test_length_costs_near_the_limit() -> None:
    group = Group(Sample("a", "q", "math", "1"), (trajectory("1", 4), trajectory("1", 8), trajectory("1", 10)))
    group = attach_scores([group], by_group(score_group))[0]
    stage = StageConfig(name="rl", overlong={"cache": 4, "penalty": 0.5})
    assert response_rewards(group, stage, 10) == pytest.approx([1.0, 1 - 0.5 * 0.5, 0.5])
    assert response_rewards(group, StageConfig(name="rl"), 10) == [1.0, 1.0, 1.0]


def test_offline_members_are_told_apart_in_metrics() -> None:
    mixed = scored("0", "0.5", "1")
    marked = replace(mixed, trajectories=(*mixed.trajectories[:2], replace(mixed.trajectories[2], origin="offline")))
    metrics = score_metrics([marked], [marked])
    assert metrics["reward/accuracy"] == 0.25 and metrics["offline/accuracy"] == 1.0
    own, offline = split_offline([marked])
    assert len(own[0].trajectories) == 2 and [score.accuracy for score in offline] == [1.0]
    everything = [replace(each, origin="offline") for each in mixed.trajectories]
    unjudged = replace(marked, scores=(*marked.scores[:2], replace(marked.scores[2], applicable=False)))
    metrics = score_metrics([marked, unjudged], [])
    assert metrics["offline/not_applicable"] == 1.0 and metrics["offline/accuracy"] == 1.0
    assert score_metrics([unjudged], [])["offline/not_applicable"] == 1.0
    alone = score_metrics([replace(mixed, trajectories=tuple(everything))], [])
    assert alone["reward/accuracy"] == 0.5 and "offline/accuracy" not in alone


def test_metrics_are_means_over_what_was_judged() -> None:
    groups = [scored("1", "?", "0"), scored("1", "1", task="ocr"), Group(Sample("c", "q", "ocr", "1"), ())]
    assert score_metrics(groups, select_groups(groups, drop_flat=always)) == {
        "reward/total": pytest.approx((1 + 0.1 + 1 + 1) / 4),
        "reward/accuracy": 0.75,
        "reward/format": 1.0,
        "accuracy/math": 0.5,
        "accuracy/ocr": 1.0,
        "response/tokens": 2.0,
        "response/cut_at_limit": 0.0,
        "groups/all": 3.0,
        "groups/used": 1.0,
        "groups/media_failed": 1.0,
        "response/not_applicable": 1.0,
        "not_applicable/math/no judge": 1.0,
    }
