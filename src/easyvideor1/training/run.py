"""A run: data checked, frames cached, stages trained one after the other, everything resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.kl import KLWeight
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.files import file_digest, is_sealed, sweep, write_json
from easyvideor1.models.policy import Policy, chosen_device
from easyvideor1.rollout.engine import Engine
from easyvideor1.training.checkpoint import (
    checkpoint_path,
    checkpoints,
    intact_state,
    latest_checkpoint,
    save_checkpoint,
    unsaved_words,
)
from easyvideor1.training.directory import (
    FINISHED,
    RunStatus,
    check_configuration,
    claimed,
    read_status,
    run_directory,
)
from easyvideor1.training.loggers import Loggers, check_loggers
from easyvideor1.training.loop import Metrics, train
from easyvideor1.training.material import Material, Watch, load_material
from easyvideor1.training.record import StageRecord
from easyvideor1.training.stages import OnStep, build_stage, due, stage_directory, validation_name
from easyvideor1.types import ConfigError, DataError, Sample
from easyvideor1.workbench import Workbench

#: ``evaluate(name, samples, engine, bench, run_dir) -> metrics``: given by whoever puts the run together. It writes
#: ``evaluations/NAME.json`` into the run directory, last and at once.
EvaluateRun = Callable[[str, Sequence[Sample], Engine, Workbench, Path], Metrics]


def run(config: RunConfig, *, evaluate: EvaluateRun, watch: Watch) -> Path:
    """Do, or finish, what ``config`` describes, and return the run directory.

    Called again with the same configuration after a kill, it goes on from the last checkpoint and ends with the same
    weights and metrics as a run that was never interrupted. A finished run returns at once.

    Raises:
        ConfigError: the directory holds a run of another configuration, or another process is at it.
        DataError: rows are bad and ``data.on_bad_row`` is ``error``; nothing has been trained or written then. Or what
            an earlier start has written is not what it wrote, and cannot be made again without the user's word.
    """
    if not config.stages:
        raise ConfigError("the configuration has no stages: there is nothing to do; see `evr1 config show quickstart`")
    run_dir = run_directory(config)
    check_loggers(config)
    with claimed(run_dir):
        check_configuration(run_dir, config)
        if _is_finished(run_dir, config):
            watch.say(f"{run_dir}: this run is finished")
            return run_dir
        sweep(run_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        # With several threads, the backward pass of indexing adds with atomics, in whatever order they come; a resumed
        # run would differ in the last digits. On a GPU the kernels that add in one order are slower, and not all have
        # such a form: there a resumed run is the same but for rounding.
        torch.use_deterministic_algorithms(chosen_device(config.model).type == "cpu", warn_only=True)
        with Workbench.open(config) as bench:
            material = load_material(bench.config, bench, watch)
            status = RunStatus.open(run_dir, config)
            if status.facts["threads"] != torch.get_num_threads():
                watch.say(
                    f"this run began with {status.facts['threads']} CPU threads and goes on with "
                    f"{torch.get_num_threads()}: results will differ in the last digits; set `threads` to avoid that"
                )
            write_json(run_dir / "data_report.json", material.report)
            loggers = Loggers(config, run_dir, watch.say)
            try:
                _Session(config, run_dir, bench, material, status, evaluate, watch, loggers).finish()
            finally:
                loggers.finish()
    return run_dir


def evaluation_names(config: RunConfig) -> tuple[str, str]:
    """Names of the test evaluations before and after the last stage."""
    names = _test_names(config)
    return names[-2], names[-1]


def _test_names(config: RunConfig) -> list[str]:
    return ["before", *(stage_directory(Path(), config, stage).name for stage in config.stages)]


def _is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether the run is through, and what it was done for is still there.

    Raises:
        DataError: the record of a stage is not what was written.
    """
    status = read_status(run_dir)
    if status is None or status["stage"] != FINISHED:
        return False
    names = _test_names(config) if config.data.test else []
    if not all(_is_whole(run_dir / "evaluations" / f"{name}.json") for name in names):
        return False
    state = None
    for options in config.stages:
        directory = stage_directory(run_dir, config, options)
        if not directory.is_dir():  # removed, to be done once more
            return False
        state = intact_state(checkpoint_path(directory, options.steps))
        if state is not None:
            _check_record(run_dir, config, options, StageRecord(directory), state)
    return state is not None


def _check_record(
    run_dir: Path, config: RunConfig, options: StageConfig, record: StageRecord, state: Mapping[str, Any]
) -> None:
    """Hold a stage's metrics, rollouts and evaluations to what they were when a checkpoint was saved.

    Raises:
        DataError: a file is another; the message says what can be done.
    """
    step = int(state.get("step", 0))
    record.check(step, state.get("record", {}))  # an earlier version kept none
    for file in _validations(run_dir, config, options, step):
        if file.exists() and not _is_whole(file):
            raise DataError(
                f"{file}, or its .jsonl, is not what was written: the disk has damaged it, or it was edited. Restore "
                f"it from a copy; or remove {record.directory} and start again, to do this stage once more"
            )


