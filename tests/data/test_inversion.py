"""An inverted question has exactly the wrong options of before as its answer, or the sample stays as it was."""

from __future__ import annotations

import string
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.config.schema import PromptConfig
from easyvideor1.config.transforms import InvertQuestion
from easyvideor1.data import invert_question, prompt_text
from easyvideor1.data.inversion import inverted, negated
from easyvideor1.data.transforms import TransformContext
from easyvideor1.rewards import score
from easyvideor1.types import OfflineTrajectory, Sample

SAMPLE = Sample(
    id="1",
    question="What colour is it?",
    task="multiple_choice",
    answer="B",
    options=("A. red", "B. blue", "C. green", "D. grey"),
    offline=(OfflineTrajectory("<answer>B</answer>"),),
)


def transformed(sample: Sample, seed: int, share: float = 0.5) -> Sample:
    context = TransformContext(InvertQuestion(name="invert_question", share=share))
    (result,) = invert_question(sample, 0, np.random.default_rng(seed), context)
    return result


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which way does the red circle move?", "Which way doesn't the red circle move?"),
        ("<video>\nWhat colour is the circle?", "<video>\nWhat colour isn't the circle?"),
        ("What shape is red?", "What shape isn't red?"),
        ("Which ball moving left is red?", "Which ball moving left isn't red?"),
        ("In the video, what is the dog doing?", "In the video, what isn't the dog doing?"),
        ("A man walks. Who is he?", "A man walks. Who isn't he?"),
        ("Which of the two balls was red?", "Which of the two balls wasn't red?"),
        (
            "Which of the following will happen if the cube is removed?",
            "Which of the following won't happen if the cube is removed?",
        ),
    ],
)
def test_questions_that_are_negated(question: str, expected: str) -> None:
    assert negated(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Is it red?",  # yes or no: both answers would stay right
        "What happens next?",  # no auxiliary
        "Why did he fall?",  # why he did and why he did not are no opposites
        "How many shapes are there?",
        "What isn't red?",
        "What is never red?",
        "Which event will happen without the cube?",
        "What do all people do?",  # "don't all" is "not all"
        "What does he only do here?",
        "What did he do until noon?",  # "did not until" says that he did
        "What do you think is red?",  # the thought would be negated
        "Which object that is red does he pick?",  # the first "is" belongs to another clause
        "What the man was doing is?",
        "When the man was hit, what did he do?",
        "What is it, and what is red?",
        "What happened? What is it?",
        "What is it. Say its name",
        "Name what is red.",
        "What should he do?",  # what he should not do is more than what he need not do
        "What does the man do after he opens the door?",  # what he does not do after it he may do before it
        "What does the man do before he sits down?",
        "What does the man then do?",
        "What is the next step?",
        "What is he doing while she sings?",
        "What is he holding during the song?",
        "What has he done since the start?",
        "What does he do once the door opens?",
        "What is she likely doing?",
        "What is possibly in the box?",
        "What is probably in the box?",
        "What could the man be doing?",
        "What can be seen in the box?",
        "Which tool might he use?",
        "What is it that he may do?",
        "What does the man try to open?",
        "What is he trying to open?",
        "Which man tries to open it?",
        "What does he fail to open?",
        "What is the failing part?",
        "Which statement is incorrect?",
        "Which statement is false?",
        "Which statement is wrong?",
        "What does she seem to hold?",
    ],
)
def test_questions_that_cannot_be_negated_for_certain(question: str) -> None:
    assert negated(question) is None
    sample = replace(SAMPLE, question=question)
    assert all(transformed(sample, seed, share=1.0) == sample for seed in range(20))


@given(seed=st.integers(0, 10**6), count=st.integers(2, 6), right=st.integers(0, 5))
def test_the_answer_is_what_was_wrong(seed: int, count: int, right: int) -> None:
    words = ["red", "blue", "green", "grey", "pink", "brown"][:count]
    right %= count
    letters = string.ascii_uppercase
    options = tuple(f"{letters[at]}. {word}" for at, word in enumerate(words))
    sample = replace(SAMPLE, options=options, answer=letters[right])
    found = inverted(sample, np.random.default_rng(seed))
    assert found is not None and found.question == "What colour isn't it?" and found.offline == ()
    new = {option[0]: option[3:] for option in found.options}
    assert list(new) == list(letters[: len(new)]) and len(set(new.values())) == len(new)
    assert set(new.values()) <= set(words) and words[right] in new.values()
    assert found.answer.split(", ") == [letter for letter, word in new.items() if word != words[right]]

    def accuracy(answer: str) -> float:
        return score("multiple choice", f"<answer>{answer}</answer>", found.answer, options=found.options).accuracy

    wrong = [letter for letter, word in new.items() if word != words[right]]
    assert accuracy(found.answer) == 1.0
    assert accuracy(wrong[0]) == pytest.approx(1 / len(wrong))  # the subset reward
    assert accuracy(next(letter for letter, word in new.items() if word == words[right])) == 0.0


def test_about_half_are_inverted_and_all_places_and_sizes_come() -> None:
    results = [transformed(SAMPLE, seed) for seed in range(400)]
    assert transformed(SAMPLE, 7) == transformed(SAMPLE, 7)
    assert all(transformed(SAMPLE, seed, share=1.0) != SAMPLE for seed in range(20))
    assert all(transformed(SAMPLE, seed, share=0.0) == SAMPLE for seed in range(20))
    changed = [result for result in results if result != SAMPLE]
    assert 160 < len(changed) < 240
    assert {len(result.options) for result in changed} == {2, 3, 4}
    assert {result.options[0] for result in changed} == {"A. red", "A. blue", "A. green", "A. grey"}
    assert {"A", "B", "A, B", "A, B, C", "B, C, D", "A, C, D"} <= {result.answer for result in changed}


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "boolean"},
        {"answer": "A, B"},  # has several right options already
        {"answer": "violet"},
        {"answer": "B. red"},  # the letter and the text disagree
        {"options": ("A. red", "B. blue", "C. all of the above", "D. grey")},
        {"options": ("A. red", "B. blue", "C. not red", "D. grey")},
        {"options": ("A. red", "B. blue", "C. Red", "D. grey")},
        {"options": ("A. red", "B. blue", "C. none", "D. grey")},
        {"extra": {"several_answers": True}},
    ],
)
def test_samples_that_stay_as_they_are(changes: dict[str, object]) -> None:
    sample = replace(SAMPLE, **changes)  # type: ignore[arg-type]
    assert inverted(sample, np.random.default_rng(0)) is None


@pytest.mark.parametrize("answer", ["B", "blue", "B. blue"])
def test_answers_in_every_form(answer: str) -> None:
    found = inverted(replace(SAMPLE, answer=answer), np.random.default_rng(1))
    assert found is not None and "blue" not in {option[3:] for option in found.options if option[0] in found.answer}


def test_the_prompt_asks_for_all_letters() -> None:
    found = inverted(SAMPLE, np.random.default_rng(3))
    assert found is not None
    text = prompt_text(found, PromptConfig())
    assert "the letters of all right options" in text and "<answer>A, C</answer>" in text
    before = prompt_text(SAMPLE, PromptConfig())
    assert "the letter of the right option" in before and "<answer>B</answer>" in before
