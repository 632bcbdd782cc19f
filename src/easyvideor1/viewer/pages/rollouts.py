"""Rollouts: choose a run, search its groups, look at one."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from easyvideor1.records.reading import rollout_files, stage_directories
from easyvideor1.records.trajectory_files import record_at, with_arrays
from easyvideor1.types import DataError
from easyvideor1.viewer.colouring import COLOURS, NOT_KEPT
from easyvideor1.viewer.group_view import group_view
from easyvideor1.viewer.rollout_filter import MARKS, ORDERS, Filter
from easyvideor1.viewer.rollout_index import RolloutIndex, Search
from easyvideor1.viewer.rollout_store import cache_directory, drop_stale
from easyvideor1.viewer.site import Site

TITLE, PATH = "Rollouts", "/rollouts"
#: Rows of a page without a script, and of a window of the list at most.
_PAGE, _MOST = 60, 240


class Indices:
    """The indices of the runs that were looked at."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._building: dict[Path, threading.Lock] = {}
        self._open: dict[Path, RolloutIndex] = {}
        if cache is not None:
            drop_stale(cache)

    def of(self, run: Path) -> RolloutIndex:
        """The index of a run, which now looks for what is new."""
        real = run.resolve()
        with self._lock:
            building = self._building.setdefault(real, threading.Lock())
        with building:  # others need not wait for this run
            found = self._open.get(real)
            if found is None:
                found = self._open[real] = RolloutIndex(real, self._cache)
        found.refresh()
        return found


def routes(site: Site) -> list[Route]:
    """The routes of this part."""
    pages = Rollouts(site)
    base = "/rollouts/{key}"
    return [
        site.route("/rollouts", pages.runs),
        site.route(base, pages.exported if site.exporting else pages.listing),
        site.route(f"{base}/rows", pages.rows),
        site.route(f"{base}/progress", pages.progress),
        site.route(base + "/{stage}/{step:int}/{line:int}", pages.group),
    ]


def exported(path: str, asked: Mapping[str, str]) -> bool:
    """Whether a page becomes a file: a list without filters, and groups in their plain form. Lists show only the steps
    that are written (``exported_steps``), so that no others are found."""
    return not path.endswith(("/rows", "/progress")) and set(asked) <= {"at"}


def exported_steps(run: Path, steps: Collection[int]) -> list[tuple[str, int]]:
    """Stages and steps whose rollouts become files: the first and the last of each stage, and those that are chosen."""
    found = [(stage.name, list(rollout_files(stage))) for stage in stage_directories(run)]
    return [(name, step) for name, there in found for step in there if step in (there[0], there[-1]) or step in steps]


