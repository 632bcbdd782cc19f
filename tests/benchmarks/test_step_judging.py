"""Reasoning judged step by step, against a real endpoint that judges, forgets steps and talks nonsense."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.rewards.judge_server import Server, chat

from easyvideor1.benchmarks.step_judging import JUDGED, PRECISION, RECALL, STEPS, StepScorer, step_parts, with_steps
from easyvideor1.cli.evaluation.questions import Judging
from easyvideor1.config.schema import JudgeConfig, RewardConfig
from easyvideor1.rewards import Scorer
from easyvideor1.rewards.judge.asking import UNREADABLE
from easyvideor1.types import Completion, ConfigError, Sample

OPTIONS = ("A. a door", "B. a box")
SAMPLE = Sample(
    "q",
    "<video>What does he open?",
    "multiple_choice",
    "B",
    options=OPTIONS,
    extra={STEPS: ["0:03, a box.", "He opens it."]},
)
SAID = Completion("<think>At 0:03 there is a box.</think><answer>B</answer>", "stop")


def rewards(server: Server, **changes: Any) -> RewardConfig:
    settings: dict[str, Any] = {"cache_dir": None, "max_wait": 0.01, "retries": 1}
    return RewardConfig(judge=JudgeConfig(url=server.url, model="m", **settings | changes))


def steps(body: dict[str, Any], recalled: list[tuple[str, str]], given: list[tuple[str, str]]) -> Any:
    """A verdict on the steps of the reference, or of the response, as it was asked for."""
    system = body["messages"][0]["content"]
    found = recalled if "matched|missing" in system else given
    listed = [{"step": "?", "kind": kind, "verdict": verdict} for kind, verdict in found]
    named = re.findall(r'"id": "(\w{8})"', system)[0]
    return chat(json.dumps({"id": named, "steps": listed}))


RECALLED = [("video", "matched"), ("logic", "missing")]
GIVEN = [("video", "matched"), ("video", "redundant"), ("background", "wrong")]


def test_recall_and_precision_stand_beside_the_score_of_the_answer(serve) -> None:
    server = serve(lambda number, body: steps(body, RECALLED, GIVEN))
    score = StepScorer(Scorer(rewards(server)), rewards(server))(SAMPLE, SAID)
    assert (score.applicable, score.accuracy, score.parsed) == (True, 1.0, "B")
    assert {name: value for name, value in score.parts.items() if "step" in name} == {
        "step recall": 0.5,
        "video step recall": 1.0,
        "logic step recall": 0.0,
        "step precision": 1.0,
        "video step precision": 1.0,
        JUDGED: 1.0,
    }
    users = [body["messages"][1]["content"] for body in server.bodies]
    assert len(users) == 2 and all("<video>" not in user and "there is a box" in user for user in users)
    assert all(part in user for user in users for part in ('"0:03, a box.\\nHe opens it."', "B. a box")), users
    assert all(body["max_tokens"] == 2048 for body in server.bodies), "a list is longer than a grade"


def test_a_response_without_text_has_no_step_and_asks_nobody(serve) -> None:
    server = serve(lambda number, body: steps(body, RECALLED, GIVEN))
    score = StepScorer(Scorer(rewards(server)), rewards(server))(SAMPLE, Completion(" \n", "stop"))
    assert score.applicable and server.bodies == []
    assert {
        score.parts[f"{kind}step {name}"] for kind in ("", "video ", "logic ") for name in ("recall", "precision")
    } == {0.0}


def test_a_forgotten_reference_step_is_asked_for_again(serve) -> None:
    forgetful: list[int] = []

    def behave(number: int, body: dict[str, Any]) -> Any:
        if "matched|missing" in body["messages"][0]["content"] and not forgetful:
            forgetful.append(number)
            return steps(body, RECALLED[:1], GIVEN)
        return steps(body, RECALLED, GIVEN)

    server = serve(behave)
    score = StepScorer(Scorer(rewards(server)), rewards(server))(SAMPLE, SAID)
    assert score.parts["step recall"] == 0.5 and len(server.bodies) == 3
    again = [body["messages"][-1]["content"] for body in server.bodies if len(body["messages"]) > 2]
    assert len(again) == 1 and '"steps" has 1 steps; there are 2 reference steps' in again[0]


@pytest.mark.parametrize(
    "given",
    [[], [("sound", "matched")], [("video", "missing")], [("video", "Matched")], [("video", "wrong")] * 201],
)
def test_what_is_no_verdict_on_steps_is_not_applicable(serve, given) -> None:
    server = serve(lambda number, body: steps(body, RECALLED, given))
    with pytest.warns(RuntimeWarning, match=UNREADABLE):
        score = StepScorer(Scorer(rewards(server)), rewards(server))(SAMPLE, SAID)
    assert (score.applicable, score.reason) == (False, UNREADABLE) and JUDGED not in score.parts


def test_without_a_judge_or_reference_steps_the_rewards_score(serve) -> None:
    assert isinstance(with_steps(RewardConfig()), Scorer)
    server = serve(lambda number, body: steps(body, RECALLED, GIVEN))
    scorer = with_steps(rewards(server))
    plain = Sample("p", "What?", "multiple_choice", "B", options=OPTIONS)
    assert isinstance(scorer, StepScorer) and JUDGED not in scorer(plain, SAID).parts and server.bodies == []


def test_a_judge_that_does_not_answer_is_refused_before_the_run(serve) -> None:
    server = serve(lambda number, body: (503, {}, "busy"))
    with pytest.raises(ConfigError, match="benchmark vcr_bench: "):
        Judging(rewards(server, retries=0)).check(["vcr_bench=somewhere"])


def test_own_criteria_are_checked_before_the_run(serve, tmp_path) -> None:
    server = serve(lambda number, body: steps(body, RECALLED, GIVEN))
    (tmp_path / "step_recall.j2").write_text("{{ colour }}")
    with pytest.raises(
        ConfigError, match=r"step_recall\.j2: 'colour' is undefined .* question, reference, steps, answer"
    ):
        with_steps(rewards(server, templates=str(tmp_path)))


def test_parts_are_left_out_where_there_are_no_steps_of_a_kind() -> None:
    assert step_parts([("background", "missing")], [("logic", "redundant")]) == {}
    assert PRECISION.against != RECALL.against
