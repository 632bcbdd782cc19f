"""Rows of SEED-Bench-R1's recipe: what comes next, on three levels of distance from the training clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from easyvideor1.files import write_text
from easyvideor1.rollout.trace import follows_from_trace
from easyvideor1.types import Sample

#: ``data_source`` of the test rows of each level: the world they are made of, and whether the task is the trained one.
LEVELS = {
    "level-1-known": ("known", True),
    "level-2-new-environment": ("new", True),
    "level-3-new-environment-and-task": ("new", False),
}

_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def consistent(sample: Sample, response: str) -> float | None:
    """Whether the reasoning of a response comes to its answer, right or wrong; for ``rewards.parts`` with weight 0."""
    follows = follows_from_trace(sample, response)
    return None if follows is None else float(follows)


def write_planning_rows(root: Path) -> None:
    """Write ``known/planning.jsonl`` for training, and ``WORLD/LEVEL.jsonl`` for each level, beside their clips."""
    _write(root / "known", "train", "planning", trained_task=True)
    for level, (world, trained_task) in LEVELS.items():
        _write(root / world, "test", level, trained_task=trained_task)


def _write(world: Path, split: str, name: str, *, trained_task: bool) -> None:
    lines = (world / "scenes.jsonl").read_text(encoding="utf-8").splitlines()
    scenes = {scene["clip"]: scene for scene in map(json.loads, lines)}
    rows = map(json.loads, (world / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
    made = [planning_row(row, scenes[row["clip"]], name, trained_task=trained_task) for row in rows]
    write_text(world / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in made))


def planning_row(row: dict[str, Any], scene: dict[str, Any], level: str, *, trained_task: bool) -> dict[str, Any]:
    """A row about the direction of a shape as one about its next step.

    The trained task is to go on, the other one to go back to where the shape began.
    """
    body = scene["bodies"][0]
    name, motion = f"{body['colour']} {body['shape']}", body["motion"]
    options = {option[0]: option[3:] for option in row["options"]}
    if trained_task:
        step = motion
        question = f"Which way does the {name} move if it goes on? The image shows it now."
    else:
        step = _OPPOSITE[motion]
        question = f"Which way does the {name} move if it comes back? The image shows it now."
    letter = next(letter for letter, text in options.items() if text == step)
    thought = f"The {name} goes {motion} over the frames, so the answer is {letter}."
    traced = row["has_offline_trajectory"]
    return {
        **row,
        "problem": f"<video>\n{question}",
        "answer": letter,
        "data_source": level,
        "problem_id": f"{level}-{row['problem_id']}",
        "offline_output": f"<think>{thought}</think><answer>{letter}</answer>" if traced else "",
    }
