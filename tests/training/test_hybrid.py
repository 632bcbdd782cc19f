"""Offline trajectories in on-policy groups: where they go, and what becomes of odd ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.rollout.hybrid import Hybrid
from easyvideor1.rollout.requests import offline_turn
from easyvideor1.types import DataError, Group, OfflineTrajectory, Sample, Score, Trajectory, Turn

from .runs import World, json_lines, train, write_rows

pytestmark = pytest.mark.model


def hybrid(family, limit: int = 20, **options: object) -> Hybrid:
    stage = StageConfig.model_validate({"name": "rl", "steps": 11, "hybrid": options})
    found = Hybrid.of(stage, family, limit, 3)
    assert found is not None
    return found


def samples(*texts: str | None) -> list[Sample]:
    return [
        Sample(f"s{i}", "What?", "math", "1", offline=() if text is None else (OfflineTrajectory(text),))
        for i, text in enumerate(texts)
    ]


def test_everybody_with_a_usable_one_gets_it(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])
    found = hybrid(tiny_family).place(samples("an answer", None, "<|video_pad|>", ""), [prompt] * 4, 1)
    assert [len(chosen) for chosen in found.chosen] == [1, 0, 0, 0]
    (trajectory,) = found.chosen[0]
    assert trajectory.origin == "offline" and trajectory.text == "an answer"
    assert trajectory.turns[0].response_ids[-1] in tiny_family.stop_token_ids, "it is given an end"
    assert found.metrics == {
        "hybrid/candidates": 1.0,
        "hybrid/groups": 1.0,
        "hybrid/responses": 1.0,
        "hybrid/without_logprobs": 1.0,
        "hybrid/unusable": 2.0,
        "hybrid/share": 1.0,
    }
    assert hybrid(tiny_family).place(samples("x"), [None], 1).chosen == [()], "no prompt, no group"


def test_what_is_too_long_is_left_out_or_cut(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])
    long = samples("one two three four five six seven")
    assert hybrid(tiny_family, 4).place(long, [prompt], 1).chosen == [()]
    ((cut,),) = hybrid(tiny_family, 4, too_long="cut").place(long, [prompt], 1).chosen
    assert len(cut.turns[0].response_ids) == 4 and cut.turns[0].finish == "length"
    assert long[0].offline[0].text.startswith(cut.text), "what is scored is what is trained on"


def test_log_probs_are_kept_where_they_fit(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])
    ids = tiny_family.tokenizer("an answer", add_special_tokens=False)["input_ids"]
    known = [-0.5] * len(ids)
    for logprobs, wanted in ((known, [*known, None]), ([*known, -1.0], [*known, -1.0]), (known[:-1], None)):
        turn = offline_turn(tiny_family, prompt, OfflineTrajectory("an answer", tuple(logprobs)), 50, strict=False)
        found = None if turn.logprobs is None else [None if np.isnan(x) else float(x) for x in turn.logprobs]
        assert found == wanted


def test_shares_of_groups(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])
    many = samples(*["an answer"] * 10)
    rule = hybrid(tiny_family, policy="fraction", fraction=0.25)
    counts = [sum(map(bool, rule.place(many, [prompt] * 10, step).chosen)) for step in range(1, 41)]
    assert set(counts) == {2, 3} and sum(counts) / 40 == pytest.approx(2.5, abs=0.3)
    first, again = rule.place(many, [prompt] * 10, 1), rule.place(many, [prompt] * 10, 1)
    assert list(map(bool, first.chosen)) == list(map(bool, again.chosen))
    falling = hybrid(tiny_family, policy="schedule", fraction=1.0, fraction_end=0.0)
    assert [falling.share(step) for step in (1, 6, 11)] == pytest.approx([1.0, 0.5, 0.0])


def test_failing_groups_are_helped(tiny_family) -> None:
    prompt = tiny_family.render("What?", [], [])

    def group(sample: Sample, *accuracies: float) -> Group:
        turn = Turn(prompt, np.arange(2), np.ones(2, bool), None, "stop", "x")
        return Group(sample, (Trajectory((turn,)),) * len(accuracies), tuple(Score(a, 0, a) for a in accuracies))

    first, second, third = samples("an answer", "an answer", None)
    groups = [group(first, 0, 0, 1), group(second, 1, 0, 1), group(third, 0, 0, 0)]
    masked = replace(groups[0], scores=tuple(replace(score, applicable=False) for score in groups[0].scores))
    rule = hybrid(tiny_family, policy="below", threshold=0.5)
    changed, placed = rule.replace_failing([*groups, masked], 1)
    assert [[t.origin for t in each.trajectories] for each in changed] == [
        ["online", "online", "offline"], ["online"] * 3, ["online"] * 3, ["online"] * 3
    ]  # fmt: skip
    assert changed[0].scores == () and changed[1] is groups[1] and placed.metrics["hybrid/groups"] == 1


@pytest.mark.parametrize("policy", ["replace-last", "below"])
def test_a_run_marks_them_everywhere(world: World, place: Path, policy: str) -> None:
    options = {"policy": policy} | ({"threshold": 1.0} if policy == "below" else {})
    stage = {"name": "rl", "steps": 1, "prompts_per_step": 2, "group_size": 3, "hybrid": options, "off_policy": "sft"}
    train(world.short(stages=[stage]))
    (directory,) = (place / "runs/small/stages").iterdir()
    (row,) = json_lines(directory / "metrics.jsonl")
    assert row["hybrid/groups"] == 2 and row["hybrid/responses"] == 2 and 0 < row["offline/accuracy"] < 1
    own = []
    for group in json_lines(directory / "rollouts/step_000001.jsonl"):
        assert [each["origin"] for each in group["trajectories"]] == ["online", "online", "offline"]
        assert [each.get("off_policy") for each in group["trajectories"]] == [None, None, "sft"]
        own += [each["score"]["accuracy"] for each in group["trajectories"][:2]]
    assert row["reward/accuracy"] == pytest.approx(sum(own) / len(own)), "the policy's own accuracy"
    groups = json_lines(directory / "rollouts/step_000001.jsonl")
    tokens = sum(each["tokens"] for group in groups for each in group["trajectories"] if each["origin"] == "online")
    replaced = row.get("hybrid/replaced_tokens", 0)
    assert (replaced > 0) == (policy == "below"), "under below all responses are generated, and some give way"
    assert json_lines(directory / "timings.jsonl")[0]["new_tokens"] == tokens + replaced


def hybrid_rows(world: World, place: Path, **changes: object) -> str:
    """The world's rows of one task, with what is wrong about their trajectories."""
    return write_rows(place / "rows.jsonl", [{**row, **changes} for row in world.read()])


