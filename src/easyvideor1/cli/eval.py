"""``evr1 eval``: evaluate a checkpoint on held-out questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, GenerationOverrides

if TYPE_CHECKING:
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.components import Components
    from easyvideor1.data import Loaded
    from easyvideor1.engines.engine import Engine
    from easyvideor1.evaluation import Benchmark, Evaluation
    from easyvideor1.evaluation.evaluate import ScoreFunction
    from easyvideor1.types import Sample


def evaluate(
    config: ConfigArgument,
    overrides: GenerationOverrides = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint, or a run directory for its last checkpoint; model.path by default."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="File of rows, BENCHMARK=LOCATION or module:attr=LOCATION. Repeatable. data.test of the "
            "configuration by default."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for NAME.json and NAME.jsonl.")] = Path("evaluations"),
    name: Annotated[
        str, typer.Option(help="Name of the evaluation; by default the name of the benchmark, or 'test'.")
    ] = "",
) -> None:
    """Evaluate a checkpoint on held-out questions, with the prompts, frames and rewards of a configuration."""
    from contextlib import closing

    import torch
    from rich.console import Console

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.components import Components
    from easyvideor1.config import load_config, located
    from easyvideor1.evaluation import open_benchmark
    from easyvideor1.files import check_writable
    from easyvideor1.types import ConfigError

    settings = located(load_config(config, overrides or ()))
    benchmarks: list[Benchmark | None] = [open_benchmark(target) for target in data or ()]
    if not benchmarks and not settings.data.test:
        raise ConfigError("no questions; give --data FILE, or set data.test in the configuration")
    names = _names(benchmarks, name)
    check_writable(out)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    watch = TerminalWatch(Console(stderr=True))
    prepared = []
    checkpoint = None if checkpoint is None else checkpoint_to_use(checkpoint)
    for benchmark in benchmarks or [None]:
        components = Components.open(settings if benchmark is None else benchmark.configure(settings), checkpoint)
        prepared.append((benchmark, components, *_questions(benchmark, components, watch)))
    model = prepared[0][1].open_policy().model
    for label, (benchmark, components, samples, refused) in zip(names, prepared, strict=True):
        with components, closing(components.open_engine(model)) as engine:
            scorer = None if benchmark is None else benchmark.scorer
            result = evaluate_and_write(label, samples, engine, components, out, watch=watch, scorer=scorer)
        numbers = {"greedy accuracy": result.greedy.mean} if result.greedy else {}
        if result.sampled:
            numbers["sampled accuracy"] = result.sampled.mean
        if benchmark is not None:
            numbers |= benchmark.aggregate(result)
        shown = ", ".join(f"{key} {value:.4f}" for key, value in numbers.items())
        typer.echo(f"{label}: {result.count} questions, {refused} refused, {result.failed} failed: {shown}")
        typer.echo(f"wrote {out / f'{label}.json'}")


def _names(benchmarks: Sequence[Benchmark | None], name: str) -> list[str]:
    """A name for each evaluation; they become file names, so they must differ.

    Raises:
        ConfigError: two names are equal.
    """
    from easyvideor1.types import ConfigError

    own = [benchmark.name if benchmark else "test" for benchmark in benchmarks or [None]]
    if name:
        own = [name] if len(own) == 1 else [f"{name}-{each}" for each in own]
    if len(set(own)) < len(own):
        raise ConfigError(f"two benchmarks have the same name: {', '.join(own)}; evaluate them one by one")
    return own


def _questions(benchmark: Benchmark | None, components: Components, watch: TerminalWatch) -> tuple[list[Sample], int]:
    """The usable samples, with their frames in the cache, and the number of rows that were refused."""
    from easyvideor1.data import shared_ids_note

    _ = components.family  # before rows are read: a wrong model fails at once
    with watch.phase("checking rows", "row") as advance:
        loaded: list[Loaded]
        if benchmark is None:
            loaded = components.load_sources(components.config.data.test, advance)
        else:
            loaded = components.check([benchmark.load(components.config)], advance)
    if benchmark is None or benchmark.scorer is None:
        components.scorer.try_out(sample for source in loaded for sample in source.samples)
    with watch.phase("building the frame cache", "file") as advance:
        built = components.fill_cache(loaded, advance)
    if note := shared_ids_note(loaded):
        watch.say(note)
    if built.rate_note:
        watch.say(built.rate_note)
    loaded = components.without_failed(loaded, built)
    return [sample for source in loaded for sample in source.samples], sum(len(source.bad) for source in loaded)


def evaluate_and_write(
    name: str,
    samples: Sequence[Sample],
    engine: Engine,
    components: Components,
    directory: Path,
    *,
    watch: TerminalWatch,
    scorer: ScoreFunction | None = None,
) -> Evaluation:
    """Evaluate and write ``directory/NAME.json`` and ``NAME.jsonl``; ``scorer`` replaces the configured one."""
    from easyvideor1.evaluation import evaluate, form_words

    judge = components.config.rewards.judge
    with watch.phase(f"evaluating {name}", "question") as advance:
        result = evaluate(
            name,
            samples,
            engine=engine,
            strategy=components.strategy,
            scorer=scorer or components.scorer,
            config=components.config.evaluation,
            sampling=components.sampling(),
            seed=components.config.seed,
            on_progress=advance,
            # Only calls to a judge gain from threads; without a judge, a custom reward need not be thread-safe.
            scoring_threads=judge.concurrency if judge.url else 1,
        )
    result.write(directory)
    shown = [
        f"{key.removeprefix('evaluation/')} accuracy {value:.3f}" for key, value in evaluation_metrics(result).items()
    ]
    failed = f", {result.failed} failed" if result.failed else ""
    watch.say(f"{name}: {', '.join(shown) or 'no response could be scored'} on {result.count} questions{failed}")
    if form := result.overall.form_with_format():
        watch.say(f"{name}: {form_words(form)}")
    return result


def evaluation_metrics(result: Evaluation) -> dict[str, float]:
    """``evaluation/greedy`` and ``evaluation/sampled``: mean accuracies, where any response could be scored."""
    found = {"greedy": result.greedy, "sampled": result.sampled}
    return {f"evaluation/{kind}": interval.mean for kind, interval in found.items() if interval is not None}
