"""Data: the rows of a configuration before anything is trained, with their media plans, duplicates and constants."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from easyvideor1.config import RunConfig, SourceConfig, load_config
from easyvideor1.types import DataError, EasyVideoError, MediaPlan
from easyvideor1.viewer.data_check import READING, SPLITS, DataCheck, Row
from easyvideor1.viewer.data_facts import duplicates, lengths, plan_strip, same_media, task_facts
from easyvideor1.viewer.jobs import Job
from easyvideor1.viewer.library import fingerprint
from easyvideor1.viewer.site import Site

TITLE, PATH = "Data", "/data"

_ROWS = {".json", ".jsonl", ".parquet"}
_OF_RUN = "run-"
_PER_PAGE = 50
#: Seconds that the page of a row waits for the rows to be read.
_READING = 10.0
#: Entries of long lists that a page shows, and rows of a group of duplicates.
_SHOWN, _FEW = 100, 12


def routes(site: Site) -> list[Route]:
    """The routes of this part."""
    pages = Data(site)
    return [
        site.route("/data", pages.index),
        site.route("/data/{key}", pages.overview),
        site.route("/data/{key}/version", pages.version),
        site.route("/data/{key}/rows", pages.rows),
        site.route("/data/{key}/row/{place}", pages.row),
    ]


class Data:
    """The pages of this part. A key is that of a file given on the command line, or ``run-`` and the key of a run."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.files = file_keys(site.data)
        self._lock = threading.Lock()
        self._checks: dict[str, tuple[DataCheck, Job[DataCheck]]] = {}

    def _check(self, key: str) -> tuple[str, DataCheck, Job[DataCheck]]:
        """The title, what is known so far, and the work that goes on."""
        if key in self.files:
            path, trusted = self.files[key], True
            title = path.name
        elif key.startswith(_OF_RUN):
            entry = self.site.library.entry(key.removeprefix(_OF_RUN), "run")
            path, trusted, title = entry.path / "config.yaml", False, entry.name
        else:
            raise DataError(f"no data {key[:120]!r}; the list of data names what is there")
        version = fingerprint([path])
        with self._lock:  # two requests at once begin one piece of work
            known = self._checks.get(key)
            if known is None or known[1].version != version:
                check = DataCheck(_config(path), trusted)
                known = self._checks[key] = (check, Job(check.work, version))
        return title, *known

    def _look(self, request: Request) -> tuple[DataCheck, dict[str, Any]]:
        """What is known of the data of a page, and what every template needs of it.

        The progress is noted first: facts that are read before the work ends must not stand beside the word that it has
        ended, since the page would then never be renewed.
        """
        key = request.path_params["key"]
        title, check, job = self._check(key)
        job.wait(None if self.site.exporting else 0.7)
        now = job.progress()
        return check, {
            "key": key,
            "title": title,
            "check": check,
            "job": now,
            "version": now.state,
            "watched": f"/data/{key}/version",
        }

    def index(self, request: Request) -> Response:
        """What rows can be looked at."""
        runs = [] if self.site.exporting else self.site.library.runs()
        return self.site.page(request, "data.html.j2", files=self.files, runs=runs)

    def version(self, request: Request) -> Response:
        """Changes as rows are read, planned and scored."""
        return JSONResponse({"version": self._check(request.path_params["key"])[2].state})

    def overview(self, request: Request) -> Response:
        """Sources, lengths, constants, duplicates and rows that cannot be used."""
        check, given = self._look(request)
        rows = list(check.rows)  # another thread adds to them
        repeated = duplicates(check)
        media = same_media(check)
        measured = sum(row.length is not None or bool(row.fault) for row in rows)
        return self.site.page(
            request,
            "data_overview.html.j2",
            **given,
            lengths=lengths(rows, check.limit),
            measured=measured,
            count=len(rows),
            tasks=task_facts(check),
            duplicates=repeated[:_SHOWN] if measured == len(rows) else None,
            media=media[:_SHOWN],
            repeated=len(repeated),
            names=len(media),
            faults=[(place, row) for place, row in enumerate(rows) if row.fault][:_SHOWN],
            fault_count=sum(bool(row.fault) for row in rows),
            shown=_SHOWN,
            few=_FEW,
        )

    def rows(self, request: Request) -> Response:
        """The rows, chosen by split, task type, words, and whether they can be asked."""
        check, given = self._look(request)
        asked = request.query_params
        rows = list(enumerate(list(check.rows)))
        splits = Counter(row.split for _, row in rows)
        tasks = Counter(row.sample.task for _, row in rows)
        words = asked.get("q", "").lower().split()
        chosen = [(place, row) for place, row in rows if _is_wanted(row, asked, words)]
        if asked.get("order") in ("longest", "shortest"):
            far = asked["order"] == "longest"
            chosen.sort(key=lambda one: (one[1].length is None, (one[1].length or 0) * (-1 if far else 1)))
        pages = max(1, -(-len(chosen) // _PER_PAGE))
        text = asked.get("page", "")
        page = min(max(1, int(text)), pages) if text.isascii() and text.isdigit() and len(text) < 9 else 1
        some = chosen[(page - 1) * _PER_PAGE : page * _PER_PAGE]
        media = {place: [(ref, check.plans.get(ref)) for ref in row.sample.media] for place, row in some}
        return self.site.page(
            request,
            "data_rows.html.j2",
            **given,
            rows=some,
            media=media,
            count=len(chosen),
            page=page,
            pages=pages,
            splits=[split for split in SPLITS if split in splits],
            tasks=list(tasks),
            asked={name: asked.get(name, "") for name in ("split", "task", "q", "only", "order")},
        )

    def row(self, request: Request) -> Response:
        """One row: its question, reference and columns, and when the frames of its media are taken."""
        _, check, job = self._check(request.path_params["key"])
        text = request.path_params["place"]
        limit = time.monotonic() + _READING
        while job.running and check.stage == READING and time.monotonic() < limit:
            job.wait(0.1)  # a link may be opened before any row is read
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(check.rows)):
            raise DataError(f"there is no row {text[:40]!r}; {len(check.rows)} have been read so far")
        check, given = self._look(request)
        place = int(text)
        row = check.rows[place]
        media = [
            (ref, plan, plan_strip(plan) if isinstance(plan, MediaPlan) and plan.kind == "video" else None)
            for ref in row.sample.media
            for plan in (check.plans.get(ref),)
        ]
        values: dict[str, Any] = {"row": row, "place": place, "media": media, "count": len(check.rows)}
        return self.site.page(request, "data_row.html.j2", **given, **values)


def file_keys(files: Sequence[Path]) -> dict[str, Path]:
    """The files of the command line by their keys in addresses."""
    return {_key(path, place): path for place, path in enumerate(files)}


def _key(path: Path, place: int) -> str:
    """A part of an address for a file; several may have one name."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', path.name).strip('-.') or 'data'}-{place + 1}"


def _config(path: Path) -> RunConfig:
    """The configuration of a file: one of rows is the only source of a configuration with defaults.

    Raises:
        ConfigError: it is not valid.
    """
    if path.suffix.lower() in _ROWS:
        return RunConfig.model_validate({"name": path.stem, "data": {"train": [SourceConfig(path=str(path))]}})
    try:
        return load_config(path)
    except EasyVideoError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _is_wanted(row: Row, asked: Any, words: list[str]) -> bool:
    if asked.get("split") and row.split != asked["split"]:
        return False
    if asked.get("task") and row.sample.task != asked["task"]:
        return False
    if asked.get("only") == "faults" and not row.fault:
        return False
    if not words:
        return True
    sample = row.sample
    text = " ".join((sample.id, sample.question, sample.answer, *(ref.path for ref in sample.media))).lower()
    return all(word in text for word in words)
