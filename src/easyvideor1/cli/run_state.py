"""The state of a run, read from its directory; nothing is changed, and no file of weights is opened."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from easyvideor1.cli.stage_line import SHOWN

if TYPE_CHECKING:
    from easyvideor1.evaluation.history import RunHistory, StageHistory

#: ``elsewhere``: another machine has begun it, and from here it cannot be seen whether it still works. A container that
#: was started anew is another machine, too.
State = Literal["running", "elsewhere", "finished", "interrupted", "damaged"]


@dataclass(frozen=True, slots=True)
class RunState:
    """What ``evr1 status`` says of a run; ``None`` is what is not known.

    ``begun``, ``idle`` and ``written`` are the seconds since the process that has the run began, since the last step
    (of any start), and since a file of the run was last written. ``left`` are the seconds that the steps of the stage
    that is under way will take, by the mean of those done. ``disk`` are bytes by kind. Of what ``incidents`` tell only
    ``damage`` is damage.
    """

    directory: str
    state: State
    name: str = ""
    faults: tuple[str, ...] = ()
    pid: int | None = None
    host: str = ""
    begun: float | None = None
    idle: float | None = None
    written: float | None = None
    stage: str = ""
    stage_number: int | None = None
    stages: int | None = None
    step: int = 0
    steps: int | None = None
    left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    alarms: tuple[Mapping[str, Any], ...] = ()
    incidents: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    rows: int = 0
    bad_rows: int = 0
    bad_media: tuple[str, ...] = ()
    disk: Mapping[str, int] = field(default_factory=dict)
    starts: int = 0
    seconds: float = 0.0
    working_directory: str = ""
    resume: str = ""


def read_state(directory: Path) -> RunState:
    """The state of a run.

    Raises:
        DataError: there is no such directory.
    """
    from easyvideor1.evaluation.history import read_history
    from easyvideor1.locks import is_locked
    from easyvideor1.records.damage import damage_texts
    from easyvideor1.training.run_directory.status import FINISHED, lock_owner, other_host, read_status
    from easyvideor1.types import DataError

    history = read_history(directory)
    busy = is_locked(directory / ".lock")
    preparing = busy and not (directory / "run.json").exists()  # it is written when all rows and frames are there
    faults = [str(damage) for damage in history.damage if damage.where != "run.json"]  # told by ``read_status``
    facts: Mapping[str, Any] = {}
    try:
        facts = read_status(directory) or {}
    except DataError as error:
        faults.append(str(error))
    if not facts and not faults and not preparing:
        faults.append(f"{directory / 'run.json'} is missing: how far the run is, and its command, are unknown")
    if history.config is None and not (directory / "config.yaml").exists() and not preparing:
        faults.append(f"{directory / 'config.yaml'} is missing: the run cannot resume")
    owner = lock_owner(directory)
    host = str(owner.get("host", ""))
    finished = facts.get("stage") == FINISHED
    state: State = "finished" if finished else "interrupted"
    if busy:
        state = "running"
    elif faults:
        state = "damaged"
    elif other_host(directory) and not finished:
        state = "elsewhere"
    seen = busy or state == "elsewhere"
    disk, written = _disk(directory)
    return RunState(
        directory=str(directory),
        state=state,
        name=str(facts.get("name", directory.name)),
        faults=tuple(dict.fromkeys(faults)),
        pid=int(owner["pid"]) if seen and "pid" in owner else None,
        host=host if seen else "",
        begun=_age(directory / ".lock") if seen else None,
        written=written,
        **_progress(history, facts, directory),
        evaluation=_last_evaluation(history),
        alarms=tuple(
            {"stage": stage.name, "step": row["step"], "message": row.get("message", "")}
            for stage in history.stages
            for row in stage.canary
        ),
        incidents=tuple(str(incident["text"]) for incident in facts.get("incidents", ())),
        damage=tuple(damage_texts(facts)),
        rows=_rows(history, "rows"),
        bad_rows=_rows(history, "refused"),
        bad_media=_bad_media(history, facts),
        disk=disk,
        starts=int(facts.get("starts", 0)),
        seconds=float(facts.get("seconds", 0.0)),
        working_directory=str(facts.get("directory", "")),
        resume="" if finished or busy else resume_command(facts.get("command", ())),
    )


def _progress(history: RunHistory, facts: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Stage, step, times and metrics of the last stage that was begun."""
    steps: Mapping[str, int] = facts.get("steps", {})
    found: dict[str, Any] = {"stages": len(steps) or None}
    if not history.stages:
        return found
    stage = history.stages[-1]
    name = re.sub(r"^\d+-", "", stage.name)
    whole = steps.get(name)
    found |= {"stage": name, "stage_number": len(history.stages), "step": stage.steps, "steps": whole}
    if stage.metrics:
        last = stage.metrics[-1]
        found["metrics"] = {key: float(last[key]) for key in SHOWN if isinstance(last.get(key), int | float)}
        found["idle"] = _age(directory / "stages" / stage.name / "metrics.jsonl")
    if whole is not None and (mean := _mean_step(stage)) is not None:
        found["left"] = mean * max(whole - stage.steps, 0)
    return found


