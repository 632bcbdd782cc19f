"""What a stage leaves behind: metrics, clocks and every rollout."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from easyvideor1.files import append, file_digest, json_bytes, write_atomic
from easyvideor1.rollout.records import media_records, prompt_tokens_by_kind, response_tokens, score_to_json
from easyvideor1.training.breakdown import breakdown_metrics
from easyvideor1.training.clock import Clock
from easyvideor1.training.groups import apart, score_metrics
from easyvideor1.training.responses import REPLACED_TOKENS
from easyvideor1.types import DataError, EasyVideoError, Group, Score, Trajectory

_ROLLOUTS = re.compile(r"step_(\d+)\.jsonl$")


class StageRecord:
    """The files of one stage directory.

    ``metrics.jsonl`` holds nothing that differs between two runs of the same seed; clocks go to ``timings.jsonl``.
    Every checkpoint keeps the ``digests`` of what was written until then, and ``check`` holds the files to them, so
    that a damaged record is told before anything follows it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics_file = directory / "metrics.jsonl"
        self.timings_file = directory / "timings.jsonl"
        self.canary_file = directory / "canary.jsonl"
        self.rollouts = directory / "rollouts"
        self._digests: dict[str, str] = {}

    def digests(self, step: int) -> dict[str, str]:
        """SHA-256 of what there is up to ``step``, by file in the stage directory; clocks are left out."""
        kept = {name: digest for name, digest in self._digests.items() if _rollouts_step(name) <= step}
        for file in (self.metrics_file, self.canary_file):
            if file.exists():
                kept[file.name] = hashlib.sha256(_until(file, step)).hexdigest()
        return kept

    def check(self, step: int, digests: Mapping[str, str]) -> None:
        """Make sure that the files up to ``step`` are those of ``digests``. Rollouts that are not there are no fault:
        nothing needs them, and they may have been removed to make room.

        Raises:
            DataError: a file is another; the message says what can be done.
        """
        for name, digest in digests.items():
            file = self.directory / name
            if file.parent == self.rollouts:
                same = not file.exists() or file_digest(file) == digest
            else:
                same = file.exists() and hashlib.sha256(_until(file, step)).hexdigest() == digest
            if not same:
                raise DataError(
                    f"{file} is not what was written until step {step}: the disk has damaged it, or it was edited. "
                    f"Restore it from a copy; or remove {self.directory} and start again, to do this stage once more"
                )
        self._digests = {name: digest for name, digest in digests.items() if _rollouts_step(name)}

    def rewind(self, step: int) -> None:
        """Forget everything after ``step``: it will be done again, identically."""
        for file in (self.metrics_file, self.timings_file, self.canary_file):
            if file.exists():
                write_atomic(file, _until(file, step))
        for file in self.rollouts.glob("step_[0-9]*.jsonl"):
            if _rollouts_step(file.name) > step:
                file.unlink()

    def metrics(self) -> list[dict[str, float]]:
        """The metrics of the steps that are done, in order."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_bytes().splitlines()]

    def write_canary(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write what the canary said of a step."""
        for row in rows:
            append(self.canary_file, json_bytes(row))

    def write_rollouts(
        self,
        step: int,
        groups: Sequence[Group],
        used: Sequence[Group],
        advantages_N: torch.Tensor,
        off_policy: str = "none",
    ) -> None:
        """Write a step's rollouts; before its update, so that they are there to look at when that fails.

        ``off_policy`` is how the stage learns from offline members of its groups; it stands beside each of them.
        """
        learnt = [trajectory for group in used for trajectory in group.trajectories]
        advantages = {id(t): value for t, value in zip(learnt, advantages_N.tolist(), strict=True)}
        content = b"".join(json_bytes(_group_row(step, group, advantages, off_policy)) for group in groups)
        file = self.rollouts / f"step_{step:06d}.jsonl"
        write_atomic(file, content)
        self._digests[file.relative_to(self.directory).as_posix()] = hashlib.sha256(content).hexdigest()

    def write_metrics(
        self, step: int, groups: Sequence[Group], used: Sequence[Group], metrics: dict[str, float], clock: Clock
    ) -> dict[str, float]:
        """Write a finished step's metrics and clocks; returns the metrics with those of the scores.

        ``new_tokens`` beside the clocks are the tokens that the engine wrote for this step's groups: none of offline
        trajectories, but those of responses that gave way to them.
        """
        row = {"step": step, **score_metrics(groups, used), **breakdown_metrics(apart(groups)[0]), **metrics}
        _check_finite(step, row)
        append(self.metrics_file, json_bytes(row))
        seconds = {name: round(value, 6) for name, value in clock.seconds.items()}
        written = [each for group in groups for each in group.trajectories if each.origin == "online"]
        tokens = sum(map(response_tokens, written)) + int(metrics.get(REPLACED_TOKENS, 0))
        clocks = {"step": step, **seconds, "total": round(clock.total(), 6), "new_tokens": tokens}
        append(self.timings_file, json_bytes(clocks))
        return row


def _group_row(step: int, group: Group, advantages: dict[int, float], off_policy: str) -> dict[str, Any]:
    sample = group.sample
    prompt = group.trajectories[0].turns[0].prompt if group.trajectories else None
    pairs = zip(group.trajectories, group.scores, strict=True)
    rows = [
        _trajectory_row(trajectory, score, advantages.get(id(trajectory)), off_policy) for trajectory, score in pairs
    ]
    return {
        "step": step,
        "sample": sample.id,
        "task": sample.task,
        "source": sample.source,
        "modality": sample.modality,
        "question": sample.question,
        "answer": sample.answer,
        "options": list(sample.options),
        "prompt": prompt.text if prompt else "",
        "prompt_tokens": len(prompt) if prompt else 0,
        "tokens": dict(prompt_tokens_by_kind(prompt)) if prompt else {},
        "media": [asdict(media) for media in media_records(prompt)] if prompt else [],
        "used": any(row["advantage"] is not None for row in rows),
        "trajectories": rows,
    }


def _trajectory_row(trajectory: Trajectory, score: Score, advantage: float | None, off_policy: str) -> dict[str, Any]:
    known = [float(turn.logprobs.sum()) for turn in trajectory.turns if turn.logprobs is not None]
    known = [value for value in known if not math.isnan(value)]  # a stop token that was added has none
    return {
        "origin": trajectory.origin,
        **({"off_policy": off_policy} if trajectory.origin == "offline" else {}),
        "response": trajectory.text,
        "tokens": response_tokens(trajectory),
        "finish": trajectory.turns[-1].finish,
        "logprob": sum(known) if len(known) == len(trajectory.turns) else None,
        "advantage": advantage,
        "score": score_to_json(score),
    }


def _check_finite(step: int, row: Mapping[str, float]) -> None:
    wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise EasyVideoError(
            f"step {step}: {', '.join(wrong)}. The last checkpoint is intact; lower optimizer.lr, or correct the "
            "objective or reward that reports this metric"
        )


def _until(file: Path, step: int) -> bytes:
    """The lines of a file up to a step."""
    lines = file.read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if _step_of(line, step) <= step)


def _rollouts_step(name: str) -> int:
    """The step of a file of rollouts, by its name; 0 for other files."""
    found = _ROLLOUTS.search(name)
    return int(found[1]) if found else 0


def _step_of(line: bytes, step: int) -> int:
    """The step of a metrics line; a line cut short by a kill counts as later than ``step``."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else step + 1
    except (ValueError, KeyError, TypeError):
        return step + 1
