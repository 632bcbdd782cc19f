"""Several models over all benchmarks that they share: one paired difference for each benchmark and pair of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.evaluation.certificate import Result
from easyvideor1.evaluation.comparison import Difference, Pairs, adjusted, difference, make_pairs
from easyvideor1.evaluation.corrections import Correction
from easyvideor1.evaluation.numbers import benchmark_note, benchmark_of
from easyvideor1.types import ConfigError, DataError

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model against another on one benchmark, by its first metric; ``left_out`` questions are not in both."""

    benchmark: str
    before: str
    after: str
    difference: Difference
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        names = {"benchmark": self.benchmark, "baseline": self.before, "model": self.after}
        return {**names, **self.difference.to_json(), "left_out": self.left_out}


@dataclass(frozen=True, slots=True)
class Table:
    """All comparisons with the baseline, their p-values adjusted for each other, and what a reader has to know."""

    baseline: str
    models: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def named_results(places: Sequence[tuple[Path, Sequence[Result]]]) -> dict[str, dict[str, Result]]:
    """Model -> benchmark -> result.

    A model's name has its place in it where two places have a result of a model of this name on one benchmark.

    Args:
        places: those that the user named, each with the results at or below it.

    Raises:
        ConfigError: one place has two results of one model on one benchmark.
    """
    seen: dict[tuple[str, str], set[Path]] = {}
    for place, results in places:
        for result in results:
            seen.setdefault((result.certificate.model, result.certificate.benchmark), set()).add(place)
    shared = {model for (model, _), where in seen.items() if len(where) > 1}
    found: dict[str, dict[str, Result]] = {}
    for place, results in places:
        for result in results:
            model, benchmark = result.certificate.model, result.certificate.benchmark
            own = found.setdefault(f"{model} ({place})" if model in shared else model, {})
            if benchmark in own and own[benchmark].directory != result.directory:
                raise ConfigError(
                    f"{place} has two results of {model} on {benchmark}: {own[benchmark].directory.name} and "
                    f"{result.directory.name}; name the directories of the results to compare"
                )
            own[benchmark] = result
    return found


def compare_results(
    models: dict[str, dict[str, Result]],
    *,
    baseline: str = "",
    common: bool = False,
    correction: Correction = "holm",
    own_code: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Compare every model with the baseline on every benchmark that both have.

    Args:
        models: as ``named_results`` makes them.
        baseline: Name of a model; the first by default.
        common: Compare over the questions that both results have, where the benchmark's versions or the questions
            differ, instead of refusing.
        correction: For all comparisons of the table together.
        own_code: Import benchmarks that results name as ``module:attr``; only for results that are trusted.
        on_progress: Called with (comparisons done, comparisons in all).

    Raises:
        ConfigError: fewer than two models, or no model is called like the baseline.
        DataError: two results are of other versions or other questions, or share none.
    """
    baseline = baseline or next(iter(models), "")
    if len(models) < 2 or baseline not in models:
        known = ", ".join(models) or "none"
        raise ConfigError(f"comparing needs two models, one of them the baseline {baseline!r}; found {known}")
    first = models[baseline]
    jobs = [(name, own, key) for name, own in models.items() if name != baseline for key in own if key in first]
    made, notes = [], []
    for done, (name, own, key) in enumerate(sorted(jobs, key=lambda job: job[2]), 1):
        before, after = first[key], own[key]
        pairs = _pairs(before, after, common)
        notes += _notes(f"{key}, {name}", before, after)
        benchmark, settings = benchmark_of(before.certificate, own_code=own_code), before.evaluation
        if note := benchmark_note(benchmark, before.certificate):
            notes.append(note)
        found = difference(benchmark.metrics[0], pairs, confidence=settings.confidence, seed=settings.seed)
        if found is None:
            notes.append(f"{key}: no question belongs to its first metric")
        else:
            left_out = len(pairs.only_before) + len(pairs.only_after) + len(pairs.changed)
            made.append(Comparison(key, baseline, name, found, left_out))
        if on_progress is not None:
            on_progress(done, len(jobs))
    alone = sorted({key for own in models.values() for key in own} - {key for _, _, key in jobs})
    if alone:
        notes.append(f"not compared, because the baseline or all others have no result: {', '.join(alone)}")
    differences = adjusted([each.difference for each in made], correction)
    rows = tuple(replace(each, difference=found) for each, found in zip(made, differences, strict=True))
    return Table(baseline, tuple(models), rows, tuple(dict.fromkeys(notes)))


def _pairs(before: Result, after: Result, common: bool) -> Pairs:
    """The common questions; other versions and questions are refused unless ``common``."""
    one, other = before.certificate, after.certificate
    where = f"{before.directory} and {after.directory}"
    remedy = "evaluate both with one version, or compare common questions only with --common"
    if one.version != other.version and not common:
        raise DataError(f"{where}: versions {one.version!r} and {other.version!r} of {one.benchmark}; {remedy}")
    pairs = make_pairs(greedy_answers(before.evaluation.records), greedy_answers(after.evaluation.records))
    if not pairs.same_questions and not common:
        parts = {"only in the first": pairs.only_before, "only in the second": pairs.only_after}
        parts["with other content"] = pairs.changed
        words = "; ".join(f"{len(ids)} {what} ({_some(ids)})" for what, ids in parts.items() if ids)
        raise DataError(f"{where} have other questions: {words}; {remedy}")
    if not len(pairs):
        raise DataError(f"{where} have no question in common; compare results of the same rows")
    return pairs


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")


def _notes(where: str, before: Result, after: Result) -> list[str]:
    """What else than the models a difference may be because of."""
    found = []
    one, other = before.certificate, after.certificate
    if one.scoring != other.scoring:
        found.append(f"{where}: scored differently; `evr1 eval diff` shows how, `evr1 eval rescore` makes it equal")
    if one.asking.get("frames") != other.asking.get("frames"):
        found.append(f"{where}: the models saw other frames or sizes; `evr1 eval diff` shows which settings differ")
    failed = [sum(each.failed for each in greedy_answers(result.evaluation.records)) for result in (before, after)]
    if any(failed):
        found.append(f"{where}: {failed[0]} and {failed[1]} questions failed and count as wrong")
    return found
