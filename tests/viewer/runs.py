"""Small run directories for the viewer, written as training writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from easyvideor1.records.trajectories import MediaRecord, SampleRecord, TrajectoryRecord, TurnArrays
from easyvideor1.records.trajectory_files import write_trajectories
from easyvideor1.types import Frames, Score

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202eevil\u202c{{ 7*7 }}\"'&<b>"


def scored(accuracy: float, parsed: str = "A", **values: object) -> Score:
    return replace(Score(accuracy, 1.0, 0.9 * accuracy + 0.1, parsed=parsed, found="tag"), **values)


def said(text: str, accuracy: float = 1.0, parsed: str = "A", **values: object) -> TrajectoryRecord:
    given = {
        "tokens": len(text.split()),
        "finish": "stop",
        "score": scored(accuracy, parsed),
        "advantage": accuracy - 0.5,
    }
    return TrajectoryRecord(response=text, **{**given, **values})


def group(
    number: int,
    responses: Sequence[TrajectoryRecord] = (),
    *,
    step: int = 1,
    task: str = "multiple_choice",
    **values: object,
) -> SampleRecord:
    found = responses or [
        said("<think>It moves right.</think><answer>A</answer>", 1.0),
        said("<answer>C</answer>", 0.0, "C"),
    ]
    record = SampleRecord(
        sample=f"sample-{number}",
        task=task,
        question=f"<video>Which way does square {number} move?",
        answer="A",
        options=("A. right", "B. left", "C. up"),
        prompt="the whole prompt",
        prompt_tokens=60,
        source="toy.jsonl",
        modality="video",
        tokens={"text": 20, "video": 40},
        trajectories=tuple(found),
        step=step,
    )
    return replace(record, **values)


def write_step(run: Path, step: int, records: Sequence[SampleRecord], stage: str = "01-grpo") -> Path:
    file = run / "stages" / stage / "rollouts" / f"step_{step:06d}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_trajectories(file, [replace(record, step=step) for record in records])
    return file


def write_run(run: Path, steps: int = 2, groups: int = 3, config: str = "") -> Path:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config or "name: toy\n", encoding="utf-8")
    (run / "run.json").write_text(json.dumps({"name": "toy"}), encoding="utf-8")
    for step in range(1, steps + 1):
        write_step(run, step, [group(number, step=step) for number in range(groups)])
    return run


def with_arrays(
    record: TrajectoryRecord, ids: Sequence[int], logprobs: Sequence[float], **values: object
) -> TrajectoryRecord:
    """A trajectory of one turn with these tokens."""
    turn = TurnArrays(
        np.arange(5, dtype=np.int64),
        np.asarray(ids, np.int64),
        np.ones(len(ids), bool),
        np.asarray(logprobs, np.float32),
        np.full(len(ids), 3, np.int64),
        np.full(len(ids), 0.5, np.float32),
    )
    return replace(record, tokens=len(ids), turns=(turn,))


def stored(frames: Frames, path: str = "clip.mp4") -> MediaRecord:
    """The record of frames as a prompt with their plan has it."""
    plan = frames.plan
    return MediaRecord("video", path, plan.digest, plan.frame_indices, plan.timestamps, plan.height, plan.width)