def only(world: World, path: str, **options: object) -> RunConfig:
    """A run of one hybrid stage that draws from one file more than the world has."""
    stage = {"name": "rl", "steps": 1, "prompts_per_step": 2, "group_size": 3, "hybrid": {}, "off_policy": "sft"}
    sources = [{"path": world.rows("train")}, {"path": path}]
    return world.short(stages=[{**stage, **options}], data__train=sources)


def test_what_can_be_used_is_said_before_anything_is_trained(world: World, place: Path) -> None:
    rows = world.read()
    rows[0] = {**rows[0], "offline_output": "<|video_pad|>"}
    path = write_rows(place / "rows.jsonl", rows)
    _, shown = train(only(world, path, sources=[path]))
    assert (
        f"stage rl: {len(rows) - 1} of {len(rows)} offline trajectories are usable; 1 are not, the first because"
        in (" ".join(shown.split()))
    )


def test_a_hybrid_stage_that_can_use_nothing_is_refused(world: World, place: Path) -> None:
    """Its own sources and tasks decide, not what else the run has."""
    path = hybrid_rows(world, place, offline_output="<|video_pad|>")
    with pytest.raises(DataError, match="'rl' is hybrid, but none of its 12 offline trajectories is usable"):
        train(only(world, path, sources=[path]))
    path = hybrid_rows(world, place, has_offline_trajectory=False, offline_output="")
    with pytest.raises(DataError, match=r"'rl' is hybrid, but no row of .*rows\.jsonl has an offline trajectory"):
        train(only(world, path, sources=[path]))


def test_tasks_decide_too(world: World, place: Path) -> None:
    """Offline trajectories of rows that a stage does not draw are none of its business."""
    tasks = {row["problem_type"] for row in world.read()}
    bare = [
        {**row, "has_offline_trajectory": False, "offline_output": ""}
        if row["problem_type"] == "spatial grounding"
        else row
        for row in world.read()
    ]
    assert "spatial grounding" in tasks
    path = write_rows(place / "rows.jsonl", bare)
    with pytest.raises(DataError, match="with the task spatial grounding has an offline trajectory"):
        train(only(world, path, sources=[path], tasks=["spatial grounding"]))


def test_a_supervised_stage_looks_at_what_it_draws_alone(world: World, place: Path) -> None:
    path = hybrid_rows(world, place, offline_output="word " * 200)
    sft = {"trajectories": "offline", "advantage": "ones", "objective": "sft", "hybrid": None, "off_policy": "none"}
    train(only(world, path, sources=[world.rows("train")], **sft))
    with pytest.raises(DataError, match=r"rollout\.max_new_tokens is 48"):
        train(only(world, path, sources=[path], **sft).model_copy(update={"name": "other"}))
