"""ROUGE against the reference implementation, and texts it was not made for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from easyvideor1.rewards import score
from easyvideor1.rewards.tasks.free_text import rouge

ORACLE = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
VOCABULARY = ("the", "a", "running", "runs", "dog", "dogs", "Dog's", "door,", "opened", "opening", "42", "x", "--")
WORDS = st.sampled_from(VOCABULARY)
SENTENCES = st.lists(WORDS, max_size=20).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(predicted=SENTENCES, reference=SENTENCES)
def test_rouge_agrees_with_the_reference_implementation(predicted: str, reference: str) -> None:
    expected = {name: value.fmeasure for name, value in ORACLE.score(reference, predicted).items()}
    assert rouge(predicted, reference) == pytest.approx(expected)


def test_one_right_word_is_fully_right() -> None:
    # Without the shortcut its bigram score, 0, would cost a third.
    assert score("open-ended", "<answer>Negative.</answer>", "negative").accuracy == 1.0


def test_accuracy_is_the_mean_of_three() -> None:
    result = score("open-ended", "<answer>the dog runs</answer>", "the dog runs away")
    assert result.accuracy == pytest.approx(sum(result.parts.values()) / 3)
    assert result.parts["rouge1"] == pytest.approx(6 / 7)


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert score("video qa", "<answer>一只黑狗</answer>", "一只白狗").parts["rouge1"] == pytest.approx(3 / 4)


def test_the_whole_text_counts_without_a_tag_and_the_thinking_never() -> None:
    result = score("description", "<think>red red red</think>a dog runs", "a dog runs")
    assert (result.accuracy, result.format) == (1.0, 0.0)


@pytest.mark.parametrize("task", ["open_ended", "ocr"])
def test_a_runaway_text_is_cheap(task: str) -> None:
    text = " ".join(f"word{n}" for n in range(12_000))
    start = time.process_time()
    assert score(task, f"<answer>{text}</answer>", "a short reference " * 20).accuracy == 0.0
    assert time.process_time() - start < 1.0
