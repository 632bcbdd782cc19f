"""What a probe changes: the questions of a benchmark beside the same questions asked in another way.

A blind question cannot fail because its video is missing, so a failure on one side alone would be a gain of the other.
Questions that failed on either side are therefore left out of the differences, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from easyvideor1.benchmarks import Benchmark
from easyvideor1.benchmarks.metrics import greedy_answers
from easyvideor1.evaluation.certificate import CERTIFICATE, PROBE, RECORDS, Certificate
from easyvideor1.evaluation.comparison import Difference, Pairs, adjusted, difference, make_pairs
from easyvideor1.evaluation.result import Evaluation
from easyvideor1.files import seal, write_json
from easyvideor1.types import DataError


@dataclass(frozen=True, slots=True)
class ProbeComparison:
    """The metrics of a benchmark, probe less score, over the ``count`` questions that both answered; ``failed`` others,
    which both asked, failed on either side. There are no differences if all failed."""

    differences: tuple[Difference, ...]
    count: int
    failed: int


def probe_pairs(real: Evaluation, probed: Evaluation) -> tuple[Pairs, int]:
    """The questions that score and probe both answered, and how many of both failed on either side: have no response,
    or none that could be scored."""
    pairs = make_pairs(greedy_answers(real.records), greedy_answers(probed.records), changed=True)
    both = list(zip(pairs.before, pairs.after, strict=True))
    kept = [(before, after) for before, after in both if not before.failed and not after.failed]
    answered = replace(pairs, before=tuple(one for one, _ in kept), after=tuple(other for _, other in kept))
    return answered, len(both) - len(kept)


def compare_probe(benchmark: Benchmark, real: Evaluation, probed: Evaluation) -> ProbeComparison:
    """Compare a probe with the score of the same questions.

    Raises:
        DataError: they share no question.
    """
    pairs, failed = probe_pairs(real, probed)
    if not len(pairs) and not failed:
        raise DataError(f"{benchmark.name}: the probe asked none of the questions; evaluate both again")
    found = [difference(metric, pairs, confidence=real.confidence, seed=real.seed) for metric in benchmark.metrics]
    return ProbeComparison(tuple(adjusted([each for each in found if each is not None])), len(pairs), failed)


def write_probe(directory: Path, real: Path, comparison: ProbeComparison) -> None:
    """Write ``probe.json`` into the directory of a probe's result; it names the result that it is compared to, and says
    whether both are scored by the same rewards."""
    own, score = Certificate.load(directory), Certificate.load(real)
    content = {
        "probe": own.probe,
        "benchmark": own.benchmark,
        "compared_to": score.digest,
        "scored_alike": scored_alike(own, score),
        "questions": comparison.count,
        "failed": comparison.failed,
        "differences": [each.to_json() for each in comparison.differences],
    }
    write_json(directory / PROBE, seal(content))


def scored_alike(one: Certificate, other: Certificate) -> bool:
    """Whether the same rewards scored two results, so that a difference is not one of the scoring."""
    return all(one.scoring.get(name) == other.scoring.get(name) for name in ("rewards", "judge_templates"))


@dataclass(frozen=True, slots=True)
class ComparedAgain:
    """A probe whose differences were made again; without a ``comparison`` they could not be, for ``reason``, and
    ``probe.json`` is removed. With a comparison, ``reason`` says what else the differences may be because of."""

    directory: Path
    comparison: ProbeComparison | None = None
    reason: str = ""


def compare_again(
    changed: Collection[Path], benchmark_of: Callable[[Certificate], Benchmark], written: Collection[Path] = ()
) -> Iterator[ComparedAgain]:
    """Make the differences of all probes again that rest on results which have changed: on a probe's own, or on the
    score that it is compared to.

    Score and probes are looked for among the changed results, and beside them where results are written, in
    ``OUT/BENCHMARK/MODEL-DIGEST``.

    Args:
        changed: directories of results.
        benchmark_of: the benchmark of a result, for its metrics.
        written: directories of probes that were compared already.
    """
    known = _certificates(changed)
    moved, done = ({directory.resolve() for directory in each} for each in (changed, written))
    for place, (directory, certificate) in known.items():
        if not certificate.probe or place in done:
            continue
        score = _score_of(place, certificate, known)
        if moved.isdisjoint({place, score}):
            continue
        try:
            if score is None:
                raise DataError("the score of the same questions is not there")
            real, probed = (Evaluation.load(known[each][0], RECORDS) for each in (score, place))
            comparison = compare_probe(benchmark_of(certificate), real, probed)
        except DataError as error:
            stale = (directory / PROBE).exists()
            (directory / PROBE).unlink(missing_ok=True)
            if stale:
                yield ComparedAgain(directory, reason=str(error))
        else:
            write_probe(directory, known[score][0], comparison)
            alike = scored_alike(certificate, known[score][1])
            other = "" if alike else f"other rewards scored {known[score][0]}; score both again"
            yield ComparedAgain(directory, comparison, other)


def _score_of(place: Path, certificate: Certificate, known: Mapping[Path, tuple[Path, Certificate]]) -> Path | None:
    """The score that a probe is compared to: of copies of one model, that beside it and of the same name."""
    wanted = certificate.score.digest
    found = [each for each, (_, other) in known.items() if not other.probe and other.digest == wanted]

    def nearness(each: Path) -> tuple[bool, bool]:
        return each.parent.parent == place.parent.parent, known[each][1].model == certificate.model

    return max(found, key=nearness, default=None)


def _certificates(directories: Iterable[Path]) -> dict[Path, tuple[Path, Certificate]]:
    """The results in these directories and beside them, by place: each as it is named to the user, with its
    certificate. One that cannot be read is left out."""
    named: dict[Path, Path] = {}
    for directory in directories:
        named[directory.resolve()] = directory
    for place, directory in list(named.items()):
        own = _certificate(directory)
        if own is not None and place.parent.name == own.benchmark:
            for found in sorted(place.parent.parent.glob(f"*/*/{CERTIFICATE}")):
                named.setdefault(found.parent.resolve(), found.parent)
    read = {place: (directory, _certificate(directory)) for place, directory in named.items()}
    return {place: (directory, found) for place, (directory, found) in read.items() if found is not None}


def _certificate(directory: Path) -> Certificate | None:
    try:
        return Certificate.load(directory)
    except DataError:
        return None
