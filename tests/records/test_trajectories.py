"""Records of trajectories come back as they were written, with and without their arrays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.evaluation.gallery import data_uri, strips
from easyvideor1.files import json_bytes, seal
from easyvideor1.records.trajectories import (
    SampleRecord,
    evaluation_row,
    record_from_json,
    rollout_row,
    sample_record,
    trajectory_record,
)
from easyvideor1.records.trajectory_files import read_trajectories, write_trajectories
from easyvideor1.types import DataError, Frames, Geometry, MediaPlan, MediaRef, Prompt, Sample, Score, Trajectory, Turn
from easyvideor1.video import window

PLAN = MediaPlan("video", "f", (0, 2), (0.0, 0.5), 64, 32, (1, 4, 2), 2, 4.0, 2.0, "digest")
SAMPLE = Sample("s", "<video>q", "math", "1", (MediaRef("video", "a.mp4"),), ("A. a",), "toy")


def prompt(length: int) -> Prompt:
    return Prompt(np.arange(length), SAMPLE.media, (PLAN,), (), "What?")


def turn(asked: Prompt, length: int, *, known: bool = True) -> Turn:
    ids = np.arange(length, dtype=np.int64) + 100
    logprobs = -np.arange(1, length + 1, dtype=np.float32) if known else None
    return Turn(asked, ids, ids % 2 == 0, logprobs, "stop", f"{length} tokens", ids % 3 if known else None)


def group() -> SampleRecord:
    """A two-turn trajectory that a step trained on, and one of which little is known."""
    first, score = prompt(5), Score(1.0, 0.5, 0.9, {"iou": 0.25}, "1", found="tag")
    two_turns = Trajectory((turn(first, 3), turn(prompt(9), 2)))
    advantages = [np.full(3, 0.5, np.float32), np.array([0.25, -0.25], np.float32)]
    return sample_record(
        SAMPLE,
        first,
        step=4,
        trajectories=(
            trajectory_record(two_turns, score, advantage=0.5, arrays=True, turn_advantages=advantages),
            trajectory_record(
                Trajectory((turn(first, 4, known=False),), "offline"), score, off_policy="sft", arrays=True
            ),
        ),
    )


def test_rollouts_come_back_with_their_arrays(tmp_path: Path) -> None:
    records = [group(), sample_record(SAMPLE, step=4), group()]
    path = tmp_path / "step_000004.jsonl"
    digests = write_trajectories(path, records)
    assert digests == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, path.with_suffix(".npz"))
    }
    assert list(read_trajectories(path)) == records
    assert not any(one.turns for record in read_trajectories(path) for one in record.trajectories)
    again = list(read_trajectories(path, arrays=True))
    assert again == records
    for record, other in zip(records, again, strict=True):
        for one, two in zip(record.trajectories, other.trajectories, strict=True):
            assert len(one.turns) == len(two.turns)
            for mine, theirs in zip(one.turns, two.turns, strict=True):
                for name in ("prompt_ids", "response_ids", "response_mask", "logprobs", "versions", "advantages"):
                    expected, found = getattr(mine, name), getattr(theirs, name)
                    assert (expected is None) == (found is None), name
                    if expected is not None:
                        np.testing.assert_array_equal(found, expected)
                        assert found.dtype == expected.dtype, name
    written = path.with_suffix(".npz").read_bytes()
    write_trajectories(path, records)
    assert path.with_suffix(".npz").read_bytes() == written, "the same records give the same bytes"


def test_arrays_are_optional(tmp_path: Path) -> None:
    path = tmp_path / "step_000004.jsonl"
    write_trajectories(path, [group()])
    path.with_suffix(".npz").unlink()
    assert list(read_trajectories(path, arrays=True)) == [group()]
    without = replace(group(), trajectories=tuple(replace(one, turns=()) for one in group().trajectories))
    assert set(write_trajectories(tmp_path / "plain.jsonl", [without])) == {"plain.jsonl"}


@pytest.mark.parametrize("fault", ["damaged", "other"])
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "step_000004.jsonl"
    write_trajectories(path, [group()])
    if fault == "damaged":
        path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:-40])
    else:
        row = json.loads(path.read_text())
        row["trajectories"][0]["tokens"] = 9
        path.write_bytes(json_bytes(row))
    with pytest.raises(DataError, match=r"step_000004\.npz: .*remove it, and the text"):
        list(read_trajectories(path, arrays=True))
    assert len(list(read_trajectories(path))) == 1


def test_a_damaged_line_is_named_and_a_torn_end_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = json_bytes(rollout_row(group()))
    path.write_bytes(whole + whole[:40])
    assert len(list(read_trajectories(path))) == 1
    path.write_bytes(whole + b'{"sample": "s"}\n' + whole)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not a record of trajectories"):
        list(read_trajectories(path))
    path.write_bytes(json_bytes(seal({"k": 2})) + whole)  # a ledger of data curation
    assert list(read_trajectories(path)) == [group()]


def test_lines_of_evaluations_and_of_earlier_versions_are_read(tmp_path: Path) -> None:
    record = replace(group(), step=None, greedy=group().trajectories[1])
    found = record_from_json(evaluation_row(record))
    assert found.greedy is not None and found.greedy.response == "4 tokens"
    assert [one.response for one in found.trajectories] == ["2 tokens", "4 tokens"]
    row = rollout_row(group())
    for key in ("source", "modality", "tokens"):
        del row[key]
    for trajectory in row["trajectories"]:
        del trajectory["score"]["found"]
    old = record_from_json(row)
    assert (
        old.modality == "video" and old.source == "" and old.used and old.trajectories[0].score.parts == {"iou": 0.25}
    )


def test_sums_of_log_probs_are_told_only_if_all_are_known() -> None:
    score, asked = Score(0, 0, 0), prompt(2)
    assert trajectory_record(Trajectory((turn(asked, 2), turn(asked, 1))), score).logprob == -4.0
    assert trajectory_record(Trajectory((turn(asked, 2), turn(asked, 1, known=False))), score).logprob is None
    added = replace(turn(asked, 2), logprobs=np.array([-1.0, np.nan], np.float32))
    assert trajectory_record(Trajectory((added,), "offline"), score).logprob is None


def test_what_a_part_shows_can_be_found(tmp_path: Path) -> None:
    """A record names the entry of the whole; those of whole plans have no further key."""
    whole = replace(PLAN, frame_indices=(0, 2, 4, 6), timestamps=(0.0, 0.5, 1.0, 1.5), grid=(2, 4, 2), tokens=4)
    asked = Prompt(np.arange(5), SAMPLE.media, (window(whole, 1, 2, Geometry()),), (), "What?")
    row = rollout_row(sample_record(SAMPLE, asked, step=4))
    assert row["media"][0]["part_of"] == "digest" and row["media"][0]["frame_indices"] == (4, 6)
    (media,) = record_from_json(json.loads(json_bytes(row))).media
    assert (media.part_of, media.timestamps) == ("digest", (1.0, 1.5))
    assert "part_of" not in rollout_row(group())["media"][0]
    pixels = np.arange(4, dtype=np.uint8).repeat(32 * 32 * 3).reshape(4, 32, 32, 3)
    (strip,) = strips([media], lambda digest: Frames(pixels, whole) if digest == "digest" else None)
    assert [each.uri for each in strip.thumbnails] == [data_uri(pixels[2]), data_uri(pixels[3])]


def test_rewards_of_turns_are_kept_where_there_are_some(tmp_path: Path) -> None:
    record = group()
    with_turns = replace(record.trajectories[0], score=replace(record.trajectories[0].score, turns=(0.25, 0.5)))
    rows = [rollout_row(replace(record, trajectories=(member,))) for member in (with_turns, record.trajectories[0])]
    assert [row["trajectories"][0]["score"].get("turns") for row in rows] == [[0.25, 0.5], None]
    found = [record_from_json(json.loads(json_bytes(row))).trajectories[0].score for row in rows]
    assert [score.turns for score in found] == [(0.25, 0.5), ()]


def test_all_responses_are_told_where_a_prompt_is_fresh_even_if_it_is_the_same_again() -> None:
    score, asked = Score(0, 0, 0), prompt(2)
    first = turn(asked, 2)
    again = trajectory_record(Trajectory((first, turn(asked, 1))), score)
    assert again.responses == ("2 tokens", "1 tokens")
    continued = trajectory_record(Trajectory((first, turn(asked.followed_by(first.response_ids), 1))), score)
    assert continued.responses == ()
