"""Parts of the total: rewards of one response and of a group, weights, gates, and what does not apply."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.parts import brevity, diversity, length_bonus
from easyvideor1.types import ConfigError, Sample, Score

from . import custom_rewards

HERE = custom_rewards.__name__
RIGHT, WRONG = "<answer>3</answer>", "<answer>4</answer>"
SAMPLE = Sample("s1", "?", "numerical", "3", where="rows.jsonl:7")


def scorer(*parts: dict[str, Any], **config: Any) -> Scorer:
    return Scorer(RewardConfig.model_validate({"parts": list(parts), **config}))


def test_without_parts_nothing_changes() -> None:
    plain = Scorer(RewardConfig())
    assert plain.score_group(SAMPLE, [RIGHT, WRONG]) == (plain(SAMPLE, RIGHT), plain(SAMPLE, WRONG))
    assert plain.score_group(SAMPLE, []) == ()


def test_a_weighted_part_of_one_response() -> None:
    polite = scorer({"name": "polite", "reward": f"{HERE}:politeness", "weight": 0.25})
    with_it, without = polite.score_group(SAMPLE, [f"please {RIGHT}", RIGHT])
    assert (with_it.parts, without.parts) == ({"polite": 1.0}, {"polite": 0.0})
    # Accuracy and format make 1.0: (1.0 + 0.25 * 1) / 1.25, and (1.0 + 0.25 * 0) / 1.25.
    assert (with_it.total, without.total) == pytest.approx((1.0, 0.8))
    assert (with_it.accuracy, with_it.format) == (1.0, 1.0)
    assert polite(SAMPLE, RIGHT) == without


def test_a_penalty_moves_the_total_and_never_cuts_it() -> None:
    rude = scorer({"name": "polite", "reward": f"{HERE}:politeness", "weight": -0.25})
    totals = [score.total for score in rude.score_group(SAMPLE, [RIGHT, f"please {RIGHT}", WRONG, "please 4"])]
    # (base - 0.25 * value + 0.25) / 1.25 for bases 1, 1, 0.1, 0.
    assert totals == pytest.approx([1.0, 0.8, 0.28, 0.0])


def test_a_gate_closes_a_part_and_may_look_at_parts_before_it() -> None:
    gated = scorer(
        {"name": "polite", "reward": f"{HERE}:politeness", "weight": 0.5, "gate": "accuracy > 0 and format >= 1"},
        {"name": "length", "reward": "length_bonus", "gate": "polite == 1", "options": {"shortest": 1, "longest": 99}},
    )
    found = gated.score_group(SAMPLE, [f"please {RIGHT}", f"please {WRONG}", RIGHT, "please: the answer is 3"])
    assert [score.parts for score in found] == [
        {"polite": 1.0, "length": 1.0},
        {"polite": 0.0, "length": 0.0},
        {"polite": 0.0, "length": 0.0},
        {"polite": 0.0, "length": 0.0},
    ]
    assert found[3].accuracy == 1.0
    assert found[0].total == pytest.approx((1.0 + 0.5 + 0.1) / 1.6)
    assert found[1].total == pytest.approx(0.1 / 1.6)


def test_a_group_is_compared_and_one_response_alone_is_not() -> None:
    compared = scorer({"name": "short", "reward": "brevity", "weight": 0.2, "gate": "accuracy > 0"})
    responses = [RIGHT, f"....{RIGHT}", f"........{RIGHT}", WRONG]
    found = compared.score_group(SAMPLE, responses)
    assert [score.parts["short"] for score in found] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert found[1].total == pytest.approx((1.0 + 0.1) / 1.2)
    alone = compared(SAMPLE, RIGHT)
    assert (alone.parts, alone.total) == ({}, 1.0)
    assert compared.counts == {}


def test_a_reward_of_the_user_takes_the_group_and_its_options() -> None:
    parts = {"name": "long", "reward": f"{HERE}:share_of_longest", "options": {"power": 2.0}}
    found = scorer(parts).score_group(SAMPLE, ["x" * 10, "x" * 5])
    assert [score.parts["long"] for score in found] == [1.0, 0.25]


def test_a_part_that_does_not_apply_is_in_no_sum_and_counted() -> None:
    polite = scorer({"name": "polite", "reward": f"{HERE}:politeness"}, {"name": "graded", "reward": f"{HERE}:graded"})
    yes = polite(Sample("b", "?", "boolean", "yes"), "<answer>yes</answer>")
    assert (yes.parts, yes.total) == ({"graded": 0.25}, pytest.approx((1.0 + 0.1 * 0.25) / 1.1))
    assert polite.counts == {("boolean", "the part 'polite' does not apply"): 1}
    assert polite(SAMPLE, "").parts == {"polite": 0.0}
    assert polite.counts["numerical", "the part 'graded' does not apply"] == 1


def test_a_masked_response_has_no_parts_and_stays_out_of_the_comparison() -> None:
    compared = scorer({"name": "short", "reward": "brevity"}, custom={"numerical": f"{HERE}:graded"})
    found = compared.score_group(SAMPLE, ["", "a", "aaa"])
    assert [score.applicable for score in found] == [False, True, True]
    assert [dict(score.parts) for score in found] == [{}, {"short": 1.0}, {"short": 0.0}]
    assert found[0].total == 0.0
    assert found[1].total == pytest.approx((0.25 + 0.1) / 1.1)  # the base is the total of the user's own reward
    assert compared.counts == {("numerical", "empty"): 1}


def test_an_error_stops_or_leaves_the_part_out() -> None:
    part = {"name": "x", "reward": f"{HERE}:failing_group"}
    with pytest.raises(RewardError, match=r"failing_group.*ZeroDivisionError.*s1.*rows\.jsonl:7"):
        scorer(part).score_group(SAMPLE, [RIGHT])
    masking = scorer(part, on_error="mask")
    assert [score.total for score in masking.score_group(SAMPLE, [RIGHT, WRONG])] == pytest.approx([1.0, 0.1])
    ((_, reason),) = (key for key in masking.counts if "ZeroDivisionError" in key[1])
    assert masking.counts["numerical", reason] == 2


@pytest.mark.parametrize(
    ("reward", "message"),
    [("too_few", "each of the 2 responses"), ("too_much", "x=1.5"), ("in_words", "x='much'")],
)
def test_a_broken_contract_always_stops(reward: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        scorer({"name": "x", "reward": f"{HERE}:{reward}"}, on_error="mask").score_group(SAMPLE, [RIGHT, WRONG])


def test_a_part_may_not_take_the_name_of_another() -> None:
    clash = scorer({"name": "relative_accuracy", "reward": f"{HERE}:graded"})
    with pytest.raises(RewardError, match=r"relative_accuracy.*choose another"):
        clash(Sample("r", "?", "regression", "3"), RIGHT)


@pytest.mark.parametrize(
    "part",
    [
        {"name": "x", "reward": "length_bonu"},
        {"name": "x", "reward": "length_bonus"},
        {"name": "x", "reward": "length_bonus", "options": {"shortest": 1, "longest": 2, "other": 3}},
        {"name": "x", "reward": f"{HERE}:four"},
        {"name": "x", "reward": f"{HERE}:constant"},
        {"name": "x", "reward": f"{HERE}:missing"},
        {"name": "x", "reward": "brevity", "gate": "speed > 0"},
        {"name": "x", "reward": "brevity", "gate": "x > 0"},
    ],
)
def test_a_wrong_part_is_refused_at_once(part: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'x'|reward"):
        scorer(part)


@pytest.mark.parametrize(
    "part",
    [
        {"name": "accuracy", "reward": "brevity"},
        {"name": "a b", "reward": "brevity"},
        {"name": "x", "reward": "brevity", "gate": "accuracy"},
        {"name": "x", "reward": "brevity", "gate": "accuracy > 0 or format > 0"},
    ],
)
def test_a_part_that_cannot_be_read_is_refused_by_the_configuration(part: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RewardConfig.model_validate({"parts": [part]})
    with pytest.raises(ValidationError, match="must differ"):
        RewardConfig.model_validate({"parts": [{"name": "x", "reward": "brevity"}] * 2})


def judged(*applicable: bool) -> list[Score]:
    return [Score(1.0, 1.0, 1.0, applicable=one, reason="" if one else "no") for one in applicable]


def test_length_bonus() -> None:
    values = [length_bonus(SAMPLE, "x" * count, shortest=2, longest=4) for count in range(1, 6)]
    assert values == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_brevity() -> None:
    assert brevity(SAMPLE, ["a", "aaa", "aa", "a" * 99], judged(True, True, True, False)) == [1.0, 0.0, 0.5, None]
    assert brevity(SAMPLE, ["ab", "cd"], judged(True, True)) == [1.0, 1.0]
    assert brevity(SAMPLE, ["ab"], judged(False)) == [None]


def test_diversity() -> None:
    # Pairs of "a b": (, a) (a, b) (b, ); of "a c": (, a) (a, c) (c, ): one of five in common.
    assert diversity(SAMPLE, ["a b", "A B!", "a c"], judged(True, True, True)) == pytest.approx(
        [1 - (1 + 1 / 5) / 2, 1 - (1 + 1 / 5) / 2, 1 - 1 / 5]
    )
    assert diversity(SAMPLE, ["a", "b", "c"], judged(True, True, False)) == [1.0, 1.0, None]
    assert diversity(SAMPLE, ["a", "b"], judged(True, False)) == [None, None]
    assert diversity(SAMPLE, ["", "?"], judged(True, True)) == [0.0, 0.0]


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=6),
    weights=st.tuples(*[st.floats(-10, 10).filter(lambda weight: abs(weight) > 1e-3)] * 2),
)
def test_totals_stay_in_range_and_keep_the_order_of_the_weighted_sum(
    texts: list[str], weights: tuple[float, float]
) -> None:
    both = scorer(
        {"name": "short", "reward": "brevity", "weight": weights[0]},
        {"name": "other", "reward": f"{HERE}:politeness", "weight": weights[1]},
    )
    found = both.score_group(SAMPLE, [*texts, f"please {RIGHT}", WRONG])
    sums = [
        0.9 * score.accuracy
        + 0.1 * score.format
        + sum(w * score.parts[n] for w, n in zip(weights, ("short", "other"), strict=False))
        for score in found
    ]
    scale = 1 + sum(map(abs, weights))
    for score, plain in zip(found, sums, strict=True):
        assert 0.0 <= score.total <= 1.0
        assert score.total - found[0].total == pytest.approx((plain - sums[0]) / scale, abs=1e-9)
