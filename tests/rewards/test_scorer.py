"""The scorer: weights from the configuration, rewards of the user, and what is counted."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import RewardError, Scorer, check_answer
from easyvideor1.rewards.audit import audit, reference_scorer
from easyvideor1.rewards.score import NO_TAG, NOT_AS_ASKED
from easyvideor1.types import Completion, ConfigError, DataError, Prompt, Sample, Trajectory, Turn

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


def test_a_custom_reward_that_takes_the_trajectory_is_given_all_turns() -> None:
    scorer = Scorer(RewardConfig(custom={"*": f"{HERE}:turns_taken"}))
    prompt = Prompt(np.arange(3))
    turn = Turn(prompt, np.arange(2), np.ones(2, dtype=bool), None, "stop", "yes")
    trajectory = Trajectory((turn, turn, turn))
    assert scorer(sample("boolean", "yes"), trajectory.completion).accuracy == 0.75
    assert scorer(sample("boolean", "yes"), "yes").accuracy == 0.0
    scorer.try_out([sample("boolean", "yes")])


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
        ("words", r"returned 'quite good' \(str\); it must return a number from 0 to 1"),
        ("pair", r"returned \(1.0, 0.5\) \(tuple\)"),
        ("percent", "returned accuracy=50.0; it must lie in"),
        ("out_of_range", "total=1.5"),
        ("no_number", "accuracy='0.5' .str., which is not a number"),
        ("many_numbers", "the part all=.*ndarray., which is not a number"),
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


@pytest.mark.parametrize("response", ["<answer>yes</answer>", "yes, surely"])
def test_a_number_is_accuracy_and_total(response: str) -> None:
    score = Scorer(RewardConfig(custom={"*": f"{HERE}:bare_number"}))(sample("boolean", "yes"), response)
    assert (score.accuracy, score.total, score.applicable) == (0.5, 0.5, True)
    assert score.format == Scorer(RewardConfig())(sample("boolean", "yes"), response).format


def test_own_rewards_are_tried_with_the_reference() -> None:
    """Each once, on a sample that it is for; what is right stays silent."""
    custom_rewards.SEEN.clear()
    parts = ({"name": "polite", "reward": f"{HERE}:noted_part"}, {"name": "short", "reward": "brevity"})
    custom = {"boolean": f"{HERE}:noted", "*": f"{HERE}:noted", "ocr": f"{HERE}:failing"}
    scorer = Scorer(RewardConfig.model_validate({"custom": custom, "parts": parts}))
    scorer.try_out([sample("boolean", "yes"), sample("boolean", "no"), sample("numerical", "3"), sample("math", "4")])
    answers = ["<answer>yes</answer>", "<answer>3</answer>", "<answer>yes</answer>"]
    assert answers == custom_rewards.SEEN
    assert scorer.counts == {}


def test_a_reward_that_fails_its_trial_is_shown_where() -> None:
    scorer = Scorer(RewardConfig(custom={"qa": f"{HERE}:deep"}))
    with pytest.raises(ConfigError) as told:
        scorer.try_out([sample("boolean", "yes"), sample("open_ended", "a car")])
    first, *lines = str(told.value).splitlines()
    assert first == (
        f"reward '{HERE}:deep' raised AttributeError: 'Sample' object has no attribute 'anwser'. It was tried on "
        "sample 's1' (rows.jsonl:7) with the reference as the response, before anything is built"
    )
    shown = [line.partition(" in ")[2] for line in lines]
    assert shown == ["deep: return deeper(sample, response)", "deeper: return float(sample.anwser in response)"]
    assert all("custom_rewards.py:" in line for line in lines)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"custom": {"*": "words"}}, "words' returned 'quite good'"),
        ({"custom": {"*": "failing"}}, "failing' raised KeyError: 'no such column'"),
        ({"parts": [{"name": "p", "reward": "failing"}]}, "failing' raised KeyError"),
        ({"parts": [{"name": "p", "reward": "percent"}]}, "returned p=50.0"),
        ({"parts": [{"name": "p", "reward": "none_at_all"}]}, r"none_at_all' returned \[\]; of a group"),
    ],
)
def test_every_kind_of_own_reward_is_tried(rewards: dict, message: str) -> None:
    for key, value in (("custom", "*"), ("parts", 0)):
        if key in rewards and isinstance(rewards[key], dict):
            rewards = {key: {value: f"{HERE}:{rewards[key][value]}"}}
        elif key in rewards:
            rewards = {key: [{**part, "reward": f"{HERE}:{part['reward']}"} for part in rewards[key]]}
    with pytest.raises(ConfigError, match=message):
        Scorer(RewardConfig.model_validate(rewards)).try_out([sample("boolean", "yes")])


def test_what_is_masked_may_raise_in_the_trial_but_not_break_its_contract() -> None:
    Scorer(RewardConfig(custom={"*": f"{HERE}:failing"}, on_error="mask")).try_out([sample("boolean", "yes")])
    with pytest.raises(ConfigError, match="quite good"):
        Scorer(RewardConfig(custom={"*": f"{HERE}:words"}, on_error="mask")).try_out([sample("boolean", "yes")])


TAGLESS = Completion("The answer is yes", "stop", asks_tag=True)


@pytest.mark.parametrize(
    ("require_tag", "training", "evaluation"), [(None, 0.0, 1.0), (True, 0.0, 0.0), (False, 1.0, 1.0)]
)
def test_training_wants_the_tag_that_was_asked_for(
    require_tag: bool | None, training: float, evaluation: float
) -> None:
    scorer = Scorer(RewardConfig(require_tag=require_tag))
    row = sample("boolean", "yes")
    assert scorer(row, TAGLESS).accuracy == evaluation
    (trained,) = scorer.score_group(row, [TAGLESS])
    assert trained.accuracy == training
    assert trained.reason == ("" if training else NO_TAG)
    assert trained.applicable


def test_training_reads_answers_without_a_tag_where_the_prompt_asks_for_none() -> None:
    (score,) = Scorer(RewardConfig()).score_group(sample("boolean", "yes"), [Completion("The answer is yes", "stop")])
    assert score.accuracy == 1.0


def test_a_tag_left_open_is_not_the_tag_that_was_asked_for() -> None:
    open_tag = Completion("<answer>yes", "stop", asks_tag=True)
    scorer = Scorer(RewardConfig())
    assert scorer(sample("boolean", "yes"), open_tag).accuracy == 1.0
    assert scorer.score_group(sample("boolean", "yes"), [open_tag])[0].accuracy == 0.0


def test_reading_as_asked_takes_no_other_form() -> None:
    row = Sample("a", "?", "multiple_choice", "B", options=("A. red", "B. blue"))
    assert Scorer(RewardConfig())(row, "<answer>blue</answer>").accuracy == 1.0
    strict = Scorer(RewardConfig(reading="asked"))(row, "<answer>blue</answer>")
    assert (strict.accuracy, strict.reason) == (0.0, NOT_AS_ASKED)
    assert Scorer(RewardConfig(reading="asked"))(row, "<answer>B</answer>").accuracy == 1.0


@pytest.mark.parametrize(
    ("task", "answer", "response"),
    [
        ("open_ended", '["a dog", "a small dog"]', "a small dog"),
        ("video_qa", '["a dog", "dog"]', "dog"),
        ("description", '["a dog runs", "a dog is running"]', "a dog is running"),
        ("math", '["1/2", "x"]', "0.5"),
        ("ocr", '["EXIT 12", "EXIT"]', "EXIT"),
        ("ocr", '["EXIT"]', "EXIT"),
    ],
)
def test_any_of_the_accepted_answers_is_right(task: str, answer: str, response: str) -> None:
    row = sample(task, answer)
    scorer = Scorer(RewardConfig())
    assert scorer(row, f"<answer>{response}</answer>").accuracy == 1.0
    assert scorer(row, "<answer>zebra 7</answer>").accuracy < 0.5
    assert scorer(row, f"<answer>{answer}</answer>").accuracy < 1.0  # the list itself is no answer
    check_answer(task, answer)
    (audited,) = audit([row], reference_scorer(RewardConfig()))
    assert audited.imperfect == ()


def test_an_empty_accepted_answer_is_no_reference() -> None:
    with pytest.raises(DataError, match="it is empty"):
        check_answer("open_ended", '["a dog", " "]')


def test_a_reward_that_does_not_return_is_an_error_like_any_other() -> None:
    target = f"{HERE}:hanging"
    patient = Scorer(RewardConfig(custom={"*": target}, timeout=60))
    assert patient(sample("boolean", "yes"), "fine").accuracy == 1.0
    stops = Scorer(RewardConfig(custom={"*": target}, timeout=0.05))
    with pytest.raises(RewardError, match=r"hanging.*TimeoutError.*no result within 0\.05 s.*s1"):
        stops(sample("boolean", "yes"), "hang")
    masks = Scorer(RewardConfig(custom={"*": target}, timeout=0.5, on_error="mask"))
    first, second, third = masks.score_group(sample("boolean", "yes"), ["hang", "fine", "hang"])
    assert not first.applicable and second.accuracy == 1.0 and not third.applicable
    assert first.reason == f"reward {target!r} raised TimeoutError"
    masks = Scorer(RewardConfig(custom={"*": target}, timeout=0.05, on_error="mask"))
    with pytest.raises(RewardError, match=r"8 calls of rewards do not return"):
        masks.score_group(sample("boolean", "yes"), ["hang"] * 8)
    tried = Scorer(RewardConfig(custom={"*": f"{HERE}:never_returning"}, timeout=0.05))
    with pytest.raises(ConfigError, match=r"never_returning.*no result within 0\.05 s"):
        tried.try_out([sample("boolean", "yes")])


def test_a_reward_that_ends_the_process_is_an_error_like_any_other() -> None:
    target = f"{HERE}:leaving"
    with pytest.raises(RewardError, match=r"leaving.*asked to end the process"):
        Scorer(RewardConfig(custom={"*": target}))(sample("boolean", "yes"), "yes")
    found = Scorer(RewardConfig(custom={"*": target}, on_error="mask"))(sample("boolean", "yes"), "yes")
    assert not found.applicable and found.reason == f"reward {target!r} raised ExitError"


def test_comparisons_side_by_side_say_what_they_say_one_by_one() -> None:
    programs = ["def f(x):\n    return x + 1", "def f(x):\n    return x", "def f(x):\n    while True: pass"]
    code = Sample(
        "c", "q", "code", "def f(x):\n    return x + 1", extra={"tests": ["assert f(1) == 2", "assert f(2) == 3"]}
    )
    maths = Sample("m", "q", "math", "\\frac{1}{2}")
    groups = [
        (code, [Completion(f"```python\n{program}\n```") for program in programs]),
        (maths, [Completion(f"<answer>{text}</answer>") for text in ("\\frac{2}{4}", "\\frac{2}{3}", "\\sqrt{1/4}")]),
        (sample("boolean", "yes"), [Completion("Yes"), Completion("no")]),
    ]
    alone = Scorer(RewardConfig(workers=1))
    together = Scorer(RewardConfig(workers=3)).score_groups(groups)
    assert together == [alone.score_group(one, given) for one, given in groups]
    assert [[score.accuracy for score in scores] for scores in together] == [[1, 0, 0], [1, 0, 1], [1, 0]]
    pairs = [(one, completion) for one, given in groups for completion in given[:2]]
    assert Scorer(RewardConfig(workers=3)).score_each(pairs) == [alone(one, given) for one, given in pairs]


def test_what_has_not_begun_when_the_time_of_a_step_is_over_is_masked() -> None:
    scorer = Scorer(RewardConfig(step_seconds=1e-9, workers=2))
    maths, yes = Sample("m", "q", "math", "7"), sample("boolean", "yes")
    (late,), (judged,) = scorer.score_groups([(maths, [Completion("7")]), (yes, [Completion("Yes")])])
    assert not late.applicable and "rewards.step_seconds" in late.reason
    assert judged.accuracy == 1.0, "what waits for no process is always scored"
    assert scorer.counts == {("math", late.reason): 1}


def test_an_error_of_a_comparison_reaches_the_caller_and_cancels_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Sample("c", "q", "code", "def f(): pass", where="rows.jsonl:7", extra={"tests": ["assert f() is None"]})
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(RewardError, match=r"built-in code.*rows\.jsonl:7"):
        Scorer(RewardConfig(workers=2)).score_groups([(broken, [Completion("```python\ndef f(): pass\n```")] * 4)])
