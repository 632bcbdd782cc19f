"""A run directory, read once. Missing parts are ``None`` or empty; damaged parts are listed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from easyvideor1.evaluation.result import EvaluationTotals, rows_fault
from easyvideor1.files import read_json
from easyvideor1.records.damage import Damage
from easyvideor1.records.reading import canary_fault, read_jsonl, read_steps, rollout_files, stage_directories
from easyvideor1.types import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """The set of questions of an evaluation, and the step of the whole run that it belongs to.

    The two sets have different questions, so their accuracies cannot be compared.
    """

    split: Literal["test", "validation"]
    step: int


@dataclass(frozen=True, slots=True)
class StageHistory:
    """One stage: its directory name, its metrics by step, and its rollout files in order of steps.

    ``first`` is the number of steps of the stages before it, so ``first + step`` counts the whole run. ``canary`` are
    the warnings of ``canary.jsonl``, ``clocks`` the rows of ``timings.jsonl``. Unreadable rows are left out.
    """

    name: str
    first: int
    metrics: tuple[Mapping[str, Any], ...]
    rollouts: Mapping[int, Path]
    canary: tuple[Mapping[str, Any], ...] = ()
    clocks: tuple[Mapping[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        return int(self.metrics[-1]["step"]) if self.metrics else 0


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run directory in memory, without the records of its evaluations, which may be many.

    ``damage`` lists single files and evaluations that cannot be read; they are left out of the other fields. Damage of
    the stages is left out too; ``stage_damage`` lists it.
    """

    directory: Path
    run: Mapping[str, Any] | None
    config: str | None
    data_report: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    stages: tuple[StageHistory, ...]
    evaluations: Mapping[str, EvaluationTotals]
    damage: tuple[Damage, ...] = ()
    benchmarks: Mapping[str, Mapping[str, EvaluationTotals]] = field(default_factory=dict)
    """The evaluations of every benchmark, by its label."""

    @property
    def steps(self) -> int:
        return self.stages[-1].first + self.stages[-1].steps if self.stages else 0


def read_history(run_dir: Path) -> RunHistory:
    """Read a run directory, finished or not.

    Raises:
        DataError: there is no such directory.
    """
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such directory; give the output_dir of a run")
    damage: list[Damage] = []
    config = _config_text(run_dir / "config.yaml", damage)
    run, data_report, summary = (
        _optional(run_dir / f"{name}.json", damage) for name in ("run", "data_report", "summary")
    )
    stages = _read_stages(run_dir)
    evaluations = _read_totals(run_dir / "evaluations", damage)
    labels = sorted(path.name for path in (run_dir / "evaluations").glob("*") if path.is_dir())
    benchmarks = {label: _read_totals(run_dir / "evaluations" / label, damage, f"{label}/") for label in labels}
    return RunHistory(run_dir, run, config, data_report, summary, stages, evaluations, tuple(damage), benchmarks)


def compared_evaluations(history: RunHistory) -> tuple[str | None, str | None]:
    """Names of the two evaluations that the report compares; ``None`` for a missing one.

    These are the two of ``summary.json``; otherwise ``before`` and ``after``; otherwise those before and after the last
    stage with an evaluation of its name.
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
    """The frame cache of the run's configuration, if the directory exists."""
    try:
        config = yaml.safe_load(history.config) if history.config else None
    except (yaml.YAMLError, ValueError):  # damaged, or edited by hand
        return None
    section = config.get("cache") if isinstance(config, dict) else None
    named = section.get("dir") if isinstance(section, dict) else None
    return named_directory(history.directory, named)


def named_directory(run: Path, named: object) -> Path | None:
    """A directory that the configuration of a run names. A relative path is one from where the run was begun
    (``run.json``); where that is not known, or was moved, from here or from a directory above the run."""
    if not isinstance(named, str) or not named:
        return None
    try:
        begun = read_json(run / "run.json").get("directory")
    except DataError:
        begun = None
    places = [*([Path(begun)] if isinstance(begun, str) else []), Path(), *run.resolve().parents]
    return next((place / named for place in places if (place / named).is_dir()), None)


def _config_text(path: Path, damage: list[Damage]) -> str | None:
    """The text of ``config.yaml``; ``None`` if it is not there, or is no YAML."""
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        what = f"cannot be read ({' '.join(str(error).split())})"
        damage.append(Damage(path.name, what, "the settings of the run are not shown"))
        return None
    return text


def _optional(path: Path, damage: list[Damage]) -> dict[str, Any] | None:
    try:
        return read_json(path) if path.exists() else None
    except DataError as error:
        damage.append(Damage(path.name, _fault(error, path), "its content is not shown"))
        return None


def _fault(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").partition("; ")[0]


def _read_stages(run_dir: Path) -> tuple[StageHistory, ...]:
    stages: list[StageHistory] = []
    first = 0
    for stage in stage_directories(run_dir):
        metrics = tuple(read_steps(stage / "metrics.jsonl")[0].values())
        warnings = stage / "canary.jsonl"
        canary = read_jsonl(warnings, canary_fault).rows if warnings.exists() else ()
        clocks = tuple(read_steps(stage / "timings.jsonl")[0].values())
        stages.append(StageHistory(stage.name, first, metrics, rollout_files(stage), canary, clocks))
        first += stages[-1].steps
    return tuple(stages)


def _read_totals(directory: Path, damage: list[Damage], label: str = "") -> dict[str, EvaluationTotals]:
    """The totals of every evaluation in a directory; its rows are counted, not read."""
    found = {}
    for path in sorted(directory.glob("*.json")):
        where = f"evaluations/{label}{path.stem}"
        try:
            totals = EvaluationTotals.load(directory, path.stem)
        except DataError as error:
            damage.append(Damage(where, f"{path.name}: {_fault(error, path)}", "this evaluation is not shown"))
            continue
        found[path.stem] = totals
        if fault := rows_fault(directory, totals):
            means = "its accuracies are shown, but not its answers"
            damage.append(Damage(where, fault, means))
    return found


def place_of(name: str, history: RunHistory) -> Place | None:
    """The questions that an evaluation asked and the step that it belongs to, read from its name.

    Test questions: ``before`` is step 0, a stage directory (``02-grpo``) that stage's end, ``after`` the last step;
    ``02-grpo-000050`` is where the stage ended before it was extended.
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
        if match := re.fullmatch(re.escape(stage.name) + r"-(\d{6,})", name):
            return Place("test", stage.first + int(match[1]))
    for stage in history.stages:
        match = re.fullmatch(re.escape(re.sub(r"^\d+-", "", stage.name)) + r"-(\d{6,})", name)
        if match:
            return Place("validation", stage.first + int(match[1]))
    return None
