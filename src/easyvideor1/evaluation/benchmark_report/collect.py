"""The content of the report over results, benchmark by benchmark, for page and exports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.evaluation.benchmark_report.labels import differing, facts, labels
from easyvideor1.evaluation.benchmark_report.questions import PICTURES, Asked, Pictures, Shelf, browse
from easyvideor1.evaluation.benchmark_report.tables import (
    Row,
    Versus,
    facets_of,
    known_benchmark,
    make_row,
    probe_versus,
    versus,
)
from easyvideor1.evaluation.certificate import Certificate, Result, find_results
from easyvideor1.evaluation.charts import share_bar
from easyvideor1.evaluation.comparison import adjusted
from easyvideor1.evaluation.gallery import FrameLookup
from easyvideor1.evaluation.numbers import Number
from easyvideor1.types import DataError

#: Models that have bars of their own in a chart of categories.
BARS = 8


@dataclass(frozen=True, slots=True)
class Category:
    """The bars of one category: for each model its number and its drawing, or ``None``."""

    name: str
    count: int
    bars: tuple[tuple[str, Number, Markup] | None, ...]


@dataclass(frozen=True, slots=True)
class Facet:
    """A facet with its categories."""

    name: str
    categories: tuple[Category, ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Everything that moves the scores of a benchmark: what differs between the results, and what is the same."""

    names: tuple[str, ...]
    differ: tuple[tuple[str, tuple[Any, ...]], ...]
    same: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark.

    ``rows`` are its scores, the best first, ``probes`` its probes, each with its difference from the score, and
    ``alone`` the probes whose score is missing, which tables list behind the scores (``listed``);
    ``differences`` compare the best row with every other that shares questions with it, the next first, and ``lead``
    compares it with the next; ``None`` if they share none. ``best`` is the label of the best row if it is better than
    the next by more than chance; else empty.
    """

    name: str
    title: str
    metric: str
    scale: float
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Versus, ...]
    probes: tuple[tuple[Row, Versus | None], ...]
    alone: tuple[Row, ...]
    facets: tuple[Facet, ...]
    shelves: tuple[Shelf, ...]
    certificates: Certificates
    lead: Versus | None = None
    best: str = ""

    def probe(self, label: str, name: str) -> tuple[Row, Versus | None] | None:
        """A probe of a model."""
        return next((each for each in self.probes if (each[0].label, each[0].probe) == (label, name)), None)

    @property
    def listed(self) -> tuple[Row, ...]:
        """The rows of tables of scores."""
        return (*self.rows, *self.alone)

    def row(self, name: str) -> Row | None:
        """The row of this name in tables of scores."""
        return next((row for row in self.listed if row.name == name), None)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that page and exports show.

    ``models`` are the names of the rows of all sections. ``left_out`` are results that cannot be read, and why;
    ``colours`` are CSS classes by label.
    """

    models: tuple[str, ...]
    sections: tuple[Section, ...]
    left_out: tuple[tuple[str, str], ...]
    colours: Mapping[str, str]
    confidence: float
    pictures_full: bool


