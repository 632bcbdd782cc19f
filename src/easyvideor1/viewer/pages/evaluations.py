"""Evaluations: models by benchmarks, categories and probes; and two results side by side, question by question."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from easyvideor1.config.media import CacheConfig
from easyvideor1.evaluation.benchmark_report.collect import BARS, Report, make_report
from easyvideor1.evaluation.certificate import RECORDS, Certificate
from easyvideor1.evaluation.gallery import FrameLookup
from easyvideor1.evaluation.history import RunHistory, cache_dir
from easyvideor1.types import DataError, EasyVideoError, Frames
from easyvideor1.video import FrameStore
from easyvideor1.viewer.histories import run_version
from easyvideor1.viewer.jobs import Job
from easyvideor1.viewer.library import Entry, fingerprint
from easyvideor1.viewer.result_sides import SideBySide, side_by_side, side_of_result, side_of_run
from easyvideor1.viewer.result_sides import question_card as made_card
from easyvideor1.viewer.run_rows import run_row
from easyvideor1.viewer.site import Site

TITLE, PATH = "Evaluations", "/evaluations"

#: Questions of a page of those that moved.
_PER_PAGE = 50
#: Separates a run, a benchmark and an evaluation in the name of a side.
_OF_RUN = "run:"


def routes(site: Site) -> list[Route]:
    """The routes of this part."""
    pages = Evaluations(site)
    return [
        site.route("/evaluations", pages.index),
        site.route("/evaluations/version", pages.version),
        site.route("/evaluations/compare", pages.compare),
        site.route("/evaluations/question", pages.question),
        site.route("/runs/{key}/evaluations", pages.of_run),
    ]


class Evaluations:
    """The pages of this part.

    A side of a comparison is the key of a result, or ``run:KEY/BENCHMARK/NAME`` of an evaluation of a training run,
    with an empty benchmark for its own questions.
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def _version(self) -> str:
        places = [entry.path for entry in self.site.library.evaluations()]
        return fingerprint(path for place in places for path in sorted(place.glob("*.json")))

    def _report(self) -> Job[Report]:
        """Everything about all results, read in a thread: intervals of many questions take a while."""
        places = [entry.path for entry in self.site.library.evaluations()]

        def work(advance: Any) -> Report:
            return make_report(places, _nothing, per_kind=0, on_progress=lambda done, all_: advance(done, all_, ""))

        return self.site.jobs.get("results", self._version(), work)

    def version(self, request: Request) -> Response:
        """The version of all results, which changes as they are read, too."""
        job = self.site.jobs.known("results")
        return JSONResponse({"version": f"{self._version()} {job.state if job else ''}"})

    def index(self, request: Request) -> Response:
        """Models by benchmarks; and the runs that evaluate themselves."""
        entries = self.site.library.evaluations()
        finished = [entry for entry in entries if (entry.path / f"{RECORDS}.json").exists()]
        job = self._report() if entries else None
        if job is not None:
            job.wait(None if self.site.exporting else 1.0)
        return self.site.page(
            request,
            "evaluations.html.j2",
            version=f"{self._version()} {job.state if job else ''}",
            watched="/evaluations/version",
            job=job,
            report=job.result if job else None,
            shown=BARS,
            unfinished=[entry for entry in entries if entry not in finished],
            choices=_choices(finished),
            pairs=_pairs(finished) if self.site.exporting else [],
            runs=self._runs(),
        )

    def _runs(self) -> list[tuple[Entry, Any]]:
        found = []
        for entry in self.site.library.runs():
            try:
                row = self.site.histories.made(entry, "row", partial(run_row, entry.key))
            except (EasyVideoError, OSError):
                continue  # the list of runs says what is wrong with it
            if row.before or row.after:
                found.append((entry, row))
        return found

    def of_run(self, request: Request) -> Response:
        """The evaluations of a training run: by name and by task type, and which two to compare."""
        entry = self.site.library.entry(request.path_params["key"], "run")
        history = self.site.histories.read(entry)
        row = self.site.histories.made(entry, "row", lambda found: run_row(entry.key, found))
        sets = [
            *_by_kind("", "held-out questions", history.evaluations, history),
            *(one for name, known in history.benchmarks.items() for one in _by_kind(name, name, known, history)),
        ]
        return self.site.page(
            request,
            "run_evaluations.html.j2",
            version=run_version(entry.path),
            watched=f"/runs/version?run={entry.key}",
            part="evaluations",
            entry=entry,
            row=row,
            sets=[one for one in sets if one[2]],
            neighbours=_neighbours(entry, history),
        )

    def compare(self, request: Request) -> Response:
        """The questions that moved between two results, the paired differences, and what differs in their settings."""
        one, other = (request.query_params.get(name, "") for name in ("a", "b"))
        found = self._sides(one, other)
        moved = found.moved
        way = request.query_params.get("moved", "")
        if way in ("lost", "gained"):
            moved = tuple(each for each in moved if (each.change < 0) == (way == "lost"))
        page = _whole(request.query_params.get("page", ""), 1, max(1, -(-len(moved) // _PER_PAGE)))
        return self.site.page(
            request,
            "evaluations_compare.html.j2",
            found=found,
            a=one,
            b=other,
            way=way,
            moved=moved[(page - 1) * _PER_PAGE : page * _PER_PAGE],
            count=len(moved),
            page=page,
            pages=max(1, -(-len(moved) // _PER_PAGE)),
        )

    def question(self, request: Request) -> Response:
        """A question with the frames that the models saw and both responses."""
        one, other = (request.query_params.get(name, "") for name in ("a", "b"))
        found = self._sides(one, other)
        place = _whole(request.query_params.get("n", ""), 0, len(found.before.evaluation.records) - 1)
        card = made_card(found.before, found.after, place, self._frames())
        places = [each.place for each in found.moved]
        at = places.index(place) if place in places else None
        return self.site.page(
            request,
            "evaluations_question.html.j2",
            found=found,
            a=one,
            b=other,
            card=card,
            cause=found.moved[at].moved.words if at is not None else "",
            before=places[at - 1] if at else None,
            after=places[at + 1] if at is not None and at + 1 < len(places) else None,
            at=at,
            report=None,
        )

    def _sides(self, one: str, other: str) -> SideBySide:
        if not one or not other or one == other:
            raise DataError("choose two results that are not the same")
        sides = f"{one} | {other}"
        version = f"{self._side_version(one)} {self._side_version(other)}"
        job = self.site.jobs.get(
            f"sides {sides}", version, lambda advance: side_by_side(self._side(one), self._side(other))
        )
        job.wait()
        if job.result is None:
            raise DataError(job.error)
        found: SideBySide = job.result
        return found

    def _side(self, name: str) -> Any:
        if name.startswith(_OF_RUN):
            entry, benchmark, evaluation = self._of_a_run(name)
            return side_of_run(self.site.histories.read(entry), evaluation, entry.name, benchmark)
        return side_of_result(self.site.library.entry(name, "evaluation").path)

    def _side_version(self, name: str) -> str:
        if name.startswith(_OF_RUN):
            entry, benchmark, evaluation = self._of_a_run(name)
            return fingerprint([entry.path / "evaluations" / benchmark / f"{evaluation}.json"])
        return fingerprint(sorted(self.site.library.entry(name, "evaluation").path.glob("*.json")))

    def _of_a_run(self, name: str) -> tuple[Entry, str, str]:
        key, _, rest = name.removeprefix(_OF_RUN).partition("/")
        benchmark, _, evaluation = rest.partition("/")
        entry = self.site.library.entry(key, "run")
        history = self.site.histories.read(entry)
        known = history.benchmarks.get(benchmark, {}) if benchmark else history.evaluations
        if evaluation not in known:  # also keeps the name from leaving the directory of evaluations
            raise DataError(f"{entry.name} has no evaluation {evaluation[:120]!r} that can be read")
        return entry, benchmark, evaluation

    def _frames(self) -> FrameLookup:
        """Finds frames in the caches of all runs, and in the default one, where results of no run have theirs."""
        places: dict[Path, None] = {}
        for entry in self.site.library.runs():
            try:
                place = self.site.histories.made(entry, "cache", cache_dir)
            except (EasyVideoError, OSError):
                continue
            if place is not None:
                places[place] = None
        usual = Path(CacheConfig().dir)
        stores = [FrameStore(place) for place in (*places, *([usual] if usual.is_dir() else []))]

        def lookup(digest: str) -> Frames | None:
            return next((found for store in stores if (found := store.look(digest)) is not None), None)

        return lookup


def _nothing(digest: str) -> Frames | None:
    return None


def _choices(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Keys and words of results, for a list to choose from."""
    found = []
    for entry in entries:
        try:
            own = Certificate.load(entry.path)
        except EasyVideoError:
            continue
        found.append((entry.key, f"{own.benchmark}: {own.model} [{own.digest[:8]}]"))
    return sorted(found, key=lambda one: one[1])


def _pairs(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Addresses and words of all pairs of results of one benchmark, for pages that no form can be sent from."""
    known = []
    for entry in entries:
        try:
            known.append((entry, Certificate.load(entry.path)))
        except EasyVideoError:
            continue
    return [
        (
            f"/evaluations/compare?{urlencode({'a': one.key, 'b': other.key})}",
            f"{own.score.benchmark}: {_and(own, its)}",
        )
        for place, (one, own) in enumerate(known)
        for other, its in known[place + 1 :]
        if own.score.benchmark == its.score.benchmark
    ]


def _and(one: Certificate, other: Certificate) -> str:
    names = [f"{each.model} ({each.probe})" if each.probe else each.model for each in (one, other)]
    return f"{names[0]} and {names[1]}"


def _by_kind(key: str, title: str, known: Mapping[str, Any], history: RunHistory) -> list[tuple[str, str, Any]]:
    """Evaluations in the order in which they were made: those before and after stages, then those within stages, which
    may ask other questions."""
    whole = [name for name in ("before", *(stage.name for stage in history.stages)) if name in known]
    within = sorted(set(known) - set(whole))
    return [
        (key, title, {name: known[name] for name in whole}),
        (key, f"{title}, within stages", {name: known[name] for name in within}),
    ]


def _neighbours(entry: Entry, history: RunHistory) -> list[tuple[str, str]]:
    """Addresses and words of comparisons of a run that suggest themselves: each test evaluation with that before."""
    found = []
    for benchmark, known in (("", history.evaluations), *history.benchmarks.items()):
        names = [name for name in ("before", *(stage.name for stage in history.stages)) if name in known]
        for one, other in itertools.pairwise(names):
            values = {"a": f"{_OF_RUN}{entry.key}/{benchmark}/{one}", "b": f"{_OF_RUN}{entry.key}/{benchmark}/{other}"}
            words = f"{one} and {other}" if not benchmark else f"{benchmark}: {one} and {other}"
            found.append((f"/evaluations/compare?{urlencode(values)}", words))
    return found


def _whole(text: str, low: int, high: int) -> int:
    """A whole number of an address within its limits."""
    return min(max(int(text), low), high) if text.isascii() and text.isdigit() and len(text) < 10 else low
