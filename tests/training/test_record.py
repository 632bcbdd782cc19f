"""What a stage leaves behind, and how it is taken back after a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from easyvideor1.records.damage import changed_files
from easyvideor1.rollout.collector import REPLACED_TOKENS
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import TrainBatch, flatten_groups
from easyvideor1.types import (
    EasyVideoError,
    Group,
    MediaPlan,
    MediaRef,
    Prompt,
    Sample,
    Score,
    Trajectory,
    Turn,
)

from .runs import json_lines


def group(name: str, *totals: float) -> Group:
    plan = MediaPlan("video", "f", (0, 2), (0.0, 0.5), 64, 32, (1, 4, 2), 2, 4.0, 2.0, "digest")
    prompt = Prompt(np.arange(5), (MediaRef("video", "a.mp4"),), (plan,), (), "What?")
    logprobs = np.array([-1.0, -0.5], np.float32)
    turns = [Turn(prompt, np.arange(2), np.ones(2, bool), logprobs, "stop", f"says {i}") for i in range(len(totals))]
    scores = tuple(Score(total, 1.0, total, {"iou": total}, "x") for total in totals)
    return Group(
        Sample(name, "q", "math", "1", options=("A. a",)), tuple(Trajectory((turn,)) for turn in turns), scores
    )


def written(directory: Path, steps: int) -> StageLog:
    record = StageLog(directory)
    for step in range(1, steps + 1):
        groups = [group("a", 1.0, 0.0), group("b", 0.5)]
        advantages = torch.tensor([1.0, -1.0])
        record.write_rollouts(step, groups, TrainBatch(flatten_groups(groups[:1]), advantages, advantages))
        record.write_metrics(step, groups, groups[:1], {"loss": 0.25}, Timings())
    return record


def test_a_step_is_written_with_all_that_happened(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (metrics,) = json_lines(tmp_path / "metrics.jsonl")
    assert metrics["step"] == 1 and metrics["loss"] == 0.25 and metrics["reward/total"] == 0.5
    (timings,) = json_lines(tmp_path / "timings.jsonl")
    assert timings["step"] == 1 and timings["new_tokens"] == 6 and timings["total"] >= 0
    used, unused = json_lines(tmp_path / "rollouts/step_000001.jsonl")
    assert used["used"] is True and [each["advantage"] for each in used["trajectories"]] == [1.0, -1.0]
    assert unused["used"] is False and [each["advantage"] for each in unused["trajectories"]] == [None]
    assert used["media"] == [
        {
            "kind": "video",
            "path": "a.mp4",
            "digest": "digest",
            "frame_indices": [0, 2],
            "timestamps": [0.0, 0.5],
            "height": 64,
            "width": 32,
        }
    ]
    assert {key: used[key] for key in ("sample", "task", "question", "answer", "options", "prompt")} == {
        "sample": "a",
        "task": "math",
        "question": "q",
        "answer": "1",
        "options": ["A. a"],
        "prompt": "What?",
    }
    first = used["trajectories"][0]
    assert first["logprob"] == -1.5 and first["tokens"] == 2 and first["response"] == "says 0"
    assert first["score"]["parts"] == {"iou": 1.0} and first["score"]["applicable"] is True


def test_new_tokens_are_those_that_the_engine_wrote(tmp_path: Path) -> None:
    """Not those of offline members, but those of responses that gave way to them."""
    mixed = group("a", 1.0, 0.0, 0.5)
    mixed = replace(mixed, trajectories=(*mixed.trajectories[:2], replace(mixed.trajectories[2], origin="offline")))
    StageLog(tmp_path).write_metrics(1, [mixed], [], {REPLACED_TOKENS: 7.0}, Timings())
    assert json_lines(tmp_path / "timings.jsonl")[0]["new_tokens"] == 4 + 7


def test_steps_after_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    record = written(tmp_path / "run", 4)
    written(tmp_path / "other", 2)
    record.rewind(2, {})
    assert [row["step"] for row in json_lines(record.timings_file)] == [1, 2]
    assert record.metrics_file.read_bytes() == (tmp_path / "other/metrics.jsonl").read_bytes()
    kept = [f"step_00000{n}{ending}" for n in (1, 2) for ending in (".jsonl", ".npz")]
    assert sorted(path.name for path in record.rollouts.iterdir()) == kept
    record.rewind(0, {})
    assert record.metrics_file.read_bytes() == b"" and list(record.rollouts.iterdir()) == []


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 2}', b"[2]\n", b"\xff\xfe\n", b'{"loss": 1}\n'])
def test_a_torn_line_is_forgotten_too(tmp_path: Path, torn: bytes) -> None:
    record = written(tmp_path, 2)
    whole = record.metrics_file.read_bytes()
    record.metrics_file.write_bytes(whole + torn)
    record.rewind(2, {})
    assert record.metrics_file.read_bytes() == whole


def test_a_new_stage_has_nothing_to_forget(tmp_path: Path) -> None:
    StageLog(tmp_path / "none").rewind(0, {})
    assert not (tmp_path / "none").exists()


def test_a_metric_that_is_no_number_stops_the_run_and_is_named(tmp_path: Path) -> None:
    record = StageLog(tmp_path)
    groups = [group("a", 1.0)]
    with pytest.raises(EasyVideoError, match="step 1: own/thing is nan"):
        record.write_metrics(1, groups, groups, {"own/thing": float("nan")}, Timings())
    assert list(tmp_path.iterdir()) == []


def test_the_record_has_no_clock_in_its_metrics(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, 2)
    assert (tmp_path / "one/metrics.jsonl").read_bytes() == (tmp_path / "two/metrics.jsonl").read_bytes()
    assert json.loads((tmp_path / "one/metrics.jsonl").read_text().splitlines()[0])["groups/used"] == 1


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "canary.jsonl", "rollouts/step_000002.jsonl", "rollouts/step_000001.npz"]
)
@pytest.mark.parametrize("damage", ["a digit", "a line less", "emptied"])
def test_a_damaged_record_is_told(tmp_path: Path, name: str, damage: str) -> None:
    record = written(tmp_path, 2)
    record.write_canary([{"step": 1, "kind": "a"}, {"step": 2, "kind": "b"}])
    digests = record.digests(2)
    steps = {f"rollouts/step_00000{n}{ending}" for n in (1, 2) for ending in (".jsonl", ".npz")}
    assert set(digests) == {"metrics.jsonl", "canary.jsonl", *steps}
    file = tmp_path / name
    content = file.read_bytes()
    middle = len(content) // 2
    changed = {
        "a digit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "a line less": b"".join(content.splitlines(keepends=True)[:-1]),
        "emptied": b"",
    }[damage]
    assert changed != content
    file.write_bytes(changed)
    (damage,) = changed_files(tmp_path, 2, digests)
    assert damage.where == f"stages/{tmp_path.name}/{name}" and "not what was written until step 2" in damage.what


def test_a_record_is_held_to_what_it_was_at_a_step(tmp_path: Path) -> None:
    record = written(tmp_path, 1)
    first = record.digests(1)
    record = written(tmp_path, 3)  # steps after a checkpoint, and a line that a kill cut short, are done again
    (tmp_path / "metrics.jsonl").write_bytes((tmp_path / "metrics.jsonl").read_bytes()[: -len(b"}\n")])
    (tmp_path / "metrics.jsonl").write_bytes(b"".join((tmp_path / "metrics.jsonl").read_bytes().splitlines(True)[1:]))
    again = StageLog(tmp_path)
    assert changed_files(tmp_path, 1, first) == []
    again.rewind(1, first)
    assert again.digests(1) == first
    (tmp_path / "rollouts/step_000001.npz").unlink()
    (damage,) = changed_files(tmp_path, 1, first)
    told = "rollouts/step_000001.npz: missing; the token arrays of this step are lost"
    assert str(damage).startswith(f"stages/{tmp_path.name}/{told}") and damage.remedy
    (tmp_path / "rollouts/step_000001.jsonl").unlink()  # which is told as missing, not as changed
    assert changed_files(tmp_path, 1, first) == []
