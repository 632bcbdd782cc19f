"""Everything a run directory says, read once; what is not there yet is ``None`` or empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from easyvideor1.evaluation.files import read_json, read_jsonl
from easyvideor1.evaluation.result import EvaluationTotals
from easyvideor1.types import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """Where an evaluation belongs: the set of questions, and the step of the whole run.

    The sets differ in their questions, so that accuracies of one say nothing about those of the other.
    """

    split: Literal["test", "validation"]
    step: int


@dataclass(frozen=True, slots=True)
class StageHistory:
    """One stage: its directory name, its metrics by step, and its rollout files in order of steps.

    ``first`` is the number of steps of the stages before it, so that ``first + step`` counts the whole run. ``canary``
    are the warnings of ``canary.jsonl``.
    """

    name: str
    first: int
    metrics: tuple[Mapping[str, Any], ...]
    rollouts: tuple[Path, ...]
    canary: tuple[Mapping[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        return int(self.metrics[-1]["step"]) if self.metrics else 0


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run directory in memory, less the records of its evaluations, which may be many."""

    directory: Path
    run: Mapping[str, Any] | None
    config: str | None
    data_report: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    stages: tuple[StageHistory, ...]
    evaluations: Mapping[str, EvaluationTotals]

    @property
    def steps(self) -> int:
        return self.stages[-1].first + self.stages[-1].steps if self.stages else 0


def read_history(run_dir: Path) -> RunHistory:
    """Read a run directory, finished or not.

    Raises:
        DataError: there is no such directory, or a file in it is damaged; the message names it.
    """
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such run directory; give the output_dir of a run")
    config = run_dir / "config.yaml"
    # A page about a run whose configuration is damaged shows it so.
    return RunHistory(
        directory=run_dir,
        run=_optional(run_dir / "run.json"),
        config=config.read_text(encoding="utf-8", errors="replace") if config.exists() else None,
        data_report=_optional(run_dir / "data_report.json"),
        summary=_optional(run_dir / "summary.json"),
        stages=_read_stages(run_dir / "stages"),
        evaluations={
            path.stem: EvaluationTotals.load(path.parent, path.stem)
            for path in sorted(run_dir.glob("evaluations/*.json"))
        },
    )


def compared_evaluations(history: RunHistory) -> tuple[str | None, str | None]:
    """Names of the evaluations before and after what the run is judged by; ``None`` for one that is not there.

    They are the two that ``summary.json`` compares; else ``before`` and ``after``; else, with evaluations named after
    stage directories, those before and after the last stage that has one.
    """
    there = history.evaluations
    named = (history.summary or {}).get("evaluations")
    if not (isinstance(named, Mapping) and set(named) == {"before", "after"}):
        line = [name for name in ("before", *(stage.name for stage in history.stages)) if name in there]
        if "after" in there:
            line = [*line[:1], "after"] if "before" in there else ["after"]
        after = line[-1] if line and line[-1] != "before" else None
        earlier = line[:-1] if after else line
        named = {"before": earlier[-1] if earlier else None, "after": after}
    before, after = named["before"], named["after"]
    return (before if before in there else None), (after if after in there else None)


def cache_dir(history: RunHistory) -> Path | None:
    """The frame cache that the run's configuration names, if it does and the directory is there."""
    try:
        config = yaml.safe_load(history.config) if history.config else None
    except (yaml.YAMLError, ValueError):  # damaged, or edited by hand
        return None
    section = config.get("cache") if isinstance(config, dict) else None
    named = section.get("dir") if isinstance(section, dict) else None
    return Path(named) if isinstance(named, str) and Path(named).is_dir() else None


def _optional(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def _read_stages(directory: Path) -> tuple[StageHistory, ...]:
    stages: list[StageHistory] = []
    first = 0
    for stage in sorted(path for path in directory.glob("*") if path.is_dir()):
        path = stage / "metrics.jsonl"
        by_step: dict[int, Mapping[str, Any]] = {}
        for number, row in enumerate(read_jsonl(path) if path.exists() else [], 1):
            if not isinstance(row.get("step"), int):
                raise DataError(f"{path}:{number}: field 'step' is missing or no whole number")
            by_step[row["step"]] = row  # a step done again after a resume counts once
        metrics = tuple(by_step[step] for step in sorted(by_step))
        rollouts = tuple(sorted(stage.glob("rollouts/step_*.jsonl")))
        warnings = stage / "canary.jsonl"
        canary = tuple(read_jsonl(warnings)) if warnings.exists() else ()
        stages.append(StageHistory(stage.name, first, metrics, rollouts, canary))
        first += stages[-1].steps
    return tuple(stages)


def place_of(name: str, history: RunHistory) -> Place | None:
    """The questions that an evaluation asked and the step that it belongs to, read from its name.

    Test questions: ``before`` is step 0, a stage directory (``02-grpo``) that stage's end, ``after`` the last step.
    Validation questions: ``grpo-000050`` is step 50 of the stage that the configuration calls ``grpo``. Other names
    have no place on the axis.
    """
    if name == "before":
        return Place("test", 0)
    if name == "after":
        return Place("test", history.steps)
    for stage in history.stages:
        if name == stage.name:
            return Place("test", stage.first + stage.steps)
    for stage in history.stages:
        match = re.fullmatch(re.escape(re.sub(r"^\d+-", "", stage.name)) + r"-(\d{6,})", name)
        if match:
            return Place("validation", stage.first + int(match[1]))
    return None
