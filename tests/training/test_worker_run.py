"""Training with engines and rewards in processes of their own, and with such that lose what they are given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.config import RunConfig
from easyvideor1.types import StoppedError

from .runs import World, differing, json_lines, lasting, train, write_rows

pytestmark = pytest.mark.model

#: An engine that does not answer ``[row 0]``.
LOSING = """
from dataclasses import replace

from easyvideor1.engines.engine import Result
from easyvideor1.engines.local import LocalEngine
from easyvideor1.types import RequestFailed


class Losing(LocalEngine):
    def results(self):
        for result in super().results():
            if result is not None and "[row 0]" in result.request.prompt.text:
                yield Result(result.ticket, result.request, fault=RequestFailed("lost twice"))
            else:
                yield result
"""


def test_a_run_with_a_worker_is_equal_to_the_bit(world: World, place: Path, finished: Path) -> None:
    train(world.config(rollout__workers=1))
    ours, theirs = lasting(place / "runs" / "small"), lasting(finished)
    differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differ == {"config.yaml"}


#: A reward that never returns, once.
HANGING = """
import time
from pathlib import Path

from own_parts import vowels


def reward(sample, response):
    if Path("hang").exists() and sample.answer not in response:  # not when it is tried with the reference
        Path("hang").unlink()
        time.sleep(3600)
    return vowels(sample, response)
"""


def test_a_run_with_rewards_in_processes_is_equal_to_the_bit(world: World, place: Path, finished: Path) -> None:
    train(world.config(rewards__processes=2))
    assert differing(place / "runs" / "small", finished) == ["config.yaml"]


def test_a_reward_that_never_returns_masks_its_group_alone(world: World, place: Path) -> None:
    (place / "hanging.py").write_text(HANGING)
    (place / "hang").touch()
    rewards = {"custom": {"*": "hanging:reward"}, "processes": 1, "deadline": 6.0}
    with pytest.warns(RuntimeWarning, match=r"over 3 responses to .*; another one takes its place"):
        train(world.short(rewards=rewards, stages__0__selection={"drop_flat_groups": False}))
    rows = json_lines(place / "runs/small/stages/01-rl/metrics.jsonl")
    assert [row["response/not_applicable"] for row in rows] in ([3.0, 0.0], [0.0, 3.0])
    (masked,) = [row for row in rows if row["response/not_applicable"]]
    (reason,) = [name for name in masked if name.startswith("not_applicable/")]
    assert reason.endswith("/not scored: its process took longer than rewards.deadline")


def test_a_run_with_two_workers_makes_the_same_rollouts_and_resumes(world: World, place: Path) -> None:
    def config(name: str, steps: int, workers: int) -> RunConfig:
        optimizer = {"lr": 1e-3, "schedule": "constant"}
        return world.short(name=name, rollout__workers=workers, stages__0__steps=steps, stages__0__optimizer=optimizer)

    train(config("one", 3, 0))
    train(config("two", 1, 2))
    _, shown = train(config("two", 3, 2))
    assert "resuming after step 1" in " ".join(shown.split())
    for step in (1, 2, 3):
        one, two = (
            np.load(place / f"runs/{name}/stages/01-rl/rollouts/step_{step:06d}.npz") for name in ("one", "two")
        )
        assert one.files == two.files
        for array in one.files:
            if one[array].dtype.kind == "f":
                np.testing.assert_allclose(one[array], two[array], rtol=0, atol=1e-4)
            else:
                np.testing.assert_array_equal(one[array], two[array])


def losing(world: World, place: Path, rows: list[int], **changes: object) -> RunConfig:
    (place / "losing.py").write_text(LOSING)
    asked = [{**row, "problem": f"{row['problem']} [row {i}]"} for i, row in zip(rows, world.read(), strict=False)]
    path = write_rows(place / "rows.jsonl", asked)
    rollout = {"max_new_tokens": 8, "engine": "losing:Losing"}
    data = {**world.values()["data"], "test": [], "validation": [{"path": path}], "train": [{"path": path}]}
    return world.short(rollout=rollout, data=data, **changes)


def test_a_request_that_fails_costs_its_sample_only(world: World, place: Path) -> None:
    config = losing(world, place, [0, 1], stages__0__steps=1, evaluation__every=1, evaluation__samples=0)
    _, shown = train(config)
    assert "step 1: left out: lost twice" in shown
    run_dir = place / "runs" / "small"
    (row,) = json_lines(run_dir / "stages/01-rl/metrics.jsonl")
    assert (row["groups/request_failed"], row["groups/media_failed"], row["groups/all"]) == (1, 0, 2)
    assert "groups/turn_failed" not in row and row["groups/used"] == 1
    groups = json_lines(run_dir / "stages/01-rl/rollouts/step_000001.jsonl")
    assert [group.get("error") for group in groups if not group["trajectories"]] == ["lost twice"]
    evaluation = json.loads((run_dir / "evaluations/rl-000001.json").read_text())
    assert evaluation["failed"] == 1
    questions = json_lines(run_dir / "evaluations/rl-000001.jsonl")
    assert sorted(question.get("error") or "" for question in questions) == ["", "RequestFailed: lost twice"]


def test_a_stage_of_which_every_request_fails_stops(world: World, place: Path) -> None:
    with pytest.raises(StoppedError, match=r"2 with a request that the engine did not answer.*raise rollout.deadline"):
        train(losing(world, place, [0, 0], stages__0__steps=1))
