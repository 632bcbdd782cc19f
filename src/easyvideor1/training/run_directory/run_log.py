"""The log of a stage: metrics, timings and every rollout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easyvideor1.files import append, json_bytes, write_atomic
from easyvideor1.records.damage import ASIDE, Damage
from easyvideor1.records.reading import (
    array_files,
    lines_until,
    numbered_step,
    parse_row,
    read_steps,
    rollout_files,
    step_fault,
)
from easyvideor1.records.trajectories import SampleRecord, sample_record, trajectory_record
from easyvideor1.records.trajectory_files import write_trajectories
from easyvideor1.rollout.collector import REPLACED_TOKENS
from easyvideor1.rollout.groups import breakdown_metrics, score_metrics, split_offline
from easyvideor1.training.timings import Timings
from easyvideor1.training.train_batch import TrainBatch
from easyvideor1.types import EasyVideoError, Group


@dataclass(frozen=True, slots=True)
class Rewound:
    """The steps whose records were removed, to be done again, and what of the rest could not be read."""

    redone: tuple[int, ...]
    damage: tuple[Damage, ...]


class StageLog:
    """The files of one stage directory.

    ``metrics.jsonl`` holds nothing that differs between two runs of the same seed; seconds go to ``timings.jsonl``.
    Every checkpoint keeps the ``digests`` of what was written until then, so that a digit that was changed later is
    told (``records.damage.changed_files``).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metrics_file = directory / "metrics.jsonl"
        self.timings_file = directory / "timings.jsonl"
        self.canary_file = directory / "canary.jsonl"
        self.trace_file = directory / "trace.json"
        self.rollouts = directory / "rollouts"
        self._digests: dict[str, str] = {}

    def digests(self, step: int) -> dict[str, str]:
        """SHA-256 of every file up to ``step``, by its name in the stage directory; without timings."""
        kept = {name: digest for name, digest in self._digests.items() if numbered_step(name) <= step}
        for file in (self.metrics_file, self.canary_file):
            if file.exists():
                kept[file.name] = hashlib.sha256(lines_until(file, step)).hexdigest()
        return kept

    def rewind(self, step: int, digests: Mapping[str, str]) -> Rewound:
        """Remove everything after ``step``: those steps are repeated, with the same result.

        Lines that cannot be read, and are not the beginning of one that will be written again, are moved to a file
        beside (``metrics.jsonl.damaged``): every line that stays can be read.

        Args:
            step: the last one that is not repeated.
            digests: those in its checkpoint, which go into the next one.
        """
        self._digests = {name: digest for name, digest in digests.items() if numbered_step(name)}
        redone: set[int] = set()
        damage: list[Damage] = []
        for file in (self.metrics_file, self.timings_file, self.canary_file):
            if not file.exists():
                continue
            sparse = file == self.canary_file
            kept, later, bad = _sorted_lines(file.read_bytes(), step, sparse=sparse)
            redone |= later
            if bad:
                damage.append(_moved_aside(file, bad))
            write_atomic(file, b"".join(kept))
        for number, path in (*rollout_files(self.directory).items(), *array_files(self.directory).items()):
            if number > step:
                path.unlink()
                redone.add(number)
        return Rewound(tuple(sorted(redone)), tuple(damage))

    def metrics(self) -> list[dict[str, float]]:
        """The metrics of the steps that are done, in order; without those that cannot be read."""
        return list(read_steps(self.metrics_file)[0].values())

    def write_canary(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write what the canary said of a step."""
        for row in rows:
            append(self.canary_file, json_bytes(row))

    def write_rollouts(self, step: int, groups: Sequence[Group], batch: TrainBatch, off_policy: str = "none") -> None:
        """Write a step's rollouts; before its update, so that they are there to look at when that fails.

        ``batch`` says which of them the step trains on, and with which advantages. ``off_policy`` is how the stage
        trains on offline members of its groups; it stands beside each of them.
        """
        of_turns = iter(batch.token_advantages())
        advantages = {
            id(trajectory): (value, [next(of_turns) for _ in trajectory.turns])
            for trajectory, value in zip(batch.rows.trajectories, batch.trajectory_advantages.tolist(), strict=True)
        }
        file = self.rollouts / f"step_{step:06d}.jsonl"
        digests = write_trajectories(file, [_group_record(step, group, advantages, off_policy) for group in groups])
        place = self.rollouts.relative_to(self.directory)
        self._digests |= {(place / name).as_posix(): digest for name, digest in digests.items()}

    def write_metrics(
        self,
        step: int,
        groups: Sequence[Group],
        used: Sequence[Group],
        metrics: dict[str, float],
        timings: Timings,
        figures: Mapping[str, float] = MappingProxyType({}),
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Write a finished step's metrics and timings; returns both rows, the metrics with those of the scores.

        ``new_tokens`` beside the seconds are the tokens that the engine wrote for this step's groups: none of offline
        trajectories, but those of responses that gave way to them. ``tokens_per_second`` is their number over the
        seconds of the whole step. ``figures`` stand behind them.
        """
        row = {"step": step, **score_metrics(groups, used), **breakdown_metrics(split_offline(groups)[0]), **metrics}
        _check_finite(step, row)
        append(self.metrics_file, json_bytes(row))
        seconds = {name: round(value, 6) for name, value in timings.seconds.items()}
        written = [each for group in groups for each in group.trajectories if each.origin == "online"]
        tokens = sum(each.response_tokens for each in written) + int(metrics.get(REPLACED_TOKENS, 0))
        total = timings.total()
        clock: dict[str, float] = {"step": step, **seconds, "total": round(total, 6), "new_tokens": tokens}
        clock["tokens_per_second"] = round(tokens / max(total, 1e-9), 3)
        clock |= {name: round(value, 6) for name, value in figures.items()}
        append(self.timings_file, json_bytes(clock))
        return row, clock


def _group_record(
    step: int, group: Group, advantages: Mapping[int, tuple[float, list[NDArray[np.float32]]]], off_policy: str
) -> SampleRecord:
    found = []
    for trajectory, score in zip(group.trajectories, group.scores, strict=True):
        advantage, of_turns = advantages.get(id(trajectory), (None, None))
        found.append(
            trajectory_record(
                trajectory,
                score,
                advantage=advantage,
                off_policy=off_policy,
                arrays=True,
                turn_advantages=of_turns,
            )
        )
    prompt = group.trajectories[0].prompt if group.trajectories else None
    return sample_record(group.sample, prompt, trajectories=tuple(found), step=step, error=group.fault or None)


def _check_finite(step: int, row: Mapping[str, float]) -> None:
    wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise EasyVideoError(
            f"step {step}: {', '.join(wrong)}. The last checkpoint is intact; lower optimizer.lr, or correct the "
            "objective or reward that reports this metric"
        )


def _sorted_lines(content: bytes, step: int, *, sparse: bool) -> tuple[list[bytes], set[int], list[bytes]]:
    """The lines up to ``step``, the steps of those after it, and the lines that are none.

    A last line without newline that cannot be read is the beginning of a step that was never saved, and goes, unless a
    step lacks its line. Of a step that has several lines the last counts. In a ``sparse`` file a step may have none or
    several.
    """
    kept: dict[int, bytes] = {}
    bad: list[bytes] = []
    steps: set[int] = set()
    lines = content.split(b"\n")
    for number, line in enumerate(lines):
        row = parse_row(line) if line.strip() else None
        if row is None:
            continue
        if isinstance(row, str) or step_fault(row):
            bad.append(line)
            continue
        whole = number + 1 < len(lines)  # without its newline it may lack more: then any other of its step counts
        if row["step"] <= step and (whole or sparse or row["step"] not in steps):
            kept[number if sparse else row["step"]] = line + b"\n"
        steps.add(row["step"])
    torn = not content.endswith(b"\n") and bool(bad) and content.endswith(bad[-1])
    if torn and (sparse or steps.issuperset(range(1, step + 1))):
        bad.pop()
    return list(kept.values()), {number for number in steps if number > step}, bad


def _moved_aside(file: Path, lines: Sequence[bytes]) -> Damage:
    """Add lines to the file of those that cannot be read; once, also when a kill comes in between."""
    aside = file.with_name(f"{file.name}{ASIDE}")
    there = aside.read_bytes() if aside.exists() else b""
    known = set(there.split(b"\n"))
    write_atomic(aside, there + b"".join(line + b"\n" for line in lines if line not in known))
    what = f"{len(lines)} {'line' if len(lines) == 1 else 'lines'} cannot be read"
    return Damage(f"stages/{file.parent.name}/{file.name}", what, f"moved to {aside.name}")
