"""``report.html``: one self-contained page about a run, finished or not.

The page contains its style, charts and pictures. It loads nothing from outside (enforced by a content security policy)
and runs no script. The template engine escapes everything that comes from data or from a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from easyvideor1.evaluation.charts import interval_chart, line_chart
from easyvideor1.evaluation.curves import (
    Panel,
    benchmark_panels,
    boundaries,
    main_panels,
    other_panels,
    speed_panels,
    task_panels,
)
from easyvideor1.evaluation.gallery import Changes, FrameLookup, StepRollouts, changes, first_and_last_rollouts
from easyvideor1.evaluation.history import RunHistory, cache_dir, compared_evaluations, read_history
from easyvideor1.evaluation.result import Aggregate, Evaluation, evaluation_fault, greedy_difference
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.evaluation.templating import render
from easyvideor1.files import is_sealed, read_json, write_atomic
from easyvideor1.records.damage import Damage, stage_damage
from easyvideor1.types import DataError, Frames
from easyvideor1.video import FrameStore, HealthEntry, HealthLedger


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn panel."""

    panel: Panel
    svg: Markup


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One line of the table of task types."""

    name: str
    before: Aggregate | None
    after: Aggregate | None
    chart: Markup


@dataclass(frozen=True, slots=True)
class Headline:
    """The two evaluations that are compared, and the paired gain of greedy accuracy."""

    before: Evaluation | None
    after: Evaluation | None
    gain: Interval | None


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """A number of a benchmark before and after training, as it is shown; ``count`` questions."""

    benchmark: str
    number: str
    count: int
    before: Interval | None
    after: Interval | None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the template uses."""

    name: str
    history: RunHistory
    health: tuple[Mapping[str, Any], ...]
    headline: Headline
    charts: tuple[Chart, ...]
    benchmark_charts: tuple[Chart, ...]
    task_charts: tuple[Chart, ...]
    other_charts: tuple[Chart, ...]
    speed_charts: tuple[Chart, ...]
    tasks: tuple[TaskRow, ...]
    rollouts: tuple[StepRollouts, ...]
    changes: Changes | None
    sources: tuple[tuple[str, Mapping[str, Any]], ...]
    damage: tuple[Damage, ...]
    incidents: tuple[Mapping[str, Any], ...]
    benchmarks: tuple[BenchmarkRow, ...] = ()
    best: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def write_report(run_dir: Path, frames: FrameLookup | None = None, *, own_code: bool = False) -> Path:
    """Write ``run_dir/report.html``. The health ledger that it shows is the one of the run's frame cache.

    Args:
        run_dir: A run directory; the page names its missing and damaged parts.
        frames: Finds decoded frames by digest, like the ``get`` of a frame store, or returns ``None``; by default the
            frame cache of the run's configuration.
        own_code: Import effects that the run names as ``module:attr``; only for a run that is trusted.

    Returns:
        The path of the page.

    Raises:
        DataError: no such run directory.
    """
    history = read_history(run_dir)
    cache = cache_dir(history)
    if frames is None:
        frames = FrameStore(cache).get if cache else _no_frames
    health = tuple(HealthLedger(cache / "health.jsonl").entries()) if cache else ()
    page = make_page(history, frames, health, own_code=own_code)
    path = run_dir / "report.html"
    # JSON of a user may contain half a surrogate pair, which UTF-8 cannot encode.
    write_atomic(path, render_page(page).encode("utf-8", errors="replace"))
    return path


def _no_frames(digest: str) -> Frames | None:
    return None


