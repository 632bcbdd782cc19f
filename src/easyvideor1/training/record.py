"""What a stage leaves behind: metrics, clocks and every rollout."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from easyvideor1.files import write_atomic
from easyvideor1.training.clock import Clock
from easyvideor1.training.groups import score_metrics
from easyvideor1.types import Group, Prompt, Score, Trajectory


class StageRecord:
    """The files of one stage directory.

    ``metrics.jsonl`` holds nothing that differs between two runs of the same seed; clocks go to ``timings.jsonl``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics_file = directory / "metrics.jsonl"
        self.timings_file = directory / "timings.jsonl"
        self.rollouts = directory / "rollouts"

    def rewind(self, step: int) -> None:
        """Forget everything after ``step``: it will be done again, identically."""
        for file in (self.metrics_file, self.timings_file):
            if file.exists():
                kept = [line for line in file.read_bytes().splitlines(keepends=True) if _step_of(line, step) <= step]
                write_atomic(file, b"".join(kept))
        for file in self.rollouts.glob("step_[0-9]*.jsonl"):
            if int(file.stem.removeprefix("step_")) > step:
                file.unlink()

    def write(
        self,
        step: int,
        groups: Sequence[Group],
        used: Sequence[Group],
        advantages_N: torch.Tensor,
        metrics: dict[str, float],
        clock: Clock,
    ) -> dict[str, float]:
        """Write the step's rollouts, then its metrics; returns the metrics with those of the scores."""
        learnt = [trajectory for group in used for trajectory in group.trajectories]
        advantages = {id(t): value for t, value in zip(learnt, advantages_N.tolist(), strict=True)}
        lines = [json.dumps(_group_row(step, group, advantages)) for group in groups]
        write_atomic(self.rollouts / f"step_{step:06d}.jsonl", ("\n".join(lines) + "\n").encode())
        row = {"step": step, **score_metrics(groups, used), **metrics}
        _append(self.metrics_file, row)
        seconds = {name: round(value, 6) for name, value in clock.seconds.items()}
        tokens = sum(len(turn.response_ids) for g in groups for t in g.trajectories for turn in t.turns)
        _append(self.timings_file, {"step": step, **seconds, "total": round(clock.total(), 6), "new_tokens": tokens})
        return row


def read_metrics(stage_dir: Path) -> list[dict[str, float]]:
    """All rows of a stage's ``metrics.jsonl``."""
    file = stage_dir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def media_row(prompt: Prompt) -> list[dict[str, Any]]:
    """The media of a prompt as records of a run name them: enough to find the very frames in the store."""
    return [
        {
            "kind": plan.kind,
            "path": ref.path,
            "digest": plan.digest,
            "frame_indices": list(plan.frame_indices),
            "timestamps": list(plan.timestamps),
            "height": plan.height,
            "width": plan.width,
        }
        for ref, plan in zip(prompt.media, prompt.plans, strict=True)
    ]


def _group_row(step: int, group: Group, advantages: dict[int, float]) -> dict[str, Any]:
    sample, prompt = group.sample, group.trajectories[0].turns[0].prompt
    pairs = zip(group.trajectories, group.scores, strict=True)
    rows = [_trajectory_row(trajectory, score, advantages.get(id(trajectory))) for trajectory, score in pairs]
    return {
        "step": step,
        "sample": sample.id,
        "task": sample.task,
        "question": sample.question,
        "answer": sample.answer,
        "options": list(sample.options),
        "prompt": prompt.text,
        "prompt_tokens": len(prompt),
        "media": media_row(prompt),
        "used": any(row["advantage"] is not None for row in rows),
        "trajectories": rows,
    }


def _trajectory_row(trajectory: Trajectory, score: Score, advantage: float | None) -> dict[str, Any]:
    turn = trajectory.turns[-1]
    return {
        "origin": trajectory.origin,
        "response": trajectory.text,
        "tokens": len(turn.response_ids),
        "finish": turn.finish,
        "logprob": None if turn.logprobs is None else float(turn.logprobs.sum()),
        "advantage": advantage,
        "score": {
            "accuracy": score.accuracy,
            "format": score.format,
            "total": score.total,
            "parts": dict(score.parts),
            "parsed": score.parsed,
            "applicable": score.applicable,
            "reason": score.reason,
        },
    }


def _append(file: Path, row: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        opened.write((json.dumps(row, allow_nan=False) + "\n").encode())
        opened.flush()
        os.fsync(opened.fileno())


def _step_of(line: bytes, step: int) -> int:
    """The step of a metrics line; a line cut short by a kill counts as later than ``step``."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return step + 1