def _validations(run_dir: Path, config: RunConfig, options: StageConfig, until: int) -> Iterator[Path]:
    """Where the evaluations that were due in a stage are written, up to a step."""
    for step in range(1, until + 1):
        if due(config.evaluation.every, step):
            yield run_dir / "evaluations" / f"{validation_name(options, step)}.json"


def _is_whole(file: Path) -> bool:
    """Whether an evaluation is there, and it and its records are as they were written."""
    try:
        head = json.loads(file.read_bytes())
        if isinstance(head, dict) and not {"checksum", "records"} & set(head):  # an earlier version wrote neither
            return True
        return is_sealed(head) and file_digest(file.with_suffix(".jsonl")) == head["records"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True, slots=True)
class _Session:
    """One start of a run: everything that its stages share."""

    config: RunConfig
    run_dir: Path
    bench: Workbench
    material: Material
    status: RunStatus
    evaluate: EvaluateRun
    watch: Watch
    loggers: Loggers

    def finish(self) -> None:
        """Do all that is not done yet."""
        start = self.bench.checkpoint
        self._test("before", start)
        for number, options in enumerate(self.config.stages):
            directory = stage_directory(self.run_dir, self.config, options)
            self.status.note(directory.name)
            start = self._stage(number, options, directory, start)
            self._test(directory.name, start)
        self.status.note(FINISHED)

    def _stage(self, number: int, options: StageConfig, directory: Path, start: Path) -> Path:
        """Train one stage from ``start``, or go on with it, and return its last checkpoint."""
        record, final = StageRecord(directory), checkpoint_path(directory, options.steps)
        if (state := intact_state(final)) is not None:
            _check_record(self.run_dir, self.config, options, record, state)
            return final
        policy = Policy.open(self.config.model, start)
        policy.begin(options)
        found = latest_checkpoint(directory)
        if found is None and directory.is_dir():
            self.watch.say(unsaved_words(options))
        done = 0
        if found is not None:
            checkpoint, done = found
            state = intact_state(checkpoint) or {}
            _check_record(self.run_dir, self.config, options, record, state)
            policy.restore(checkpoint)
            policy.kl_weight = KLWeight.of(options, state.get("kl_coef"))
            self.watch.say(f"stage {options.name}: going on after step {done} from {checkpoint}")
        record.rewind(done)
        engine = self.bench.open_engine(policy.model)
        engine.load_weights(done, policy.weights())

        def save(step: int) -> None:
            state = {
                "stage": options.name,
                "seed": self.config.seed,
                "kl_coef": policy.kl_weight.coefficient,
                "record": record.digests(step),
            }
            save_checkpoint(policy, directory, step, state, options.keep_checkpoints)
            self.status.note()

        stage = build_stage(
            options,
            self.config,
            bench=self.bench,
            policy=policy,
            engine=engine,
            stream=self.material.streams[number],
            record=record,
            evaluate=self._validate,
            on_step=self._on_step(number),
            save=save,
            say=self.watch.say,
        )
        try:
            train(stage, done)
        except KeyboardInterrupt:
            saved = checkpoints(directory)
            going_on = f"stage {options.name}: the same command goes on from {saved[-1]}" if saved else ""
            self.watch.say(going_on or unsaved_words(options))
            raise
        return final

    def _on_step(self, number: int) -> OnStep:
        """Show a step and hand it to the loggers, whose steps count through all stages."""
        before = sum(options.steps for options in self.config.stages[:number])

        def on_step(stage: str, step: int, steps: int, metrics: Metrics) -> None:
            self.watch.step(stage, step, steps, metrics)
            self.loggers.log(before + step, {f"{stage}/{name}": value for name, value in metrics.items()})

        return on_step

    def _validate(self, name: str, engine: Engine) -> Metrics:
        questions = self.material.validation
        return self.evaluate(name, questions, engine, self.bench, self.run_dir) if questions else {}

    def _test(self, name: str, checkpoint: Path) -> None:
        """Evaluate a checkpoint on the test questions, if there are any and it was not done before."""
        questions, file = self.material.test, self.run_dir / "evaluations" / f"{name}.json"
        if not questions or _is_whole(file):
            return
        if file.exists():
            self.watch.say(f"{file}, or its .jsonl, is not what was written: evaluated again")
        policy = Policy.open(self.config.model, checkpoint)
        self.evaluate(name, questions, self.bench.open_engine(policy.model), self.bench, self.run_dir)
        self.status.note()
