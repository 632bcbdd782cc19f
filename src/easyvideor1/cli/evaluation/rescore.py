"""``evr1 eval rescore``: score the answers of results again, without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from easyvideor1.evaluation import Benchmark
    from easyvideor1.evaluation.certificate import Certificate
    from easyvideor1.evaluation.rescoring import Rescored

#: Questions that moved and are named.
_SHOWN = 20


def command(
    results: Annotated[list[Path], typer.Argument(help="Directories of results, or directories above them.")],
    config: Annotated[
        str, typer.Option(help="Configuration whose rewards are used; by default those of each result's certificate.")
    ] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(help="BENCHMARK=LOCATION or module:attr=LOCATION of a benchmark with a scorer of its own."),
    ] = None,
) -> None:
    """Score the answers of results again, with today's rewards; no model is needed and nothing is asked.

    The differences of probes that rest on these results are made again, too.
    """
    from easyvideor1.cli.evaluation.printing import compare_probes_again, print_result
    from easyvideor1.cli.progress import progress
    from easyvideor1.config import RewardConfig, load_config, located
    from easyvideor1.config.schema import EvaluationConfig
    from easyvideor1.evaluation import open_benchmark
    from easyvideor1.evaluation.certificate import RECORDS, Certificate, find_results
    from easyvideor1.evaluation.certify import reward_facts
    from easyvideor1.evaluation.numbers import benchmark_of
    from easyvideor1.evaluation.rescoring import rescore
    from easyvideor1.evaluation.scoring import scoring_threads
    from easyvideor1.rewards import Scorer
    from easyvideor1.types import DataError

    given = {target.partition("=")[0]: open_benchmark(target) for target in data or ()}
    settings = located(load_config(config)) if config else None
    found = find_results(results)
    if not found:
        raise DataError(f"{', '.join(map(str, results))}: no result there; a result's directory has certificate.json")
    finished = [each for each in found if (each / f"{RECORDS}.json").exists()]
    for directory in found:
        if directory not in finished:
            typer.echo(f"left out, because its evaluation is not finished: {directory}", err=True)
    if not finished:
        raise DataError("no evaluation is finished; start evr1 eval run again, then score")
    scored: list[Path] = []
    try:
        for directory in finished:
            certificate = Certificate.load(directory)
            used = settings.rewards if settings else RewardConfig.model_validate(certificate.scoring["rewards"])
            benchmark = _benchmark(certificate, given)
            scorer = Scorer(used) if benchmark is None else benchmark.open_scorer(used)
            bound = (settings.evaluation if settings else EvaluationConfig()).max_failed
            with progress(f"scoring {certificate.benchmark}", unit="answer") as advance:
                done = rescore(
                    directory,
                    scorer,
                    reward_facts(used),
                    threads=scoring_threads(used),
                    max_failed=bound,
                    on_progress=advance,
                )
            scored.append(directory)
            # Rows that no benchmark names have the metrics of a file of rows.
            shown = benchmark or (
                benchmark_of(certificate, own_code=True) if certificate.scoring.get("benchmark") else None
            )
            refused = certificate.asking.get("questions", {}).get("refused", 0)
            print_result(directory, certificate.benchmark, done.after, shown, refused=refused, timed=False)
            _print_moved(done)
    finally:  # also where a later result stops the command
        compare_probes_again(scored, given)


def _print_moved(done: Rescored) -> None:
    moved = done.moved
    typer.echo(f"  {len(moved)} of {done.after.count} questions moved" + (":" if moved else ""))
    for each in moved[:_SHOWN]:
        typer.echo(f"    {each.sample}: {_words(each.before)} -> {_words(each.after)}")
    if len(moved) > _SHOWN:
        typer.echo(f"    and {len(moved) - _SHOWN} more")


def _benchmark(certificate: Certificate, given: Mapping[str, Benchmark]) -> Benchmark | None:
    """The benchmark of a result, ``given`` by what it was named by, or without a location; ``None`` for rows that are
    scored by the rewards.

    Raises:
        ConfigError: it had a scorer of its own, and is not found without a location.
    """
    from easyvideor1.benchmarks import BENCHMARKS, Benchmark
    from easyvideor1.benchmarks.benchmark import load_definitions
    from easyvideor1.benchmarks.probes import PROBES
    from easyvideor1.types import ConfigError

    target, own = certificate.scoring.get("benchmark", ""), certificate.scoring.get("scorer", "")
    load_definitions()
    known = target in BENCHMARKS.names() or ":" in target
    found: Any = given[target] if target in given else BENCHMARKS.resolve(target) if known else None
    if isinstance(found, Benchmark):
        if certificate.probe in PROBES.names():
            return found.probed(PROBES.resolve(certificate.probe))
        # A probe of the user's own: whether it kept the scorer is in the certificate.
        return replace(found, scorer=None, scoring=None) if certificate.probe and not own else found
    if own:
        raise ConfigError(
            f"the benchmark {certificate.benchmark} has a scorer of its own ({own}); give --data {target}=LOCATION"
        )
    return None


def _words(accuracy: float | None) -> str:
    return "not scored" if accuracy is None else f"{accuracy:.3g}"