def _mean_step(stage: StageHistory) -> float | None:
    """Mean seconds of the steps of a stage, evaluations included."""
    totals = [float(clock["total"]) for clock in stage.clocks if isinstance(clock.get("total"), int | float)]
    return sum(totals) / len(totals) if totals else None


def _age(file: Path) -> float | None:
    """Seconds since a file was written."""
    try:
        return max(time.time() - file.stat().st_mtime, 0.0)
    except OSError:
        return None


def _last_evaluation(history: RunHistory) -> Mapping[str, Any] | None:
    """The evaluation of the run's own questions that was written last."""
    written = {
        name: age
        for name in history.evaluations
        if (age := _age(history.directory / "evaluations" / f"{name}.json")) is not None
    }
    if not written:
        return None
    name = min(written, key=lambda one: written[one])
    totals = history.evaluations[name]
    greedy = None if totals.greedy is None else totals.greedy.to_json()
    return {"name": name, "questions": totals.count, "greedy": greedy}


def _rows(history: RunHistory, count: str) -> int:
    """A count of ``data_report.json`` over all sources of all splits."""
    report = history.data_report or {}
    sources = [one for part in report.values() if isinstance(part, list) for one in part if isinstance(one, dict)]
    return sum(int(one.get(count, 0)) for one in sources)


def _bad_media(history: RunHistory, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """``PATH: reason`` of files that could not be used since the run began, by the ledger of its cache."""
    from datetime import datetime

    from easyvideor1.evaluation.history import cache_dir
    from easyvideor1.types import EasyVideoError
    from easyvideor1.video.health import HealthLedger, bad_files

    where = cache_dir(history)
    if where is None:
        return ()
    try:
        begun = datetime.strptime(str(facts.get("started")), "%Y-%m-%dT%H:%M:%S%z")
        entries = [
            entry
            for entry in HealthLedger(where / "health.jsonl").entries()
            if entry.time and datetime.fromisoformat(entry.time) >= begun
        ]
    except (EasyVideoError, ValueError):  # a ledger that is gone or torn says nothing of the run
        return ()
    return tuple(f"{file.path}: {file.last.reason}" for file in bad_files(entries))


def _disk(directory: Path) -> tuple[dict[str, int], float | None]:
    """Bytes of the run's files: all, and those of checkpoints and rollouts; and the age of the newest file."""
    newest = None
    sizes = {"total": 0, "checkpoints": 0, "rollouts": 0}
    for file in directory.rglob("*"):
        try:
            if not file.is_file():
                continue
            found = file.stat()
        except OSError:  # written or removed at this moment
            continue
        newest = max(newest or 0.0, found.st_mtime)
        sizes["total"] += found.st_size
        for kind in ("checkpoints", "rollouts"):
            if kind in file.relative_to(directory).parts:
                sizes[kind] += found.st_size
    return sizes, None if newest is None else max(time.time() - newest, 0.0)


def resume_command(command: object) -> str:
    """The command of the last start of a run, as it is typed again; empty if it is not known."""
    if not isinstance(command, list) or not command:
        return ""
    program, *words = map(str, command)
    started = "python -m easyvideor1.cli" if program.endswith("__main__.py") else Path(program).name
    return " ".join([started, *map(shlex.quote, words)])
