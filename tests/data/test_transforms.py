"""Shuffling options keeps every sample's meaning, or leaves the sample alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from easyvideor1.data import resolve_transforms, shuffle_options
from easyvideor1.types import ConfigError, OfflineTrajectory, Sample

SAMPLE = Sample(
    id="1",
    question="What colour is it?",
    task="multiple_choice",
    answer="B",
    options=("A. red", "B. blue", "C. green", "D. grey"),
)


def shuffled(sample: Sample, seed: int) -> Sample:
    (result,) = shuffle_options(sample, 0, np.random.default_rng(seed))
    return result


def meant(sample: Sample, letter: str) -> str:
    return {option[0]: option[3:] for option in sample.options}[letter]


def test_the_answer_follows_its_option_to_every_place() -> None:
    results = [shuffled(SAMPLE, seed) for seed in range(60)]
    assert {result.answer for result in results} == set("ABCD")
    for result in results:
        assert [option[:3] for option in result.options] == ["A. ", "B. ", "C. ", "D. "]
        assert {option[3:] for option in result.options} == {"red", "blue", "green", "grey"}
        assert meant(result, result.answer) == "blue"
        assert replace(result, options=SAMPLE.options, answer="B") == SAMPLE


def test_options_in_another_order_of_letters() -> None:
    sample = replace(SAMPLE, options=("B. blue", "A. red"), answer="A")
    for seed in range(8):
        result = shuffled(sample, seed)
        assert [option[0] for option in result.options] == ["A", "B"]
        assert meant(result, result.answer) == "red"


def test_answers_in_other_forms() -> None:
    for seed in range(8):
        assert shuffled(replace(SAMPLE, answer="blue"), seed).answer == "blue"
        result = shuffled(replace(SAMPLE, answer="B. blue"), seed)
        assert result.answer in result.options
        assert result.answer.endswith(". blue")


def test_offline_responses_follow() -> None:
    thought = "<think>A ball rolls; I see blue, option B, so the answer is B.</think>"
    responses = (f"{thought}<answer>B</answer>", "<answer>(B) blue</answer>", "<answer>blue</answer>")
    sample = replace(SAMPLE, offline=tuple(map(OfflineTrajectory, responses)))
    for seed in range(20):
        result = shuffled(sample, seed)
        assert [item.text for item in result.offline] == [
            f"{thought}<answer>B</answer>".replace("B", result.answer),
            f"<answer>({result.answer}) blue</answer>",
            "<answer>blue</answer>",
        ]


def test_earlier_turns_of_offline_responses_follow_too() -> None:
    first, last = "<think>The answer is B.</think> look again", "<answer>B</answer>"
    sample = replace(SAMPLE, offline=(OfflineTrajectory(last, before=(first,)),))
    results = [shuffled(sample, seed) for seed in range(20)]
    assert len({result.answer for result in results}) > 1
    for result in results:
        expected = OfflineTrajectory(last.replace("B", result.answer), before=(first.replace("B", result.answer),))
        assert result.offline == (expected,)


@pytest.mark.parametrize(
    "sample",
    [
        replace(SAMPLE, options=("A. red", "B. blue", "C. both A and B", "D. none")),
        replace(SAMPLE, options=("A. red", "B. blue", "C. All of the Above")),
        replace(SAMPLE, options=("A. red", "B. blue", "C. (A)")),
        replace(SAMPLE, question="Why is option C wrong?"),
        replace(SAMPLE, offline=(OfflineTrajectory("<think>It must be B.</think><answer>B</answer>"),)),
        replace(SAMPLE, offline=(OfflineTrajectory("The answer is A because it is red. <answer>A</answer>"),)),
        replace(SAMPLE, offline=(OfflineTrajectory("The answer is A man. <answer>A</answer>"),)),
        replace(SAMPLE, offline=(OfflineTrajectory("<answer>B</answer>", (-0.5,)),)),
        replace(SAMPLE, offline=(OfflineTrajectory("<answer>B</answer>", before=("It must be B.",)),)),
        replace(SAMPLE, options=("A. red",), answer="A"),
        replace(SAMPLE, options=()),
        replace(SAMPLE, task="open_ended", answer="blue"),
    ],
)
def test_samples_tied_to_their_order_are_left_alone(sample: Sample) -> None:
    assert all(shuffled(sample, seed) == sample for seed in range(12))


def test_transforms_are_found_by_name_and_by_path() -> None:
    named, own = resolve_transforms(["shuffle_options", "easyvideor1.data.transforms:shuffle_options"])
    assert named.function is shuffle_options
    assert own.function.__wrapped__ is shuffle_options  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="is str, not a function"):
        resolve_transforms(["easyvideor1:__version__"])
