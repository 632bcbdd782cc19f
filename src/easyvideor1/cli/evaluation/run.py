"""``evr1 eval run``: evaluate a model on benchmarks or on rows of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, GenerationOverrides
from easyvideor1.cli.evaluation.questions import (
    Judging,
    benchmark_settings,
    evaluation_names,
    read_questions,
    with_samples,
)

if TYPE_CHECKING:
    from contextlib import ExitStack

    from easyvideor1.benchmarks import ScoreFunction
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.components import Components
    from easyvideor1.config import RunConfig
    from easyvideor1.engines.engine import Engine
    from easyvideor1.evaluation import Benchmark, Evaluation
    from easyvideor1.evaluation.asking import Asking
    from easyvideor1.evaluation.pipeline import Planned
    from easyvideor1.evaluation.timings import Timings
    from easyvideor1.types import Sample


def command(
    config: ConfigArgument,
    overrides: GenerationOverrides = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint, or a run directory for its last checkpoint, RUN@best, RUN@STAGE; model.path by default."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="File of rows, BENCHMARK=LOCATION or module:attr=LOCATION. Repeatable. By default data.test of the "
            "configuration, or its evaluation.benchmarks if it has no data.test."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Directory of results; each has OUT/BENCHMARK/MODEL-DIGEST of its own.")
    ] = Path("evaluations"),
    name: Annotated[
        str, typer.Option(help="Name of the evaluation; by default the name of the benchmark, or 'test'.")
    ] = "",
    samples: Annotated[
        int | None,
        typer.Option(min=0, help="Sampled responses beside the greedy one, for pass@k and majority votes."),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask every benchmark again in another way: blind, one_frame, shuffled_frames, shuffled_options, "
            "none_of_the_above, open, or module:attr. Repeatable."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask questions again that failed at an earlier start.")
    ] = False,
) -> None:
    """Evaluate a model, with the prompts, frames and rewards of a configuration. Started again, it finishes the rest.

    Without --samples, responses are greedy, unless the configuration sets evaluation.samples.
    """
    from contextlib import ExitStack

    from rich.console import Console

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.config import load_config, located
    from easyvideor1.files import check_writable

    settings = with_samples(located(load_config(config, overrides or ())), samples)
    data = data or ([] if settings.data.test else list(settings.evaluation.benchmarks))
    judging = Judging(settings.rewards)
    judging.check(data or ())  # a release that is not prepared is read when it is opened
    targets = _targets(data or (), probe or (), Path(settings.cache.dir) / "benchmarks")
    for _, named in targets:
        judging.scorer(named)
    if not targets:
        _check_test_rows(settings, probe)
    names = evaluation_names([benchmark for _, benchmark in targets], name)
    check_writable(out)
    # From here on a model is needed: what is wrong with the command has been told without the seconds that torch takes.
    import torch

    from easyvideor1.components import Components

    if settings.threads:
        torch.set_num_threads(settings.threads)
    watch = TerminalWatch(Console(stderr=True))
    checkpoint = None if checkpoint is None else checkpoint_to_use(checkpoint, settings)
    chosen = _configured(targets, settings, overrides or ())
    with Components.open(settings, checkpoint) as shared, ExitStack() as opened:
        asked = []
        for label, (target, benchmark, own) in zip(names, chosen, strict=True):
            components = shared if benchmark is None else shared.variant(own, benchmark.shown)
            asked.append(_planned(label, target, benchmark, components, watch, judging))
        shared.frames.close()  # memory for the engine: processes that decode are started again when they are needed
        _evaluate_all(asked, opened, out, watch, retry_failed=retry_failed)


def _check_test_rows(settings: RunConfig, probe: Sequence[str] | None) -> None:
    """Refuse a command without ``--data`` where the configuration has no questions either, or probes are asked for."""
    from easyvideor1.types import ConfigError

    if probe:
        raise ConfigError("--probe asks the questions of --data again; name them, as --data FILE --probe NAME")
    if not settings.data.test:
        raise ConfigError(
            "no questions; give --data FILE, or set data.test or evaluation.benchmarks in the configuration"
        )


@dataclass(frozen=True, slots=True)
class _Questions:
    """A benchmark with its questions, checked and planned; ``benchmark`` is ``None`` for ``data.test``."""

    label: str
    target: str
    benchmark: Benchmark | None
    components: Components
    scorer: ScoreFunction
    samples: Sequence[Sample]
    planned: Sequence[Planned]
    refused: int


def _evaluate_all(
    asked: Sequence[_Questions], opened: ExitStack, out: Path, watch: TerminalWatch, *, retry_failed: bool
) -> None:
    """Evaluate and print one after the other, with one engine, which is opened when it is first needed: benchmarks
    share model and cache, and frames are read by their plans."""
    from contextlib import closing

    from easyvideor1.cli.evaluation.printing import compare_probes_again, print_probe, print_result
    from easyvideor1.evaluation.probing import compare_probe, write_probe

    engines: list[Engine] = []

    def engine() -> Engine:
        if not engines:
            engines.append(opened.enter_context(closing(asked[0].components.open_engine())))
        return engines[0]

    plain: dict[str, tuple[Path, Evaluation]] = {}  # by target: what its probes are compared to
    changed: list[Path] = []
    probes: list[Path] = []
    given = {
        each.target.partition("=")[0]: each.benchmark for each in asked if each.benchmark and not each.benchmark.probe
    }
    try:
        for each in asked:
            directory, result, is_new = _evaluated(each, engine, out, watch, retry_failed=retry_failed)
            changed += [directory] if is_new else []
            print_result(directory, each.label, result, each.benchmark, refused=each.refused)
            if each.benchmark is not None and each.benchmark.probe is not None:
                real, score = plain[each.target]
                compared = compare_probe(each.benchmark, score, result)
                write_probe(directory, real, compared)
                print_probe(directory, each.benchmark.probe.title, compared)
                probes.append(directory)
            plain.setdefault(each.target, (directory, result))
    finally:  # a benchmark that stops leaves the results before it, which the next start does not find new
        compare_probes_again(changed, given, probes)


def _configured(
    targets: Sequence[tuple[str, Benchmark]], settings: RunConfig, overrides: Sequence[str]
) -> list[tuple[str, Benchmark | None, RunConfig]]:
    """Every benchmark with the configuration that it is asked with; without any, ``data.test`` with ``settings``.

    Raises:
        ConfigError: as ``benchmark_settings``.
    """
    found = [(target, each, benchmark_settings(each, settings, overrides)) for target, each in targets]
    return [*found] or [("", None, settings)]


def _targets(data: Sequence[str], probes: Sequence[str], workspace: Path) -> list[tuple[str, Benchmark]]:
    """What the command line names, each followed by its probes; rows of a release that cannot be written go into
    ``workspace``."""
    from easyvideor1.benchmarks.probes import PROBES
    from easyvideor1.evaluation import open_benchmark

    found = []
    for target in data:
        benchmark = open_benchmark(target, workspace)
        found.append((target, benchmark))
        found += [(target, benchmark.probed(PROBES.resolve(probe))) for probe in probes]
    return found


def _planned(
    label: str,
    target: str,
    benchmark: Benchmark | None,
    components: Components,
    watch: TerminalWatch,
    judging: Judging,
) -> _Questions:
    """The questions of a benchmark, their prompts planned; nothing is decoded."""
    from easyvideor1.evaluation.pipeline import plan_prompts

    found = read_questions(label, benchmark, components, watch, judging)
    with watch.phase(f"planning {label}", "question") as advance:
        planned = plan_prompts(found.samples, components.strategy, advance)
    return _Questions(label, target, benchmark, components, found.scorer, found.samples, planned, found.refused)


def _evaluated(
    asked: _Questions, engine: Callable[[], Engine], out: Path, watch: TerminalWatch, *, retry_failed: bool
) -> tuple[Path, Evaluation, bool]:
    """Evaluate into the result's directory, which is returned beside the result and whether it is another one than an
    earlier start left there."""
    from easyvideor1.evaluation.asking import Asking
    from easyvideor1.evaluation.certificate import RECORDS
    from easyvideor1.evaluation.certify import certify
    from easyvideor1.evaluation.pipeline import Questions, evaluate_into
    from easyvideor1.evaluation.scoring import scoring_threads
    from easyvideor1.files import file_digest

    components = asked.components
    config = components.config
    certificate = certify(
        components,
        asked.benchmark,
        name=asked.label,
        target=asked.target,
        prompts=[each.digest for each in asked.planned],
        refused=asked.refused,
    )
    questions = Questions(
        asked.samples,
        asked.planned,
        asked.scorer,
        config.evaluation,
        config.seed,
        scoring_threads=scoring_threads(config.rewards),
    )

    def asking(timings: Timings) -> Asking:
        return Asking.of(components, engine(), timings.spans)

    directory = certificate.directory(out)
    records = directory / f"{RECORDS}.jsonl"
    before = file_digest(records) if records.exists() else ""
    with watch.phase(f"evaluating {asked.label}", "question") as advance:
        result = evaluate_into(
            directory,
            certificate,
            questions,
            asking,
            retry_failed=retry_failed,
            on_progress=advance,
            say=watch.say,
        )
    return directory, result, file_digest(records) != before
