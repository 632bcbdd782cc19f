"""What a terminal shows of a result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from easyvideor1.evaluation import Benchmark, Evaluation, Interval
    from easyvideor1.evaluation.certificate import Certificate
    from easyvideor1.evaluation.probing import ProbeComparison

#: Ids of failed questions that are named for each reason; all are in result.json.
_SHOWN = 8
#: Numbers over the responses alone; in all others a failed question is wrong.
_ANSWERED = ("greedy accuracy", "sampled accuracy")


def print_result(
    directory: Path,
    label: str,
    result: Evaluation,
    benchmark: Benchmark | None,
    *,
    refused: int = 0,
    timed: bool = True,
) -> None:
    """Print the numbers of a result with their intervals, the form of its answers and its failures; with ``timed`` also
    where its time went."""
    from easyvideor1.benchmarks.judging import agreement
    from easyvideor1.benchmarks.preparation import release_words
    from easyvideor1.evaluation.numbers import numbers_of
    from easyvideor1.evaluation.sampled import sampled_numbers
    from easyvideor1.evaluation.summary import form_words

    numbers: dict[str, tuple[Interval | float | None, float]] = {}
    if benchmark is None:
        numbers["greedy accuracy"] = (result.greedy, 1.0)
    else:
        found = numbers_of(benchmark, result, breakdown=False)
        numbers |= {number.name: (number.interval, number.scale) for number in found}
    samples = max((len(record.trajectories) for record in result.records), default=0)
    if samples:
        numbers["sampled accuracy"] = (result.sampled, 1.0)
    drawn = sampled_numbers(result.records, samples, confidence=result.confidence, seed=result.seed)
    numbers |= {name: (interval, 1.0) for name, interval in drawn.items()}
    typer.echo(f"{label}: {result.count} questions, {refused} refused, {result.failed} failed")
    if benchmark is not None and (words := release_words(benchmark)):
        typer.echo(f"  {words}")
    for name, (interval, scale) in numbers.items():
        if interval is not None:
            of = f" of the {result.count - result.failed} answered" if name in _ANSWERED and result.failed else ""
            typer.echo(f"  {name} {_shown(interval, scale)}{of}")
    if form := result.overall.form_with_format():
        typer.echo(f"  {form_words(form)}")
    agreed = agreement(record.greedy.score for record in result.records if record.greedy is not None)
    if agreed.count:
        typer.echo(f"  {agreed}")
    for line in failure_lines(result):
        typer.echo(f"  {line}")
    if timed and (words := _idle(directory)):
        typer.echo(f"  {words}")
    typer.echo(f"wrote {directory / 'result.json'}")


def print_probe(directory: Path, title: str, found: ProbeComparison) -> None:
    """Print how much a probe changes the numbers, pair by pair; ``probe.json`` of its directory has been written."""
    from easyvideor1.evaluation.certificate import PROBE

    failed = f"; {found.failed} that failed in either are left out" if found.failed else ""
    typer.echo(f"  {title}, beside the same {found.count} questions as they are{failed}:")
    for each in found.differences:
        digits = 4 if each.scale == 1.0 else 2
        before, after = (f"{each.scale * number:.{digits}f}" for number in (each.before, each.after))
        typer.echo(f"  {each.metric} {before} -> {after}, difference {_shown(each.interval, each.scale)}")
    typer.echo(f"wrote {directory / PROBE}")


def compare_probes_again(
    changed: Collection[Path], given: Mapping[str, Benchmark], written: Collection[Path] = ()
) -> None:
    """Make and print the differences of all probes that rest on results which have changed.

    Args:
        changed: directories of these results.
        given: benchmarks by what they were named by; others are found by the certificates.
        written: directories of probes that were compared already.
    """
    from easyvideor1.benchmarks.probes import PROBES
    from easyvideor1.evaluation.certificate import PROBE, Certificate
    from easyvideor1.evaluation.numbers import benchmark_of
    from easyvideor1.evaluation.probing import compare_again

    def benchmark(certificate: Certificate) -> Benchmark:
        return given.get(certificate.scoring.get("benchmark", "")) or benchmark_of(certificate.score, own_code=True)

    for each in compare_again(changed, benchmark, written):
        certificate = Certificate.load(each.directory)
        typer.echo(f"{certificate.benchmark}: {each.directory}")
        if each.comparison is None:
            typer.echo(f"  removed {each.directory / PROBE}, which is of earlier scores: {each.reason}")
            continue
        known = certificate.probe in PROBES.names()
        title = PROBES.resolve(certificate.probe).title if known else certificate.probe
        print_probe(each.directory, title, each.comparison)
        if each.reason:
            typer.echo(f"  note: {each.reason}")


def failure_lines(result: Evaluation) -> list[str]:
    """The failed questions by reason, the most frequent first, with their ids."""
    reasons: dict[str, list[str]] = {}
    for record in result.records:
        if record.error is not None:
            reasons.setdefault(_kind(record.error, (media.path for media in record.media)), []).append(record.sample)
        elif record.greedy is not None and not record.greedy.score.applicable:
            reasons.setdefault(f"not scored: {record.greedy.score.reason}", []).append(record.sample)
    lines = []
    for reason, ids in sorted(reasons.items(), key=lambda each: -len(each[1])):
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        lines.append(f"{len(ids)} with {reason}: {', '.join(ids[:_SHOWN])}{more}")
    return lines


def _kind(error: str, paths: Iterable[str]) -> str:
    """A reason without the path in it, so that what has one cause is one line."""
    for path in paths:
        error = error.replace(f"{path}: ", "").replace(path, "the file")
    return error


def _shown(interval: Interval | float, scale: float) -> str:
    digits = 4 if scale == 1.0 else 2
    if isinstance(interval, float):
        return f"{scale * interval:.{digits}f}"
    mean, low, high = (f"{scale * value:.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def _idle(directory: Path) -> str:
    """What the engine waited for, of the last start that asked anything."""
    from easyvideor1.evaluation.timings import TIMINGS
    from easyvideor1.files import read_json

    if not (directory / TIMINGS).exists():
        return ""
    found = read_json(directory / TIMINGS)
    engine = found["engine"]
    return (
        f"{found['questions']} questions in {found['seconds']:.1f} s; the engine was idle for "
        f"{engine['idle_share']:.1%} of its time, {engine['waited_for_frames']:.1f} s of it waiting for frames"
    )
