"""What stands in tags before the answer: asked for, checked by the format reward, measured by a part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.config.schema import PromptConfig
from easyvideor1.data import prompt_text
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.tag_contents import tag_texts, trace_span_iou, union_iou
from easyvideor1.types import ConfigError, Sample

#: Video-Thinker's chain: spans and captions as often as needed, then the reasoning.
REWARDS = RewardConfig.model_validate(
    {
        "grammar": [["time", "caption"], "think"],
        "tags": {"time": {"holds": "span"}, "caption": {"asks": "what happens in it"}, "think": {}},
        "parts": [{"name": "evidence_iou", "reward": "trace_span_iou", "weight": 0}],
    }
)
SAMPLE = Sample("a", "What is it?", "multiple_choice", "B", extra={"duration": 8.5, "evidence": [2, 4]})
END = "<caption>a dog</caption><think>so</think><answer>B</answer>"


def chain(*spans: str) -> str:
    return (
        "".join(f"<time>{span}</time><caption>a dog</caption>" for span in spans)
        + "<think>so</think><answer>B</answer>"
    )


def test_the_prompt_asks_for_what_the_format_reward_reads() -> None:
    text = prompt_text(SAMPLE, PromptConfig(), REWARDS)
    assert (
        "Write <time>start - end in seconds</time> <caption>what happens in it</caption> as often as needed, then "
        "<think> </think>, then give"
    ) in text


@pytest.mark.parametrize(
    ("response", "format_"),
    [
        (chain("2 - 4"), 1.0),
        (chain("0:02 to 0:04", "5.5 - 8.5"), 1.0),
        (chain("[2, 4]"), 1.0),
        (chain("8 - 9"), 1.0),  # the second in which the clip ends
        (chain("2 - 4", "8 - 10"), 0.5),  # outside the clip
        (chain("-1 - 4"), 0.5),
        (chain("4 - 2"), 0.5),
        (chain("3"), 0.5),  # a moment, not a span
        (chain("1 - 2, 3 - 4"), 0.5),  # two spans in a tag for one
        (chain("early on"), 0.5),
        (chain(""), 0.5),
        (chain("2 - 4").replace("a dog", " "), 0.5),  # an empty caption
        ("<time>2 - 4<time>2 - 4</time></time>" + END, 0.5),  # nested
        ("<time>2 - 4" + END, 0.5),  # never closed
        ("<time>2 - 4</time><caption>a dog</caption><think>so <answer>B</answer>", 0.0),  # still thinking
        ("<time>2 - 4</time><time>2 - 4</time>" + END, 0.5),  # repeated without its caption
        ("<caption>a dog</caption><time>2 - 4</time><think>so</think><answer>B</answer>", 0.5),
        ("<time>2 - 4</time><caption>it says <time>0 - 99</time></caption><think>so</think><answer>B</answer>", 0.5),
    ],
)
def test_format_reads_the_contents(response: str, format_: float) -> None:
    score = Scorer(REWARDS)(SAMPLE, response)
    assert score.format == format_
    assert score.total == pytest.approx(0.9 * score.accuracy + 0.1 * score.format)  # spans are not paid for


def test_without_a_duration_no_span_is_too_late() -> None:
    assert Scorer(REWARDS)(replace(SAMPLE, extra={}), chain("100 - 200")).format == 1.0


def test_planning_inside_thinking() -> None:
    """PRIMO's chain is another grammar of the same kind."""
    rewards = RewardConfig.model_validate(
        {
            "grammar": ["think/planning", "think/observation", "think/reasoning"],
            "tags": {"planning": {"asks": "the steps"}, "observation": {}, "reasoning": {}},
        }
    )
    assert "<think><planning>the steps</planning> <observation>" in prompt_text(SAMPLE, PromptConfig(), rewards)
    inner = "<planning>p</planning><observation>o</observation><reasoning>{}</reasoning>"
    scorer = Scorer(rewards)
    assert scorer(SAMPLE, f"<think>{inner.format('r')}</think><answer>B</answer>").format == 1.0
    assert scorer(SAMPLE, f"<think>{inner.format('')}</think><answer>B</answer>").format == 0.5
    assert scorer(SAMPLE, f"{inner.format('r')}<answer>B</answer>").format == 0.5


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (chain("2 - 4"), 1.0),
        (chain("3 - 5"), 1 / 3),
        (chain("2 - 3", "3 - 4"), 1.0),  # the union counts
        (chain("2 - 4", "2 - 4"), 1.0),  # saying it twice changes nothing
        (chain("2 - 4", "6 - 8"), 0.5),
        (chain("0 - 100"), 0.02),
        (chain("early on"), 0.0),
        ("<answer>B <time>2 - 4</time></answer>", 0.0),  # part of the answer, not of the trace
        ("<answer>B</answer>", 0.0),
    ],
)
def test_the_iou_of_the_trace_is_recorded(response: str, expected: float) -> None:
    score = Scorer(REWARDS)(SAMPLE, response)
    assert score.parts["evidence_iou"] == pytest.approx(expected)


def test_a_row_without_a_reference_has_no_iou() -> None:
    assert trace_span_iou(replace(SAMPLE, extra={}), chain("2 - 4")) is None
    assert trace_span_iou(replace(SAMPLE, extra={"evidence": "[[2, 4], [6, 8]]"}), chain("2 - 4")) == 0.5


SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda ends: (min(ends), max(ends) + 1)), max_size=5
)


@given(a=SPANS, b=SPANS)
def test_union_iou_counts_whole_seconds(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    first = {second for start, end in a for second in range(start, end)}
    second = {second for start, end in b for second in range(start, end)}
    expected = len(first & second) / len(first | second) if first | second else 0.0
    assert union_iou(a, b) == pytest.approx(expected)


def test_texts_of_tags() -> None:
    response = "<time>1</time> x <caption>a <b>c</b></caption><TIME>2<caption>d</caption></time><answer></answer>"
    found = tag_texts(response, ["time", "caption"])
    assert [(one.name, one.text) for one in found] == [("time", "1"), ("caption", "a <b>c</b>"), ("caption", "d")]
    assert [response[one.start : one.end] for one in found] == [one.text for one in found]
    assert tag_texts("<time>" * 50_000 + "<time>1</time>", ["time"])[0].text == "1"


def test_tags_that_the_grammar_has_not_are_refused() -> None:
    for tags in ({"span": {}}, {"answer": {}}):
        with pytest.raises(ConfigError, match=r"rewards\.tags"):
            Scorer(RewardConfig.model_validate({"grammar": ["time", "think"], "tags": tags}))
    with pytest.raises(ConfigError, match=r"rewards\.tags\.think"):  # holds tags, not text
        Scorer(RewardConfig.model_validate({"grammar": ["think/plan"], "tags": {"think": {}}}))


def test_a_template_of_ones_own_must_ask_for_the_tags(tmp_path: Path) -> None:
    (tmp_path / "multiple_choice.j2").write_text("{{ question }} Give <think> </think> and <answer> </answer>.")
    config = PromptConfig(templates=str(tmp_path))
    with pytest.raises(ConfigError, match="wants the tags <time> <caption>"):
        prompt_text(SAMPLE, config, REWARDS)
    (tmp_path / "multiple_choice.j2").write_text("{{ question }} Give {{ tags }} and <answer> </answer>.")
