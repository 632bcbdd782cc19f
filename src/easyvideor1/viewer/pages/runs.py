"""Runs: their list, the curves of one, several over each other, and where their time goes and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from easyvideor1.evaluation.history import RunHistory
from easyvideor1.locks import is_locked
from easyvideor1.records.damage import Damage
from easyvideor1.records.reading import parse_row, rollout_files, stage_directories
from easyvideor1.training.run_directory.trace import read_trace
from easyvideor1.types import DataError
from easyvideor1.viewer.histories import run_version
from easyvideor1.viewer.jobs import Job
from easyvideor1.viewer.library import Entry
from easyvideor1.viewer.run_curves import curves_of, curves_together, draw
from easyvideor1.viewer.run_differences import differing_settings
from easyvideor1.viewer.run_health import alarms, bad_media, lost, mismatch_panels, refused_rows, resource_panels
from easyvideor1.viewer.run_rows import RunRow, full_damage, run_row
from easyvideor1.viewer.run_time import stage_time, timeline_chart
from easyvideor1.viewer.site import Site

TITLE, PATH = "Runs", "/runs"

#: Runs whose curves are drawn over each other: those that have colours of their own.
_TOGETHER = 8
#: Entries of long lists that a page shows.
_SHOWN = 200


def routes(site: Site) -> list[Route]:
    """The routes of this part."""
    pages = Runs(site)
    return [
        site.route("/runs", pages.index),
        site.route("/runs/version", pages.version),
        site.route("/runs/compare", pages.compare),
        site.route("/runs/{key}", pages.curves),
        site.route("/runs/{key}/time", pages.time),
        site.route("/runs/{key}/health", pages.health),
        site.route("/runs/{key}/health/version", pages.health_version),
        site.route("/runs/{key}/settings", pages.settings),
        site.route("/runs/{key}/rollout", pages.rollout),
    ]


class Runs:
    """The pages of this part."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def _entry(self, request: Request) -> Entry:
        return self.site.library.entry(request.path_params["key"], "run")

    def _page(self, request: Request, template: str, about: Sequence[Entry], **values: Any) -> Response:
        """A page that refreshes itself when one of its runs has grown."""
        given = {"version": _version(about), "watched": _watched(about), **values}
        return self.site.page(request, template, **given)

    def _of_run(self, request: Request, part: str, **values: Any) -> Response:
        entry = self._entry(request)
        values = {"part": part, "entry": entry, "row": self._row(entry), **values}
        return self._page(request, f"run_{part}.html.j2", [entry], **values)

    def _row(self, entry: Entry) -> RunRow:
        return self.site.histories.made(entry, "row", lambda history: run_row(entry.key, history))

    def version(self, request: Request) -> Response:
        """The version of some runs, or of all, for scripts that look whether anything has changed."""
        keys = request.query_params.getlist("run")
        entries = [self.site.library.entry(key, "run") for key in keys] or self.site.library.runs()
        return JSONResponse({"version": _version(entries)})

    def index(self, request: Request) -> Response:
        """All runs."""
        entries = self.site.library.runs()
        rows, broken = [], []
        for entry in entries:
            try:
                rows.append(
                    self.site.histories.made(entry, "row", lambda history, key=entry.key: run_row(key, history))
                )
            except (DataError, OSError) as error:
                broken.append((entry, str(error)))
        names = {entry.key: entry.name for entry in entries}
        values = {"rows": rows, "broken": broken, "names": names, "together": _TOGETHER}
        return self.site.page(request, "runs.html.j2", version=_version(entries), watched="/runs/version", **values)

    def compare(self, request: Request) -> Response:
        """Several runs: curves over each other, and what their settings differ in."""
        keys = list(dict.fromkeys(request.query_params.getlist("run")))
        if len(keys) < 2:
            raise DataError("choose two runs or more: mark them in the list of runs, then press Compare")
        if len(keys) > _TOGETHER:
            raise DataError(f"{len(keys)} runs cannot be told apart in one chart; choose at most {_TOGETHER}")
        entries = [self.site.library.entry(key, "run") for key in keys]
        histories = [self.site.histories.read(entry) for entry in entries]
        rows = [self._row(entry) for entry in entries]
        named = [(entry.name, history) for entry, history in zip(entries, histories, strict=True)]
        return self._page(
            request,
            "runs_compare.html.j2",
            entries,
            entries=entries,
            rows=rows,
            curves=curves_together(named),
            settings=differing_settings(histories),
        )

    def curves(self, request: Request) -> Response:
        """The curves of a run."""
        found = self.site.histories.made(self._entry(request), "curves", curves_of)
        return self._of_run(request, "curves", curves=found)

    def time(self, request: Request) -> Response:
        """Where the time of a run goes: seconds by phase, and the timeline of a step."""
        entry = self._entry(request)
        history = self.site.histories.read(entry)
        stages = [found for stage in history.stages if (found := stage_time(stage)) is not None]
        traced = {
            stage.name: trace
            for stage in history.stages
            if (trace := read_trace(entry.path / "stages" / stage.name / "trace.json"))
        }
        chosen = _chosen_step(request, traced)
        timeline = None
        if chosen is not None:
            timeline = timeline_chart(traced[chosen[0]][chosen[1]])
        steps = {name: sorted(trace) for name, trace in traced.items()}
        return self._of_run(request, "time", stages=stages, traced=steps, chosen=chosen, timeline=timeline)

    def health(self, request: Request) -> Response:
        """What is wrong with a run, or may be."""
        entry = self._entry(request)
        history = self.site.histories.read(entry)
        job = self._damage(entry)
        if job is not None:
            job.wait(None if self.site.exporting else 0.5)
        incidents = (history.run or {}).get("incidents")
        return self._of_run(
            request,
            "health",
            version=_health_version(entry, job),
            watched=f"/runs/{entry.key}/health/version",
            damage=job,
            incidents=incidents if isinstance(incidents, list) else [],
            lost=lost(history),
            alarms=alarms(history)[:_SHOWN],
            refused=refused_rows(history),
            media=bad_media(history),
            mismatch=[draw(panel) for panel in mismatch_panels(history)],
            resources=[draw(panel, small=True) for panel in resource_panels(history)],
            shown=_SHOWN,
        )

    def health_version(self, request: Request) -> Response:
        """The version of the page about health, which waits for the rollouts to be read."""
        entry = self._entry(request)
        return JSONResponse({"version": _health_version(entry, self._damage(entry))})

    def _damage(self, entry: Entry) -> Job[tuple[Damage, ...]] | None:
        """All damage of a run, found in a thread: it reads every rollout. ``None`` while the run is being written."""
        history = self.site.histories.read(entry)
        if is_locked(entry.path / ".lock"):
            return None
        return self.site.jobs.get(f"damage {entry.key}", run_version(entry.path), lambda advance: full_damage(history))

    def settings(self, request: Request) -> Response:
        """How a run was made: its configuration, versions, command and data."""
        history = self.site.histories.read(self._entry(request))
        facts = {key: value for key, value in (history.run or {}).items() if key != "incidents"}
        return self._of_run(request, "settings", history=history, facts=facts, sources=_sources(history))

    def rollout(self, request: Request) -> Response:
        """Leads to the group of a sample in a step: warnings name samples, and groups have lines."""
        entry = self._entry(request)
        stage, step, sample = (request.query_params.get(name, "") for name in ("stage", "step", "sample"))
        found = {path.name: path for path in stage_directories(entry.path)}
        file = rollout_files(found[stage]).get(int(step)) if stage in found and _is_step(step) else None
        if file is None:
            raise DataError(f"{entry.name}: no rollouts of step {step[:20]!r} of a stage {stage[:80]!r} are there")
        for line, row in enumerate(line for line in file.read_bytes().split(b"\n") if line.strip()):
            value = parse_row(row)
            if not isinstance(value, str) and str(value.get("sample")) == sample:
                return RedirectResponse(f"/rollouts/{quote(entry.key)}/{quote(stage)}/{int(step)}/{line}", 302)
        raise DataError(f"{file}: no group of {sample[:120]!r} that can be read")


def _version(entries: Sequence[Entry]) -> str:
    return " ".join(run_version(entry.path) for entry in entries)


def _health_version(entry: Entry, job: Job[Any] | None) -> str:
    return f"{run_version(entry.path)} {job.state if job else ''}"


def _watched(entries: Sequence[Entry]) -> str:
    """The address that says whether a page about these runs is out of date."""
    return "/runs/version?" + "&".join(f"run={entry.key}" for entry in entries)


def _is_step(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _chosen_step(request: Request, traced: dict[str, dict[int, Any]]) -> tuple[str, int] | None:
    """The stage and step whose timeline is shown: those of the address, or the last that is whole."""
    if not traced:
        return None
    name = request.query_params.get("stage", "")
    stage = name if name in traced else list(traced)[-1]
    steps = sorted(traced[stage])
    wanted = request.query_params.get("step", "")
    if _is_step(wanted) and int(wanted) in steps:
        return stage, int(wanted)
    return stage, steps[-1]


def _sources(history: RunHistory) -> list[tuple[str, Any]]:
    report = history.data_report or {}
    return [(split, source) for split, sources in report.items() if isinstance(sources, list) for source in sources]