def make_report(
    places: Sequence[Path],
    frames: FrameLookup,
    *,
    per_kind: int = 4,
    own_code: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Collect the content of page and exports, one benchmark at a time: records of all at once may not fit memory.

    Benchmarks and effects that results name as ``module:attr`` are imported only with ``own_code``.

    Raises:
        DataError: there is no result that can be read.
    """
    directories = find_results(places)
    left_out: list[tuple[str, str]] = []
    found: list[tuple[Path, Certificate]] = []
    for directory in directories:
        try:
            found.append((directory, Certificate.load(directory)))
        except DataError as error:
            left_out.append((str(directory), str(error)))
    opened = [known_benchmark(certificate, own_code=own_code) for _, certificate in found]
    named = labels([certificate for _, certificate in found], [benchmark.name for benchmark, _ in opened])
    colours = {label: f"s{place % 8}" for place, label in enumerate(dict.fromkeys(named))}
    groups: dict[str, list[int]] = {}
    for place, (benchmark, _) in enumerate(opened):
        groups.setdefault(benchmark.name, []).append(place)
    sections, confidence, done, room, full = [], 0.95, 0, PICTURES, False
    for left, (_, members) in zip(range(len(groups), 0, -1), sorted(groups.items()), strict=True):
        results: list[tuple[Row, Result]] = []
        benchmark = opened[members[0]][0]
        for place in members:
            directory = found[place][0]
            try:
                result = Result.load(directory)
                if not benchmark.breakdown:
                    names = facets_of(greedy_answers(result.evaluation.records))
                    benchmark = replace(benchmark, breakdown=names)
                results.append((make_row(named[place], result, benchmark), result))
            except DataError as error:
                left_out.append((str(directory), str(error)))
            done += 1
            if on_progress is not None:
                on_progress(done, len(found))
        if results:
            pictures = Pictures(
                frames, room // left, own_code=own_code
            )  # a fair share: what one benchmark leaves goes to the next
            notes = tuple(dict.fromkeys(opened[place][1] for place in members if opened[place][1]))
            sections.append(_section(benchmark, notes, results, colours, pictures, per_kind))
            room, full = room - pictures.taken, full or pictures.full
            confidence = results[0][1].evaluation.confidence
    if not sections:
        raise DataError(_nothing(places, left_out))
    models = tuple(dict.fromkeys(row.name for section in sections for row in section.listed))
    return Report(models, _with_best(sections, confidence), tuple(left_out), colours, confidence, full)


def _with_best(sections: Sequence[Section], confidence: float) -> tuple[Section, ...]:
    """The sections with their best rows marked, the p-values of all best against next corrected for each other."""
    leads = {section.name: section.lead for section in sections if section.lead is not None}
    tested = adjusted([lead.difference for lead in leads.values()])
    best = {
        name: lead.label
        for (name, lead), found in zip(leads.items(), tested, strict=True)
        if found.adjusted is not None and found.adjusted <= 1 - confidence and found.interval.mean > 0
    }
    return tuple(replace(section, best=best.get(section.name, "")) for section in sections)


def _nothing(places: Sequence[Path], left_out: Sequence[tuple[str, str]]) -> str:
    where = ", ".join(map(str, places))
    if left_out:
        return f"{where}: none of {len(left_out)} results can be read; the first: {left_out[0][1]}"
    return f"{where}: no result (certificate.json) at or below; give the directory that `evr1 eval run` wrote"


def _section(
    benchmark: Benchmark,
    notes: Sequence[str],
    made: Sequence[tuple[Row, Result]],
    colours: Mapping[str, str],
    pictures: Pictures,
    per_kind: int,
) -> Section:
    def order(each: tuple[Row, Result]) -> tuple[float, str]:
        first = each[0].first
        return (float("inf") if first is None else -first.interval.mean, each[0].label)

    scores = sorted((each for each in made if not each[0].probe), key=order)
    probes = [each for each in made if each[0].probe]
    metric = benchmark.metrics[0]
    named = [(row.label, result.evaluation) for row, result in scores]
    compared = [versus(metric, named[0], other) for other in named[1:]]
    beside, alone = [], []
    for row, result in probes:
        score = next((each for each in named if each[0] == row.label), None)
        if score is None:
            alone.append(row)
        else:
            beside.append((row, probe_versus(metric, (row.probe, result.evaluation), score)))
    shown = scores or probes
    asked = [
        Asked(row.name, colours[row.label], result.certificate, result.evaluation.records) for row, result in shown
    ]
    best = [row for row, _ in scores][:BARS]
    top = _top(best)
    return Section(
        name=benchmark.name,
        title=benchmark.title or benchmark.name,
        metric=metric.name,
        scale=metric.scale * top,
        notes=(*notes, *_notes(benchmark, [row for row, _ in scores], alone)),
        rows=tuple(row for row, _ in scores),
        differences=tuple(each for each in compared if each),
        probes=tuple(beside),
        alone=tuple(alone),
        facets=_facets(best, colours, top),
        shelves=browse(asked, next(iter(benchmark.breakdown), ""), pictures, per_kind),
        certificates=_certificates([row for row, _ in (*scores, *probes)]),
        lead=next(iter(compared), None),
    )


def _notes(benchmark: Benchmark, rows: Sequence[Row], alone: Sequence[Row]) -> list[str]:
    """What makes numbers differ from those that others publish, or from each other."""
    notes = []
    counts = sorted({row.count for row in rows})
    if benchmark.count and counts and counts != [benchmark.count]:
        seen = " or ".join(f"{count:,}" for count in counts)
        notes.append(
            f"{seen} of the {benchmark.count:,} questions of the release: not comparable with published numbers."
        )
    elif len(counts) > 1:
        notes.append("The results have different numbers of questions; pairs are compared over those that both have.")
    if alone:
        notes.append(
            f"{', '.join(row.name for row in alone)}: the score of the questions as they are is missing, so that there "
            "is no difference from it; give its directory, too."
        )
    return notes


def _top(rows: Sequence[Row]) -> float:
    """The end of the bars of categories: 1, or for grades such as those of 2 to 10 the next whole number."""
    return max((math.ceil(number.interval.high) for row in rows for number in row.categories), default=1) or 1


def _facets(rows: Sequence[Row], colours: Mapping[str, str], top: float) -> tuple[Facet, ...]:
    names = dict.fromkeys((number.facet, number.value) for row in rows for number in row.categories)
    found = {(row.label, n.facet, n.value): n for row in rows for n in row.categories}
    facets: dict[str, list[Category]] = {}
    for facet, value in names:
        numbers = [found.get((row.label, facet, value)) for row in rows]
        bars = tuple(
            None if number is None else (colours[row.label], number, share_bar(number.interval, top))
            for row, number in zip(rows, numbers, strict=True)
        )
        count = max(number.count for number in numbers if number is not None)
        facets.setdefault(facet, []).append(Category(value, count, bars))
    return tuple(Facet(name, tuple(categories)) for name, categories in facets.items())


def _certificates(rows: Sequence[Row]) -> Certificates:
    certificates = [row.certificate for row in rows]
    values: list[Mapping[str, Any]] = [facts(each) for each in certificates]
    keys = differing(certificates)
    names = tuple(row.name for row in rows)
    differ = tuple((key, tuple(each.get(key) for each in values)) for key in keys)
    directories = tuple(row.directory for row in rows)
    digests = tuple(certificate.digest for certificate in certificates)
    return Certificates(
        names,
        (("digest", digests), ("directory", directories), *differ),
        tuple((key, value) for key, value in values[0].items() if key not in keys),
    )
