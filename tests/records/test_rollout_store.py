"""Rollouts of a run, read again."""

from __future__ import annotations

import numpy as np
import pytest

from easyvideor1.records.rollout_store import RolloutStore
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord, TurnArrays
from easyvideor1.records.trajectory_files import write_trajectories
from easyvideor1.types import DataError, Score


def record(sample, step):
    ids = np.arange(step + 2)
    turn = TurnArrays(np.arange(3), ids, np.ones(len(ids), bool), np.zeros(len(ids), np.float32))
    score = Score(0.5, 1.0, 0.55, parts={"brevity": 0.25}, parsed="B")
    answer = TrajectoryRecord("text", len(ids), "stop", score, turns=(turn,))
    return SampleRecord(sample, "boolean", "?", "Yes", (), trajectories=(answer,), step=step)


@pytest.fixture
def run(tmp_path):
    for stage, steps in (("01-grpo", (1, 2, 3)), ("03-grpo-2", (1,))):
        for step in steps:
            file = tmp_path / "stages" / stage / "rollouts" / f"step_{step:06d}.jsonl"
            write_trajectories(file, [record(f"{stage}/{step}/{place}", step) for place in range(2)])
    (tmp_path / "stages" / "02-none").mkdir()
    return tmp_path


def test_groups_come_in_order_with_scores_and_parts(run):
    store = RolloutStore(run)
    assert store.stages() == ["01-grpo", "03-grpo-2"]
    found = [group.record.sample for group in store.groups()]
    assert found == [f"01-grpo/{step}/{place}" for step in (1, 2, 3) for place in (0, 1)] + [
        "03-grpo-2/1/0",
        "03-grpo-2/1/1",
    ]
    some = list(store.groups(stage="grpo", steps=range(2, 4)))
    assert [(group.stage, group.step, group.place) for group in some] == [
        ("01-grpo", step, place) for step in (2, 3) for place in (0, 1)
    ]
    (answer,) = some[0].record.trajectories
    assert answer.score.parts == {"brevity": 0.25} and answer.score.parsed == "B" and answer.turns == ()
    assert [group.step for group in store.groups(stage="03-grpo-2")] == [1, 1]
    assert store.steps("grpo") == [1, 2, 3] and store.damage == []


def test_stages_come_by_their_numbers(run):
    for name in ("100-grpo-34", "99-dpo"):
        (run / "stages" / name / "rollouts").mkdir(parents=True)
    assert RolloutStore(run).stages() == ["01-grpo", "03-grpo-2", "99-dpo", "100-grpo-34"]


def test_arrays_are_read_when_asked_for(run):
    found = RolloutStore(run).with_arrays("grpo", 3, 1)
    assert found.sample == "01-grpo/3/1"
    (turn,) = found.trajectories[0].turns
    assert turn.response_ids.tolist() == [0, 1, 2, 3, 4]


def test_damage_is_named_and_the_rest_is_given(run):
    rollouts = run / "stages/01-grpo/rollouts"
    lines = (rollouts / "step_000002.jsonl").read_bytes().split(b"\n")
    (rollouts / "step_000002.jsonl").write_bytes(b"\n".join([b"{broken", *lines[1:]]))
    (rollouts / "step_000003.npz").write_bytes(b"no arrays")
    store = RolloutStore(run)
    assert [group.record.sample[-3:] for group in store.groups("grpo")] == ["1/0", "1/1", "2/1", "3/0", "3/1"]
    (damage,) = store.damage
    assert damage.where == "stages/01-grpo/rollouts/step_000002.jsonl" and "1 of 2 groups can be read" in damage.what
    with pytest.raises(DataError, match=r"step_000002\.jsonl:1: "):
        store.with_arrays("grpo", 2, 0)
    with pytest.raises(DataError, match=r"step_000003\.npz: damaged"):
        store.with_arrays("grpo", 3, 0)


def test_what_is_not_there_is_told(run, tmp_path):
    store = RolloutStore(run)
    with pytest.raises(DataError, match="no rollouts of a stage 'dpo'; there are those of 01-grpo, 03-grpo-2"):
        list(store.groups("dpo"))
    with pytest.raises(DataError, match="has 2 groups, none with number 2"):
        store.with_arrays("grpo", 1, 2)
    assert list(RolloutStore(tmp_path / "nothing").groups()) == []
