"""The numbers of a benchmark as they are printed, reported and compared: each with its interval and its count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from easyvideor1.benchmarks import BENCHMARKS, Benchmark, open_benchmark
from easyvideor1.benchmarks.metrics import Answered, Metric, greedy_answers
from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.evaluation.metric_intervals import metric_interval
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.evaluation.statistics import Interval
from easyvideor1.types import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a result.

    ``name`` is that of its metric. ``interval`` is not scaled: ``accuracy`` lies in [0, 1]. ``count`` questions belong
    to it, ``failed`` of them without a scored response, in ``clusters`` clusters (videos). A number of a breakdown has
    the ``facet`` and the ``value`` of its questions; both are empty for a number of the whole benchmark.
    """

    name: str
    interval: Interval
    count: int
    clusters: int
    scale: float = 100.0
    failed: int = 0
    facet: str = ""
    value: str = ""

    @property
    def scaled(self) -> Interval:
        """The interval as it is shown: times ``scale``."""
        return self.interval.times(self.scale)

    def to_json(self) -> dict[str, Any]:
        """All of it; ``scaled`` are the three values as they are shown."""
        return {
            "name": self.name,
            "facet": self.facet,
            "value": self.value,
            **self.interval.to_json(),
            "scale": self.scale,
            "scaled": self.scaled.to_json(),
            "count": self.count,
            "failed": self.failed,
            "clusters": self.clusters,
        }


def benchmark_of(certificate: Certificate, *, own_code: bool = False) -> Benchmark:
    """The benchmark of a result, for its metrics and facets.

    It is found as the command line named it, or else by its name. One that is not known here, such as a file of rows
    that has moved, has accuracy as its metric and no version. See ``benchmark_note``.

    Args:
        certificate: of the result, which may have come from somebody else.
        own_code: import what it names as ``module:attr``, which may do anything; else that is not known here.
    """
    named = str(certificate.scoring.get("benchmark", ""))
    for target in dict.fromkeys(each for each in (named, certificate.benchmark) if each):
        if not own_code and _is_code(target):
            continue
        # A public benchmark is asked for its release when it is opened; its definition is enough here.
        for known in (open_benchmark, BENCHMARKS.resolve):
            try:
                found = known(target)
            except (ConfigError, DataError):
                continue
            if isinstance(found, Benchmark):
                return found
    return Benchmark(certificate.benchmark, "")


def benchmark_note(benchmark: Benchmark, certificate: Certificate) -> str:
    """What to know about the numbers that ``benchmark_of`` gives a result; empty if it has the version known here."""
    named = str(certificate.scoring.get("benchmark") or certificate.benchmark)
    if _is_code(named) and benchmark == Benchmark(certificate.benchmark, ""):
        return f"{certificate.benchmark} is code of its own ({named}), which is not run here; its number is accuracy"
    if benchmark.version == certificate.version:
        return ""
    if not benchmark.version:
        return f"{certificate.benchmark} is not known here; its number is accuracy"
    return (
        f"{certificate.benchmark} was asked as version {certificate.version}; numbers are those of version "
        f"{benchmark.version}, which is installed"
    )


def _is_code(target: str) -> bool:
    """Whether opening a benchmark by this name would import a module."""
    return ":" in target.partition("=")[0]


def numbers_of(benchmark: Benchmark, evaluation: Evaluation, *, breakdown: bool = True) -> list[Number]:
    """The numbers of the greedy responses: those of the metrics of a benchmark, then its breakdown.

    The breakdown is its first metric for each value of each of its facets, in the order in which they first occur; a
    question without a facet is in none of its numbers. A number that no question belongs to is left out. Intervals have
    the seed and the confidence of the evaluation.
    """
    answered = greedy_answers(evaluation.records)
    seed, confidence = evaluation.seed, evaluation.confidence
    found = [number_of(metric, answered, confidence=confidence, seed=seed) for metric in benchmark.metrics]
    for facet in benchmark.breakdown if breakdown else ():
        for value, metric in by_facet(benchmark.metrics[0], facet, answered):
            number = number_of(metric, answered, confidence=confidence, seed=seed)
            found.append(replace(number, facet=facet, value=value) if number else None)
    return [number for number in found if number is not None]


def number_of(metric: Metric, answered: Sequence[Answered], *, confidence: float, seed: int) -> Number | None:
    """One metric of some questions; ``None`` if none of them belongs to it."""
    interval = metric_interval(metric, answered, confidence, seed)
    if interval is None:
        return None
    own = metric.questions(answered)
    clusters = len(set(metric.items(answered).clusters))
    failed = sum(each.failed for each in own)
    return Number(metric.name, interval, len(own), clusters, metric.scale, failed)


def by_facet(metric: Metric, facet: str, answered: Sequence[Answered]) -> Iterator[tuple[str, Metric]]:
    """A metric for each value of a facet that its questions have."""
    for value in dict.fromkeys(each.facet(facet) for each in metric.questions(answered)):
        if value:
            yield value, replace(metric, where={**metric.where, facet: value})