class Rollouts:
    """The pages of this part."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.indices = Indices(cache_directory())

    def runs(self, request: Request) -> Response:
        """The runs to choose from."""
        return self.site.page(
            request, "rollout_runs.html.j2", runs=[(run, _kept(run.path)) for run in self.site.library.runs()]
        )

    def listing(self, request: Request) -> Response:
        """The groups, or responses, of a run that pass a filter."""
        run = self.site.library.entry(request.path_params["key"], "run")
        index = self.indices.of(run.path)
        wanted = Filter.of(request.query_params)
        start = _start(request)
        search = index.search(wanted)
        values = _window(index, wanted, search, start, _PAGE)
        return self.site.page(
            request,
            "rollouts.html.j2",
            run=run,
            wanted=wanted,
            search=search,
            progress=index.progress(),
            generation=index.generation(),
            choices=index.choices(),
            marks=MARKS,
            orders=ORDERS,
            size=_PAGE,
            **values,
        )

    def rows(self, request: Request) -> Response:
        """A window of that list, for the script."""
        run = self.site.library.entry(request.path_params["key"], "run")
        index = self.indices.of(run.path)
        wanted = Filter.of(request.query_params)
        search = index.search(wanted, request.query_params.get("search", ""))
        start = _start(request)
        count = min(_MOST, max(1, _whole(request, "count", _PAGE)))
        values = _window(index, wanted, search, start, count)
        made = self.site.page(request, "rollout_rows.html.j2", run=run, search=search, wanted=wanted, **values)
        head = {"search": search.key, "total": len(search.ids), "start": start}
        head["end"] = min(start + count, max(start, len(search.ids)))
        return JSONResponse({**head, "html": bytes(made.body).decode()})

    def progress(self, request: Request) -> Response:
        """How far the index is, for the script."""
        run = self.site.library.entry(request.path_params["key"], "run")
        index = self.indices.of(run.path)
        now = index.progress()
        return JSONResponse(
            {
                **{name: getattr(now, name) for name in ("read", "files", "groups", "rollouts", "done")},
                "generation": index.generation(),
            }
        )

    def group(self, request: Request) -> Response:
        """One group: its question, its frames, and all of its responses."""
        run = self.site.library.entry(request.path_params["key"], "run")
        stage, step, line = (request.path_params[name] for name in ("stage", "step", "line"))
        colour = request.query_params.get("colour", "")
        if colour not in ("", *COLOURS):
            raise DataError(f"the address has colour={colour[:60]!r}; known: {', '.join(COLOURS)}")
        file = _file(run.path, stage, step)
        record, fault = record_at(file, line), ""
        try:
            record = with_arrays(file, line, record)
        except DataError as error:
            fault = f"The arrays of tokens are left out: {error}."
        wanted = Filter.of(request.query_params)
        return self.site.page(
            request,
            "rollout_group.html.j2",
            run=run,
            stage=stage,
            step=step,
            line=line,
            view=group_view(run.path, record, colour, fault),
            films=self.site.frames.films(run.key, run.path, record.media),
            labels={"": "nothing", **COLOURS},
            not_kept=NOT_KEPT,
            filter_pairs=wanted.pairs(),
            back=_address(f"/rollouts/{quote(run.key)}", wanted.pairs()),
            **_beside(self.indices.of(run.path), run.key, wanted, request, (stage, step, line)),
        )

    def exported(self, request: Request) -> Response:
        """The groups of the steps that become files."""
        run = self.site.library.entry(request.path_params["key"], "run")
        index = self.indices.of(run.path)
        index.fill()  # once: a run that grows meanwhile is written as it was
        rows: list[dict[str, Any]] = []
        for stage, step in exported_steps(run.path, self.site.exported_steps):
            found = index.search(Filter.of(QueryParams(stage=stage, first=str(step), last=str(step))))
            rows += [{**row, "at": -1} for row in index.groups(found.ids)]
        wanted = Filter.of(QueryParams())
        search = index.search(wanted)
        values: dict[str, Any] = {"run": run, "wanted": wanted, "search": search, "rows": rows}
        values["progress"] = index.progress()
        return self.site.page(request, "rollouts_exported.html.j2", **values)


def _kept(run: Path) -> list[tuple[str, int]]:
    """The stages of a run with their numbers of steps that have rollouts."""
    return [(stage.name, len(rollout_files(stage))) for stage in stage_directories(run)]


def _file(run: Path, stage: str, step: int) -> Path:
    """The rollout file of a step; a name that is no stage of the run leads nowhere.

    Raises:
        DataError: there is none.
    """
    for directory in stage_directories(run):
        if directory.name == stage and (found := rollout_files(directory).get(step)) is not None:
            return found
    raise DataError(
        f"{run}: no rollouts of step {step} of a stage {stage[:120]!r}; they were removed, or never written"
    )


def _window(index: RolloutIndex, wanted: Filter, search: Search, start: int, count: int) -> dict[str, Any]:
    """Some rows of a search from ``start`` on, each with its place."""
    ids = search.ids[start : start + count]
    found = index.members(ids) if wanted.by == "response" else index.groups(ids)
    place = {one: start + number for number, one in enumerate(ids)}
    return {"start": start, "rows": [{**row, "at": place[row["id"]]} for row in found]}


def _beside(
    index: RolloutIndex, key: str, wanted: Filter, request: Request, group: tuple[str, int, int]
) -> dict[str, Any]:
    """The addresses of the groups before and after one in the list that it was opened from. ``at`` of the address is
    where it stood then: the list may have grown."""
    at = _whole(request, "at", -1)
    found: dict[str, Any] = {"before": "", "after": "", "at": -1, "total": 0}
    if at < 0:
        return found
    search = index.search(wanted)
    at = found["at"] = index.place_of(search, group, at)
    if at < 0:
        return found
    found["total"] = len(search.ids)
    colour = request.query_params.get("colour", "")
    for name, place in (("before", at - 1), ("after", at + 1)):
        if 0 <= place < len(search.ids):
            ids = search.ids[place : place + 1]
            rows = [row["group"] for row in index.members(ids)] if wanted.by == "response" else index.groups(ids)
            for row in rows:
                base = f"/rollouts/{quote(key)}/{quote(row['stage'])}/{row['step']}/{row['line']}"
                extra = [("at", str(place)), *([("colour", colour)] if colour else [])]
                found[name] = _address(base, [*wanted.pairs(), *extra])
    return found


def _address(path: str, pairs: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _start(request: Request) -> int:
    return max(0, _whole(request, "start", 0))


def _whole(request: Request, name: str, usual: int) -> int:
    given = request.query_params.get(name, "")
    try:
        return int(given[:15]) if given else usual
    except ValueError as error:
        raise DataError(f"the address has {name}={given[:60]!r}; write a whole number") from error
