"""``evr1 doctor CONFIG``: whether the benchmarks that a run is measured on are there, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from easyvideor1.cli.findings import Finding

if TYPE_CHECKING:
    from easyvideor1.benchmarks import Benchmark
    from easyvideor1.cli.evaluation.questions import Judging
    from easyvideor1.config import RunConfig


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there of a benchmark: the questions that a run would ask, of how many rows, how many rows are refused,
    how many files the questions show, which of these are missing, and how many questions show a missing one."""

    questions: int
    rows: int
    refused: int
    files: int
    missing: Sequence[str]
    lost: int


def check_benchmarks(config: RunConfig, overrides: Sequence[str]) -> list[Finding]:
    """The benchmarks of ``evaluation.benchmarks``: their annotations, rows, media and judges.

    They are read as a run reads them, down to the media files, of which it is only looked whether they are there.
    Nothing is written beside the benchmarks or into the cache.
    """
    from easyvideor1.cli.evaluation.questions import Judging, evaluation_names
    from easyvideor1.cli.progress import progress
    from easyvideor1.types import ConfigError

    targets = config.evaluation.benchmarks
    if not targets:
        return []
    findings: list[Finding] = []
    judging = Judging(config.rewards)
    opened: list[Benchmark] = []
    with progress("looking at benchmarks", unit="benchmark") as advance:
        for number, target in enumerate(targets):
            findings.append(_finding(number, target, config, overrides, judging, opened))
            advance(number + 1, len(targets))
    try:
        if opened:
            evaluation_names(opened)
    except ConfigError as error:
        findings.append(Finding("evaluation.benchmarks", "broken", str(error), "leave out one of them"))
    return findings


def _finding(
    number: int,
    target: str,
    config: RunConfig,
    overrides: Sequence[str],
    judging: Judging,
    opened: list[Benchmark],
) -> Finding:
    """What is there of one benchmark, which is added to those ``opened``."""
    import tempfile

    from easyvideor1.benchmarks import open_benchmark
    from easyvideor1.types import EasyVideoError

    key = f"evaluation.benchmarks.{number}"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            benchmark = open_benchmark(target, scratch=Path(scratch))
            opened.append(benchmark)
            judging.scorer(benchmark)
            return _described(key, target, benchmark, _found(benchmark, config, overrides, Path(scratch)), config)
    except (EasyVideoError, OSError) as error:
        fault, _, remedy = str(error).partition(" - ")
        return Finding(key, "broken", f"{target}: {fault}", remedy or "correct it, or leave the benchmark out")


def _found(benchmark: Benchmark, config: RunConfig, overrides: Sequence[str], scratch: Path) -> _Found:
    """Read the rows of a benchmark and look for their files.

    Raises:
        ConfigError: the overrides contradict its budget.
        DataError: its rows are not there, or bad.
    """
    from easyvideor1.cli.evaluation.questions import benchmark_settings
    from easyvideor1.evaluation.asking import choose_samples

    own = benchmark_settings(benchmark, config, overrides)
    cache = own.cache.model_copy(update={"dir": str(scratch)})  # media in the rows themselves are unpacked there
    loaded = benchmark.load(own.model_copy(update={"cache": cache}))
    asked = choose_samples(loaded.samples, own.evaluation.max_samples, own.seed)
    shown = dict.fromkeys(ref.path for sample in asked for ref in sample.media)
    missing = [path for path in shown if not Path(path).exists()]
    gone = set(missing)
    lost = sum(any(ref.path in gone for ref in sample.media) for sample in asked)
    return _Found(len(asked), len(loaded.samples), len(loaded.bad) + _refused(benchmark), len(shown), missing, lost)


def _refused(benchmark: Benchmark) -> int:
    """Rows of a release that did not become rows of ours."""
    from easyvideor1.benchmarks.preparation import load_report

    return len(load_report(Path(benchmark.rows).parent)["refused"]) if benchmark.layouts and benchmark.rows else 0


def _described(key: str, target: str, benchmark: Benchmark, found: _Found, config: RunConfig) -> Finding:
    chosen = "" if found.questions == found.rows else f" of {found.rows:,}, as evaluation.max_samples says"
    words = [f"{_count(found.questions, 'question')}{chosen}"]
    if short := benchmark.count is not None and benchmark.count != found.rows:
        words.append(f"where the benchmark has {benchmark.count:,}")
    words += [f"{_count(found.refused, 'row')} refused"] if found.refused else []
    if not found.missing:
        words.append(f"all {_count(found.files, 'media file')} there")
        incomplete = short or found.refused > 0
        more = f"evr1 eval prepare {benchmark.name} --from {target.partition('=')[2]} says why"
        remedy = more if incomplete and benchmark.layouts else ""
        return Finding(key, "note" if incomplete else "ok", f"{target}: {', '.join(words)}", remedy)
    words.append(
        f"{len(found.missing):,} of {_count(found.files, 'media file')} missing, such as {found.missing[0]}, which "
        f"costs {_count(found.lost, 'question')}"
    )
    bound = config.evaluation.max_failed
    stops = found.lost > bound * found.questions
    what = f"a run would stop: more than evaluation.max_failed ({bound:g})" if stops else "these count as wrong"
    return Finding(key, "broken" if stops else "note", f"{target}: {', '.join(words)}", f"get the files; {what}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
