"""One line for each run: its state, how far it is, and its last figures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from easyvideor1.evaluation.curves import Series, metric_series
from easyvideor1.evaluation.history import RunHistory, compared_evaluations
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.locks import is_locked
from easyvideor1.records.damage import Damage, stage_damage
from easyvideor1.training.run_directory.status import FINISHED, other_host

State = Literal["running", "elsewhere", "finished", "interrupted", "damaged"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the list of runs.

    ``steps`` of ``planned`` (0 if nobody knows) are done, in ``seconds`` of work. ``reward`` is the mean of the last
    ten steps, ``before`` and ``after`` are held-out accuracies, ``last`` when the newest line was written (seconds
    since the epoch). ``damage`` is what is damaged as far as it can be told without reading rollouts.
    """

    id: str
    name: str
    directory: Path
    state: State
    stage: str
    steps: int
    planned: int
    seconds: float | None
    seed: int | None
    last: float | None
    reward: float | None
    tokens_per_second: float | None
    curve: Series | None
    before: Interval | None
    after: Interval | None
    damage: tuple[Damage, ...]

    @property
    def share(self) -> float:
        """The part of the planned steps that is done."""
        return min(1.0, self.steps / self.planned) if self.planned else 0.0


def run_row(name: str, history: RunHistory) -> RunRow:
    """The line of a run that the viewer knows by ``name``."""
    run = history.run or {}
    damage = quick_damage(history)
    before, after = compared_evaluations(history)
    reward = next(iter(metric_series(history, {"reward/total": "reward"})), None)
    speed = [row.get("tokens_per_second") for stage in history.stages for row in stage.clocks]
    steps = run.get("steps")
    counts = [count for count in steps.values() if isinstance(count, int)] if isinstance(steps, Mapping) else []
    return RunRow(
        id=name,
        name=str(run.get("name") or history.directory.resolve().name),
        directory=history.directory,
        state=run_state(history, damage),
        stage=str(run.get("stage") or ""),
        steps=history.steps,
        planned=sum(counts),
        seconds=_number(run.get("seconds")),
        seed=run["seed"] if isinstance(run.get("seed"), int) else None,
        last=last_written(history),
        reward=None if reward is None else sum(reward.y[-10:]) / len(reward.y[-10:]),
        tokens_per_second=_number(speed[-1]) if speed else None,
        curve=reward,
        before=history.evaluations[before].greedy if before else None,
        after=history.evaluations[after].greedy if after else None,
        damage=damage,
    )


def run_state(history: RunHistory, damage: tuple[Damage, ...]) -> State:
    """Whether a process writes the run, another machine has begun it, it is through, was interrupted, or is damaged.

    Files that are being written may look incomplete, so that a run under way is never called damaged.
    """
    if is_locked(history.directory / ".lock"):
        return "running"
    if other_host(history.directory):
        return "elsewhere"
    if damage:
        return "damaged"
    return "finished" if (history.run or {}).get("stage") == FINISHED else "interrupted"


def quick_damage(history: RunHistory) -> tuple[Damage, ...]:
    """Damage of a run that shows without reading its rollouts."""
    stages = [history.directory / "stages" / stage.name for stage in history.stages]
    return (*history.damage, *(one for stage in stages for one in stage_damage(stage, contents=False)))


def full_damage(history: RunHistory) -> tuple[Damage, ...]:
    """All damage of a run; reads every rollout."""
    stages = [history.directory / "stages" / stage.name for stage in history.stages]
    return (*history.damage, *(one for stage in stages for one in stage_damage(stage)))


def last_written(history: RunHistory) -> float | None:
    """When the newest metrics, evaluation or status was written; ``None`` for an empty run."""
    patterns = ("run.json", "stages/*/metrics.jsonl", "evaluations/*.json")
    found = [path.stat().st_mtime for pattern in patterns for path in history.directory.glob(pattern)]
    return max(found, default=None)


def _number(value: Any) -> float | None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if whole else None


def ago(moment: float | None) -> str:
    """How long ago a moment was (seconds since the epoch), in the largest unit that fits; a dash for none."""
    if moment is None:
        return "\N{EN DASH}"
    seconds = max(0.0, time.time() - moment)
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