def make_page(
    history: RunHistory, frames: FrameLookup, health: tuple[HealthEntry, ...] = (), *, own_code: bool = False
) -> Page:
    """Collect the content of the page."""
    directories = [history.directory / "stages" / stage.name for stage in history.stages]
    damage = [*history.damage, *(one for directory in directories for one in stage_damage(directory))]
    before, after = (_load(history, name, damage) for name in compared_evaluations(history))
    stages = boundaries(history)

    def draw(panels: list[Panel], width: int, height: int) -> tuple[Chart, ...]:
        return tuple(Chart(panel, line_chart(panel, stages, width=width, height=height)) for panel in panels)

    return Page(
        name=_name(history),
        history=history,
        health=tuple(asdict(entry) for entry in health),
        headline=Headline(before, after, greedy_difference(before, after) if before and after else None),
        charts=draw(main_panels(history), 520, 230),
        benchmark_charts=draw(benchmark_panels(history), 260, 130),
        task_charts=draw(task_panels(history), 260, 130),
        other_charts=draw(other_panels(history), 260, 130),
        speed_charts=draw(speed_panels(history), 260, 130),
        tasks=_task_rows(before, after),
        rollouts=tuple(first_and_last_rollouts(history, frames, own_code=own_code)),
        changes=changes(before, after, frames, own_code=own_code) if before and after else None,
        sources=_sources(history.data_report or {}),
        best=_best(history, damage),  # before ``damage``, to which it may add
        damage=tuple(damage),
        incidents=_incidents(history.run or {}),
        benchmarks=_benchmark_rows(history),
    )


def _load(history: RunHistory, name: str | None, damage: list[Damage]) -> Evaluation | None:
    """An evaluation to compare; ``None``, with an entry in ``damage``, if its answers cannot be read."""
    if name is None:
        return None
    try:
        return Evaluation.load(history.directory / "evaluations", name)
    except DataError:
        what = evaluation_fault(history.directory / "evaluations", name)
        damage[:] = [one for one in damage if one.where != f"evaluations/{name}"]
        means = "it is not compared; run the same `evr1 train` command again to repeat it"
        damage.append(Damage(f"evaluations/{name}", what, means))
        return None


def _incidents(run: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """What starts of the run found damaged or repeated, from ``run.json``."""
    kept = run.get("incidents")
    rows = kept if isinstance(kept, list) else []
    return tuple(row for row in rows if isinstance(row, Mapping))


def _benchmark_rows(history: RunHistory) -> tuple[BenchmarkRow, ...]:
    """The numbers of every benchmark before the first stage, and after the last that has any."""
    rows = []
    for label, evaluations in history.benchmarks.items():
        before = evaluations.get("before")
        after = next((found for stage in reversed(history.stages) if (found := evaluations.get(stage.name))), None)
        latest = after or before
        for number in latest.numbers if latest else ():
            shown = [None if one is None else one.numbers.get(number) for one in (before, after)]
            rows.append(BenchmarkRow(label, number, latest.count if latest else 0, *shown))
    return tuple(rows)


def _best(history: RunHistory, damage: list[Damage]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The mark of the best checkpoint of every stage that has one."""
    found = []
    for stage in history.stages:
        file = history.directory / "stages" / stage.name / "best.json"
        if not file.exists():
            continue
        where = f"stages/{stage.name}/best.json"
        try:
            mark = read_json(file)
        except DataError:
            mark = {}
        if is_sealed(mark):
            found.append((stage.name, mark))
        else:
            damage.append(Damage(where, "is not what was written", "the best checkpoint is not shown"))
    return tuple(found)


def render_page(page: Page) -> str:
    """The HTML of a page."""
    return render("report.html.j2", page=page)


def _name(history: RunHistory) -> str:
    named = (history.run or {}).get("name")
    return str(named) if named else history.directory.resolve().name


def _task_rows(before: Evaluation | None, after: Evaluation | None) -> tuple[TaskRow, ...]:
    names = dict.fromkeys([*(before.tasks if before else ()), *(after.tasks if after else ())])
    pairs = [
        (name, before.tasks.get(name) if before else None, after.tasks.get(name) if after else None)
        for name in sorted(names)
    ]
    if len(pairs) > 1:
        pairs.append(("all", before.overall if before else None, after.overall if after else None))
    return tuple(
        TaskRow(name, old, new, interval_chart(old.greedy if old else None, new.greedy if new else None))
        for name, old, new in pairs
    )


def _sources(report: Mapping[str, Any]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """``(split, counts of one source)`` of a data report; empty for another form, which is shown as it is."""
    rows = [(split, source) for split, sources in report.items() if isinstance(sources, list) for source in sources]
    wanted = {"path", "rows", "used", "refused", "tasks", "bad"}
    whole = all(isinstance(source, Mapping) and wanted <= set(source) for _, source in rows)
    return tuple(rows) if whole else ()
