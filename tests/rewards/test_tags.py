"""Tag grammars of the format reward, and the thinking that they define."""

from __future__ import annotations

from typing import Any

import pytest

from easyvideor1.config.rewards import RewardConfig
from easyvideor1.rewards import Scorer, parse, score
from easyvideor1.rewards.tags import ANSWER, grammar_of
from easyvideor1.types import ConfigError, Sample

THINK = "think-answer"
BLOCKS = ("time", "caption", "think")
RUN = (("time", "caption"), "think")
NESTED = ("think/plan", "think/check")
END = "<answer>B</answer>"


@pytest.mark.parametrize(
    ("grammar", "before", "after", "expected"),
    [
        ("answer", "", "", 1.0),
        ("answer", "So it is: ", " done.", 1.0),
        ("answer", "<think>x</think>", "", 1.0),
        (THINK, "<think>x</think>", "", 1.0),
        (THINK, "\n<THINK>x</ think >\n\n", "\n", 1.0),
        (THINK, "opened by the chat template</think>", "", 1.0),
        (THINK, "", "", 0.5),
        (THINK, "<think>x</think><think>y</think>", "", 0.5),
        (THINK, "<think><think>x</think></think>", "", 0.5),
        (THINK, "First <think>x</think>", "", 0.5),
        (THINK, "<think>x</think> so", "", 0.5),
        (THINK, "<think>x</think>", " done.", 0.5),
        (BLOCKS, "<time>1-2</time><caption>a dog</caption><think>x</think>", "", 1.0),
        (BLOCKS, "<caption>a dog</caption><time>1-2</time><think>x</think>", "", 0.5),
        (BLOCKS, "<time>1-2</time><think>x</think>", "", 0.5),
        (BLOCKS, "<time>1-2<caption>a dog</caption></time><think>x</think>", "", 0.5),
        (RUN, "<time>1</time><caption>a</caption>\n<time>2</time><caption>b</caption><think>x</think>", "", 1.0),
        (RUN, "<time>1</time><caption>a</caption><time>2</time><think>x</think>", "", 0.5),
        (RUN, "<think>x</think>", "", 0.5),
        (NESTED, "<think> <plan>p</plan> <check>c</check> </think>", "", 1.0),
        (NESTED, "<think>p <plan>p</plan><check>c</check></think>", "", 0.5),
        (NESTED, "<think><plan>p</plan></think>", "", 0.5),
        (NESTED, "<plan>p</plan><check>c</check>", "", 0.5),
        ((*BLOCKS, "answer"), "<time>1-2</time><caption>a dog</caption><think>x</think>", "", 1.0),
    ],
)
def test_format_follows_the_grammar(grammar: Any, before: str, after: str, expected: float) -> None:
    result = score("mc", f"{before}{END}{after}", "B", grammar=grammar)
    assert (result.accuracy, result.format) == (1.0, expected)


@pytest.mark.parametrize(("grammar", "opening"), [("answer", "think"), (THINK, "think"), (BLOCKS, "caption")])
def test_an_answer_inside_thinking_that_never_closes_is_none(grammar: Any, opening: str) -> None:
    result = score("mc", f"<{opening}>x {END}", "B", grammar=grammar)
    assert (result.accuracy, result.format, result.reason) == (0.0, 0.0, "the thinking was never closed")


@pytest.mark.parametrize("grammar", ["answer", THINK, BLOCKS, RUN, NESTED])
@pytest.mark.parametrize(
    ("response", "expected"),
    [("B", 0.0), ("<answer></answer>", 0.0), ("<answer>B", 0.0), ("<answer>who knows</answer>", 0.5)],
)
def test_what_no_grammar_changes(grammar: Any, response: str, expected: float) -> None:
    assert score("mc", response, "B", grammar=grammar).format == expected


def test_an_answer_inside_what_comes_before_is_not_the_answer() -> None:
    text = "<caption>It says <answer>A</answer></caption> or so"
    assert parse("mc", text, (), grammar_of(("caption", "think"))).value is None
    assert parse("mc", text, (), ANSWER).value == ("A",)
    only = "<caption><answer>A</answer></caption>"
    assert parse("mc", only, (), grammar_of(("caption",))).found == "nothing"


def test_tags_inside_the_answer_are_not_looked_at() -> None:
    page = "<table><caption>x</caption><time>1</time></table>"
    response = f"<time>1</time><caption>c</caption><think>t</think><answer>{page}</answer>"
    assert score("html", response, page, grammar=BLOCKS).format == 1.0


@pytest.mark.parametrize(
    "grammar",
    ["thinking", (), ("answer",), ("think", "answer", "time"), ("a b",), ("<think>",), ("think", "think/plan"), ("",)],
)
def test_what_is_no_grammar_is_refused(grammar: Any) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.grammar"):
        grammar_of(grammar)
    if not isinstance(grammar, str):
        with pytest.raises(ConfigError, match=r"rewards\.grammar"):
            Scorer(RewardConfig(grammar=grammar))


def test_the_scorer_takes_the_grammar_of_the_configuration() -> None:
    scorer = Scorer(RewardConfig.model_validate({"grammar": [["time", "caption"], "think"]}))
    sample = Sample("a", "?", "multiple_choice", "B")
    assert scorer(sample, "<time>1</time><caption>c</caption><think>x</think>" + END).total == pytest.approx(1.0)
    assert scorer(sample, END).total == pytest.approx(0.95)


@pytest.mark.parametrize(
    "text", ["<time>" * 20_000, "<time></time>" * 10_000, "<time>1</time><caption>c</caption>" * 4000]
)
def test_runs_of_tags_are_cheap(text: str) -> None:
    for grammar in (THINK, BLOCKS, RUN, NESTED):
        closed = text.endswith(("</caption>", "</time>")) or "time" not in str(grammar)
        assert score("mc", text + END, "B", grammar=grammar).format == (0.5 if closed else 0.0)
