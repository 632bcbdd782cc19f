"""A run: data checked, frames cached, stages trained one after the other, everything resumable."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from easyvideor1 import __version__
from easyvideor1.config import RunConfig, StageConfig, dump_config
from easyvideor1.data import Loaded
from easyvideor1.files import write_json, write_text
from easyvideor1.models.policy import Policy
from easyvideor1.rollout.engine import Engine
from easyvideor1.training.checkpoint import checkpoint_path, intact_state, latest_checkpoint
from easyvideor1.training.loop import Metrics, train
from easyvideor1.training.record import StageRecord
from easyvideor1.training.stages import build_stage, stage_directory
from easyvideor1.types import ConfigError, Sample
from easyvideor1.video import build
from easyvideor1.workbench import Workbench

#: ``evaluate(name, samples, engine, bench, run_dir) -> metrics``: given by whoever puts the run together.
EvaluateRun = Callable[[str, Sequence[Sample], Engine, Workbench, Path], Metrics]


class Watch(Protocol):
    """Who looks at a run while it goes on."""

    def phase(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress display for a long piece of work, as a function ``(done, total)``."""
        ...

    def step(self, stage: str, step: int, steps: int, metrics: Metrics) -> None:
        """A training step is done."""
        ...

    def say(self, text: str) -> None:
        """A line for the reader."""
        ...


def run(config: RunConfig, *, evaluate: EvaluateRun, watch: Watch) -> Path:
    """Do, or finish, what ``config`` describes, and return the run directory.

    Called again with the same configuration after a kill, it goes on from the last checkpoint and ends with the same
    weights and metrics as a run that was never interrupted. A finished run returns at once.

    Raises:
        ConfigError: the directory holds a run of another configuration, or another process is at it.
        DataError: rows are bad and ``data.on_bad_row`` is ``error``; nothing has been trained or changed then.
    """
    if not config.stages:
        raise ConfigError("the configuration has no stages: there is nothing to do; see `evr1 config show quickstart`")
    run_dir = Path(config.output_dir.format(name=config.name, seed=config.seed))
    with _claimed(run_dir):
        _open_directory(run_dir, config)
        if config.threads:
            torch.set_num_threads(config.threads)
        bench = Workbench.open(config)
        sources, validation, test = _load_data(config, bench, run_dir, watch)
        start = bench.checkpoint
        questions = [sample for source in test for sample in source.samples]
        for number, options in enumerate(config.stages):
            if questions and number == 0:
                _evaluate_once("before", start, questions, bench, run_dir, evaluate)
            directory = stage_directory(run_dir, config, options)
            start = _run_stage(options, config, start, bench, sources, validation, run_dir, evaluate, watch)
            if questions:
                _evaluate_once(directory.name, start, questions, bench, run_dir, evaluate)
    return run_dir


def evaluation_names(config: RunConfig) -> tuple[str, str]:
    """Names of the test evaluations before and after the last stage."""
    names = ["before", *(stage_directory(Path(), config, stage).name for stage in config.stages)]
    return names[-2], names[-1]


def _run_stage(
    options: StageConfig,
    config: RunConfig,
    start: Path,
    bench: Workbench,
    sources: Sequence[Loaded],
    validation: Sequence[Loaded],
    run_dir: Path,
    evaluate: EvaluateRun,
    watch: Watch,
) -> Path:
    """Train one stage from ``start``, or go on with it, and return its last checkpoint."""
    directory = stage_directory(run_dir, config, options)
    final = checkpoint_path(directory, options.steps)
    if intact_state(final) is not None:
        return final
    policy = Policy.open(config.model, start)
    policy.begin(options)
    found = latest_checkpoint(directory)
    done = 0
    if found is not None:
        checkpoint, done = found
        policy.restore(checkpoint)
        watch.say(f"stage {options.name}: going on after step {done} from {checkpoint}")
    record = StageRecord(directory)
    record.rewind(done)
    engine = bench.open_engine(policy.model)
    engine.load_weights(done, policy.weights())
    held_out = [sample for source in validation for sample in source.samples]
    stage = build_stage(
        options,
        config,
        bench=bench,
        policy=policy,
        engine=engine,
        sources=sources,
        record=record,
        evaluate=lambda name, running: evaluate(name, held_out, running, bench, run_dir) if held_out else {},
        on_step=watch.step,
    )
    train(stage, done)
    return final


def _evaluate_once(
    name: str, checkpoint: Path, samples: Sequence[Sample], bench: Workbench, run_dir: Path, evaluate: EvaluateRun
) -> None:
    if (run_dir / "evaluations" / f"{name}.json").exists():
        return
    policy = Policy.open(bench.config.model, checkpoint)
    evaluate(name, samples, bench.open_engine(policy.model), bench, run_dir)


def _load_data(
    config: RunConfig, bench: Workbench, run_dir: Path, watch: Watch
) -> tuple[list[Loaded], list[Loaded], list[Loaded]]:
    """All rows of all splits, checked down to the exact prompt length and to decoded frames, before anything trains."""
    if not config.data.train:
        raise ConfigError("data.train names no source: give at least one JSONL file of rows")
    splits = {"train": config.data.train, "validation": config.data.validation, "test": config.data.test}
    loaded: dict[str, list[Loaded]] = {}
    for split, sources in splits.items():
        with watch.phase(f"checking {split} rows", "row") as advance:
            loaded[split] = bench.load_sources(sources, advance) if sources else []
    loaded = _fill_cache(bench, loaded, watch)
    report = {split: [source.report.to_dict() for source in sources] for split, sources in loaded.items()}
    write_json(run_dir / "data_report.json", report)
    for split, checked in loaded.items():
        for source in checked:
            counts = f"{len(source.samples)} samples of {source.rows} rows, {len(source.bad)} bad"
            watch.say(f"{split}: {source.path}: {counts}")
    return loaded["train"], loaded["validation"], loaded["test"]


def _fill_cache(bench: Workbench, loaded: dict[str, list[Loaded]], watch: Watch) -> dict[str, list[Loaded]]:
    """Decode what the store lacks; samples whose media cannot be decoded leave as ``data.on_bad_row`` says."""
    items = bench.media_plans([source for sources in loaded.values() for source in sources])
    with watch.phase("building the frame cache", "file") as advance:
        report = build(items, bench.store, bench.ledger, bench.config.cache, advance)
    watch.say(f"frame cache: {report.built} built, {report.present} already there, {report.failed} failed")
    return {
        split: [bench.without_failed(source, dict(report.failures)) for source in sources]
        for split, sources in loaded.items()
    }


def _open_directory(run_dir: Path, config: RunConfig) -> None:
    text = dump_config(config)
    file = run_dir / "config.yaml"
    if file.exists():
        if file.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{run_dir} holds a run of another configuration ({file} differs). Give this one another name or "
                "output_dir, or remove the directory to start over."
            )
        return
    write_text(file, text)
    versions: dict[str, Any] = {"easyvideor1": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "av", "numpy"):
        versions[package] = __import__(package).__version__
    facts = {"name": config.name, "seed": config.seed, "command": sys.argv, "versions": versions}
    write_json(
        run_dir / "run.json",
        {**facts, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "threads": torch.get_num_threads()},
    )


@contextmanager
def _claimed(run_dir: Path) -> Iterator[None]:
    """Hold the run directory for this process; the lock goes with the process, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{run_dir} is in use by another process; wait for it, or give another name") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
