"""Rewards of single turns: by the rules of task types, and as a reward of one's own returns them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.score import ScoringSettings, score_response
from easyvideor1.rewards.turns import by_turn as by_turn_with
from easyvideor1.rewards.types import ColumnError
from easyvideor1.types import Prompt, Sample, Score, Trajectory, Turn

ANSWERS = [{"task": "temporal_grounding", "answer": '{"time":[1,3]}'}, {"task": "numerical", "answer": "4"}]
SPAN, NUMBER = '<answer>{"time":[1,2]}</answer>', "<answer>4</answer>"


def by_turn(*given: object) -> Score:
    """``by_turn`` with the built-in rules by their defaults."""
    return by_turn_with(*given, built_in_rules=partial(score_response, settings=ScoringSettings()))


def row(answers: object) -> Sample:
    return Sample("s", "<video>?", "numerical", "4", extra={"turn_answers": answers})


def said(*texts: str) -> Trajectory:
    ids = np.arange(2)
    prompt = Prompt(np.arange(3))
    return Trajectory(tuple(Turn(prompt, ids, ids > -1, None, "stop", text) for text in texts))


def two_and_a_half(sample: Sample, response: str, trajectory: Trajectory | None = None) -> Score:
    return Score(0.5, 0.0, 0.5, turns=(1.0, 0.5, 0.25))


@pytest.mark.parametrize("answers", [ANSWERS, json.dumps(ANSWERS)])
def test_each_turn_has_the_rule_of_its_type(answers) -> None:
    """A span of half the reference is worth 0.5 of accuracy; with the format of both turns: 0.55 and 1."""
    found = Scorer(RewardConfig(custom={"*": "easyvideor1.rewards.turns:by_turn"})).score_group(
        row(answers), [said(SPAN, NUMBER).completion, said(SPAN, "no").completion, said("?", NUMBER).completion]
    )
    assert [each.turns for each in found] == [pytest.approx(t) for t in ((0.55, 1.0), (0.55, 0.0), (0.0, 1.0))]
    assert [each.accuracy for each in found] == pytest.approx([0.75, 0.25, 0.5])
    assert found[0].total == pytest.approx(0.775) and found[0].parts == {"turn_1": 0.5, "turn_2": 1.0}


def test_turns_that_lack_or_are_not_asked_for() -> None:
    assert by_turn(row(ANSWERS), SPAN, said(SPAN)).turns == pytest.approx((0.55,))
    assert by_turn(row(ANSWERS), SPAN, said(SPAN)).total == pytest.approx(0.275), "the second turn counts 0"
    assert by_turn(row([None, ANSWERS[1]]), NUMBER, said("a note", NUMBER)).turns == (0.0, 1.0)
    assert by_turn(row(ANSWERS), NUMBER).accuracy == 0.5 and by_turn(row(ANSWERS), NUMBER).turns == ()
    masked = by_turn(row([ANSWERS[0], {"task": "numerical", "answer": "many"}]), NUMBER, said(SPAN, NUMBER))
    assert not masked.applicable and masked.reason
    for column in (None, [None], "x", [{"task": "numerical"}]):
        with pytest.raises(ColumnError, match="turn_answers"):
            by_turn(row(column), NUMBER)


def test_turns_are_scored_with_the_settings_of_the_run_and_all_columns_of_the_row() -> None:
    custom = {"*": "easyvideor1.rewards.turns:by_turn"}
    config = RewardConfig(
        custom=custom, accuracy_weight=0.5, format_weight=0.5, grammar="think-answer", coordinates="thousand"
    )
    boxes = {"task": "spatial_grounding", "answer": '{"boxes":[10,20,30,40]}'}
    sample = replace(
        row([boxes, {"task": "numerical", "answer": "4"}]),
        extra={"turn_answers": [boxes, ANSWERS[1]], "width": 100, "height": 200, "coordinates": "pixel"},
    )
    said_boxes = '<think>x</think><answer>{"boxes":[100,100,300,200]}</answer>'
    (found,) = Scorer(config).score_group(sample, [said(said_boxes, NUMBER).completion])
    assert found.applicable and found.turns == pytest.approx((1.0, 0.75)), "1 of 1; no thinking is half of the format"
    (strict,) = Scorer(RewardConfig(custom=custom, require_tag=True)).score_group(
        row(ANSWERS), [said(SPAN, "4").completion]
    )
    assert strict.turns == pytest.approx((0.55, 0.0))


def test_options_of_the_row_are_those_of_turns_of_its_task() -> None:
    choice = {"task": "multiple_choice", "answer": "B"}
    sample = replace(row([choice, {**choice, "options": ["A. a cat", "B. a dog"]}]), options=("A. red", "B. blue"))
    assert by_turn(sample, "", said("blue", "a dog")).parts == {"turn_1": 0.0, "turn_2": 1.0}
    assert by_turn(replace(sample, task="multiple_choice"), "", said("blue", "a dog")).accuracy == 1.0


def test_the_last_turn_gets_what_parts_change() -> None:
    config = RewardConfig(
        custom={"*": "easyvideor1.rewards.turns:by_turn"},
        parts=[{"name": "short", "reward": "length_bonus", "weight": 1.0, "options": {"shortest": 0, "longest": 99}}],
    )
    (found,) = Scorer(config).score_group(row(ANSWERS), [said(SPAN, NUMBER).completion])
    assert found.total == pytest.approx((0.775 + 1) / 2)
    assert found.turns == pytest.approx((0.55, 1.0 + found.total - 0.775))


def test_a_reward_for_each_turn_or_none() -> None:
    scorer = Scorer(RewardConfig(custom={"*": f"{__name__}:two_and_a_half"}))
    assert scorer(row(None), "x").turns == (1.0, 0.5, 0.25), "a text alone has no turns to compare with"
    with pytest.raises(RewardError, match="3 rewards of turns for a trajectory of 2"):
        scorer(row(None), said("a", "b").completion)
