"""The scorer: weights from the configuration, rewards of the user, and what is counted."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.types import ConfigError, Sample

from . import custom_rewards

HERE = custom_rewards.__name__


def sample(task: str, answer: str, **extra: object) -> Sample:
    return Sample(id="s1", question="?", task=task, answer=answer, extra=extra, where="rows.jsonl:7")


def test_built_in_rules_with_the_weights_and_columns_of_the_run() -> None:
    scorer = Scorer(RewardConfig(accuracy_weight=0.6, format_weight=0.4))
    assert scorer(sample("numerical", "3"), "<answer>4</answer>").total == pytest.approx(0.4)
    # A column named like an argument of score() must not get in its way.
    row = Sample("s2", "?", "code", "pass", extra={"tests": ["assert f() == 1"], "answer": "x", "options": ["y"]})
    assert scorer(row, "<answer>def f(): return 1</answer>").total == pytest.approx(1.0)
    assert scorer.counts == {}


def test_a_custom_reward_for_all_and_one_that_does_not_apply() -> None:
    scorer = Scorer(RewardConfig(custom={"*": f"{HERE}:long_enough"}))
    assert scorer(sample("open_ended", "x"), "12345").parts == {"length": 5.0}
    result = scorer(sample("boolean", "yes"), "yes")
    assert not result.applicable
    assert scorer.counts == {("boolean", result.reason): 1}


def test_a_reward_of_a_type_goes_before_the_one_for_all() -> None:
    scorer = Scorer(RewardConfig(custom={"*": f"{HERE}:failing", "qa": f"{HERE}:long_enough"}))
    assert scorer(sample("open_ended", "x"), "1234567890").total == 1.0


def test_an_error_stops_and_names_reward_and_sample() -> None:
    scorer = Scorer(RewardConfig(custom={"boolean": f"{HERE}:failing"}))
    with pytest.raises(RewardError, match=r"custom_rewards:failing.*KeyError.*s1.*rows\.jsonl:7"):
        scorer(sample("boolean", "yes"), "yes")


def test_an_error_is_masked_and_counted_when_asked() -> None:
    scorer = Scorer(RewardConfig(custom={"boolean": f"{HERE}:failing"}, on_error="mask"))
    for _ in range(3):
        assert not scorer(sample("boolean", "yes"), "yes").applicable
    ((task, reason),) = scorer.counts
    assert task == "boolean"
    assert f"{HERE}:failing" in reason
    assert "KeyError" in reason
    assert scorer.counts[task, reason] == 3


def test_numbers_of_other_libraries_become_floats() -> None:
    result = Scorer(RewardConfig(custom={"*": f"{HERE}:single_precision"}))(sample("boolean", "yes"), "yes")
    numbers = (result.accuracy, result.format, result.total, result.parts["length"])
    assert numbers == (0.5, 0.25, 1.0, 3.0)
    assert all(type(number) is float for number in numbers)
    assert json.loads(json.dumps(asdict(result)))["format"] == 0.25


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bare_number", "returned float"),
        ("out_of_range", "total=1.5"),
        ("no_number", "accuracy='0.5' .str., which is no number"),
        ("many_numbers", "the part all=.*ndarray., which is no number"),
        ("no_parts", "a mapping"),
        ("not_finite", "format=nan"),
    ],
)
def test_a_broken_contract_always_stops(name: str, message: str) -> None:
    scorer = Scorer(RewardConfig(custom={"*": f"{HERE}:{name}"}, on_error="mask"))
    with pytest.raises(RewardError, match=message):
        scorer(sample("boolean", "yes"), "yes")


@pytest.mark.parametrize(
    "custom",
    [
        {"boolean": "nothing"},
        {"boolean": f"{HERE}:missing"},
        {"boolean": f"{HERE}:constant"},
        {"booleen": f"{HERE}:failing"},
        {"boolean": f"{HERE}:failing", "yes no": f"{HERE}:failing"},
    ],
)
def test_a_wrong_configuration_is_refused_at_once(custom: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Scorer(RewardConfig(custom=custom))


def test_references_that_cannot_be_used_are_counted() -> None:
    scorer = Scorer(RewardConfig())
    assert not scorer(sample("temporal_grounding", "later"), "x").applicable
    assert sum(scorer.counts.values()) == 1
