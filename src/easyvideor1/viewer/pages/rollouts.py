"""Rollouts: choose a run, search its groups, look at one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from easyvideor1.records.reading import rollout_files, stage_directories
from easyvideor1.records.trajectory_files import record_at, with_arrays
from easyvideor1.types import DataError
from easyvideor1.viewer.colouring import COLOURS, NOT_KEPT
from easyvideor1.viewer.group_view import group_view
from easyvideor1.viewer.rollout_filter import MARKS, ORDERS, Filter
from easyvideor1.viewer.rollout_index import RolloutIndex, Search, cache_directory
from easyvideor1.viewer.site import Site

TITLE, PATH = "Rollouts", "/rollouts"
#: Rows of a page without a script, and of a window of the list at most.
_PAGE, _MOST = 60, 240


class Indices:
    """The indices of the runs that were looked at."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._open: dict[Path, RolloutIndex] = {}

    def of(self, run: Path) -> RolloutIndex:
        """The index of a run, which now looks for what is new."""
        real = run.resolve()
        with self._lock:
            found = self._open.get(real)
            if found is None:
                found = self._open[real] = RolloutIndex(real, self._cache)
        found.refresh()
        return found


def routes(site: Site) -> list[Route]:
    """The routes of this part."""
    indices = Indices(cache_directory())

    def runs(request: Request) -> Response:
        return site.page(request, "rollout_runs.html.j2", runs=[(run, _kept(run.path)) for run in site.library.runs()])

    def listing(request: Request) -> Response:
        run = site.library.entry(request.path_params["key"], "run")
        index = indices.of(run.path)
        wanted = Filter.of(request.query_params)
        start = _start(request)
        search = index.search(wanted)
        values = _window(index, wanted, search, start, _PAGE)
        return site.page(
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

    def rows(request: Request) -> Response:
        run = site.library.entry(request.path_params["key"], "run")
        index = indices.of(run.path)
        wanted = Filter.of(request.query_params)
        search = index.search(wanted, request.query_params.get("search", ""))
        start = _start(request)
        count = min(_MOST, max(1, _whole(request, "count", _PAGE)))
        values = _window(index, wanted, search, start, count)
        made = site.page(request, "rollout_rows.html.j2", run=run, search=search, wanted=wanted, **values)
        head = {"search": search.key, "total": len(search.ids), "start": start}
        return JSONResponse({**head, "html": bytes(made.body).decode()})

    def progress(request: Request) -> Response:
        run = site.library.entry(request.path_params["key"], "run")
        index = indices.of(run.path)
        now = index.progress()
        return JSONResponse(
            {
                **{name: getattr(now, name) for name in ("read", "files", "groups", "rollouts", "done")},
                "generation": index.generation(),
            }
        )

    def group(request: Request) -> Response:
        run = site.library.entry(request.path_params["key"], "run")
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
        return site.page(
            request,
            "rollout_group.html.j2",
            run=run,
            stage=stage,
            step=step,
            line=line,
            view=group_view(run.path, record, colour, fault),
            films=site.frames.films(run.key, run.path, record.media),
            labels={"": "nothing", **COLOURS},
            not_kept=NOT_KEPT,
            filter_pairs=wanted.pairs(),
            back=_address(f"/rollouts/{quote(run.key)}", wanted.pairs()),
            **_beside(indices.of(run.path), run.key, wanted, request),
        )

    base = "/rollouts/{key}"
    return [
        site.route("/rollouts", runs),
        site.route(base, listing),
        site.route(f"{base}/rows", rows),
        site.route(f"{base}/progress", progress),
        site.route(base + "/{stage}/{step:int}/{line:int}", group),
    ]


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


def _beside(index: RolloutIndex, key: str, wanted: Filter, request: Request) -> dict[str, Any]:
    """The addresses of the groups before and after one in the list that it was opened from."""
    at = _whole(request, "at", -1)
    found: dict[str, Any] = {"before": "", "after": "", "at": at, "total": 0}
    if at < 0:
        return found
    search = index.search(wanted)
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
