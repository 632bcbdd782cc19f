"""A run: data checked, frames cached, stages trained one after the other, everything resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from easyvideor1.algorithms.kl import KLWeight
from easyvideor1.components import Components
from easyvideor1.config import RunConfig, StageConfig
from easyvideor1.engines.engine import Engine
from easyvideor1.families.family import chosen_device
from easyvideor1.files import sweep, write_json
from easyvideor1.records.damage import Damage, record_digests
from easyvideor1.training.datasets import Watch, load_datasets
from easyvideor1.training.from_rollouts import EarlierRollouts
from easyvideor1.training.held_out import Evaluator, HeldOut, check_best_by
from easyvideor1.training.loggers import Loggers, check_loggers
from easyvideor1.training.loop import Metrics, train
from easyvideor1.training.ranks.restart import NO_RESTART, Restart
from easyvideor1.training.run_directory.best import BestCheckpoint
from easyvideor1.training.run_directory.checkpoint import (
    Latest,
    intact_state,
    latest_checkpoint,
    unsaved_words,
)
from easyvideor1.training.run_directory.damage import (
    EvaluationFault,
    Teller,
    done_damage,
    evaluation_damage,
    resumes,
    shown,
)
from easyvideor1.training.run_directory.identity import check_configuration
from easyvideor1.training.run_directory.layout import (
    checkpoint_path,
    claimed,
    due,
    evaluations_directory,
    held_out_evaluations,
    run_directory,
    stage_directory,
)
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.run_directory.saver import CheckpointSaver
from easyvideor1.training.run_directory.status import FINISHED, RunStatus, read_status
from easyvideor1.training.run_directory.trace import Trace
from easyvideor1.training.run_model import RunModel, ranks_of
from easyvideor1.training.stage_steps import known_steps, tell_lengthened, with_steps
from easyvideor1.training.stages import OnStep, build_stage, curriculum_track
from easyvideor1.training.timeline import Timeline
from easyvideor1.training.timings import Waiting
from easyvideor1.types import ConfigError


def run(
    config: RunConfig,
    *,
    evaluator: Evaluator,
    evaluation_fault: EvaluationFault,
    watch: Watch,
    restart: Restart = NO_RESTART,
) -> Path:
    """Do, resume or extend the run that ``config`` describes, and return its directory.

    Called again with the same configuration after a kill, it resumes from the last checkpoint and ends with the same
    weights and metrics as an uninterrupted run. Called with a configuration that only makes the run longer (more steps
    of the last stage, another stage behind it), it extends the run. Finished work is not repeated. Damage is reported:
    checkpoints that are skipped, evaluations that are repeated, and records of earlier steps that are lost.

    ``restart`` says whether the program may begin again by itself where a rank is lost.

    Raises:
        ConfigError: the directory holds a run of another configuration, or another process owns it.
        DataError: rows are bad and ``data.on_bad_row`` is ``error``; nothing has been trained or written then. Or a
            file of an earlier start is damaged and cannot be made again without the user's word.
    """
    if not config.stages:
        raise ConfigError("the configuration has no stages; see `evr1 config show quickstart` for an example")
    run_dir = run_directory(config)
    check_loggers(config)
    with claimed(run_dir), ranks_of(config, restart) as ranks:
        extended = check_configuration(run_dir, config)
        if not extended and is_finished(run_dir, config, evaluation_fault):
            _tell_finished(run_dir, config, evaluation_fault, watch)
            return run_dir
        sweep(run_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        # With several threads, the backward pass of indexing adds with atomics, in whatever order they come; a resumed
        # run would differ in the last digits. On a GPU the kernels that add in one order are slower, and not all have
        # such a form: there a resumed run is the same but for rounding.
        torch.use_deterministic_algorithms(chosen_device(config.model).type == "cpu", warn_only=True)
        with Components.open(config) as components:
            datasets = load_datasets(components.config, components, watch, known_steps(config, read_status(run_dir)))
            planned = with_steps(config, datasets.steps)
            benchmarks = evaluator.benchmarks(components)
            validation, test = (
                [*([evaluator.split(samples, components)] if samples else []), *benchmarks]
                for samples in (datasets.validation, datasets.test)
            )
            check_best_by(planned, validation)
            status = RunStatus.open(run_dir, config, known_steps(planned, None), extended=extended)
            if status.facts["threads"] != torch.get_num_threads():
                watch.say(
                    f"this run started with {status.facts['threads']} CPU threads and resumes with "
                    f"{torch.get_num_threads()}: results will differ in the last digits; set `threads` to avoid this"
                )
            write_json(run_dir / "data_report.json", datasets.report)
            model, loggers = RunModel(components, ranks), Loggers(config, run_dir, watch.say)
            try:
                teller = Teller(watch.say, status)
                if restart.cause:
                    teller.tell(f"restart {restart.done} of {restart.limit}: {restart.cause}")
                earlier = EarlierRollouts(run_dir, planned, datasets.streams, watch.say)
                session = _Session(
                    *(planned, run_dir, components, earlier, status, model),
                    *(validation, test, evaluation_fault, watch, loggers, teller),
                )
                for label in status.keep_benchmarks({one.label: one.digest for one in benchmarks}):
                    teller.tell(f"benchmark {label} has changed since this run started: its numbers do not compare")
                session.finish()
            except BaseException:
                _close(model, loggers, say=watch.say)
                raise
            _close(model, loggers)
    return run_dir


def _close(model: RunModel, loggers: Loggers, say: Callable[[str], None] | None = None) -> None:
    """Close the engine, then the loggers, also where the engine fails to close.

    ``say`` is given where another error is under way: it is told the error of closing, which would hide the other.
    """
    try:
        model.close()
    except Exception as error:
        if say is None:
            raise
        say(f"the engine cannot be closed: {type(error).__name__}: {error}")
    finally:
        loggers.finish()


def is_finished(run_dir: Path, config: RunConfig, evaluation_fault: EvaluationFault) -> bool:
    """Whether the run is finished, and its test evaluations and last checkpoint are there and whole."""
    status = read_status(run_dir)
    if status is None or status["stage"] != FINISHED:
        return False
    labels = [*([""] if config.data.test else []), *_benchmarks_of(status)]
    places = [evaluations_directory(run_dir, label) for label in labels]
    if any(evaluation_fault(place, name) for place in places for name in held_out_evaluations(config)):
        return False
    last = config.stages[-1]
    steps = known_steps(config, status).get(last.name)
    return (
        steps is not None and intact_state(checkpoint_path(stage_directory(run_dir, config, last), steps)) is not None
    )


def _benchmarks_of(status: Mapping[str, Any] | None) -> list[str]:
    """The labels of the benchmarks of a run; those of versions before benchmarks have none."""
    return list((status or {}).get("benchmarks", {}))


def _tell_finished(run_dir: Path, config: RunConfig, evaluation_fault: EvaluationFault, watch: Watch) -> None:
    watch.say(f"{run_dir}: this run is finished")
    status = read_status(run_dir)
    steps, benchmarks = known_steps(config, status), _benchmarks_of(status)
    found = [
        done_damage(run_dir, config, one, steps[one.name], evaluation_fault, benchmarks=benchmarks)
        for one in config.stages
    ]
    damage = [one for stage in found for one in stage]
    for text in shown(damage):
        watch.say(text)
    if damage:
        watch.say(f"`evr1 doctor {run_dir}` shows remedies")


def _check_length(options: StageConfig, latest: Latest) -> None:
    """Make sure that a stage is at least as long as it has been trained.

    Raises:
        ConfigError: it has become shorter.
    """
    if latest.step > options.step_count:
        raise ConfigError(
            f"stages.{options.name}: {latest.path} is of step {latest.step}, but the stage now has only "
            f"{options.step_count} steps: its rows have changed since it started, and run.json, which records its "
            f"length, is missing or was replaced. Restore them, or set steps={latest.step} instead of epochs"
        )


@dataclass(frozen=True, slots=True)
class _Session:
    """One start of a run: everything that its stages share. ``config`` has their lengths in steps."""

    config: RunConfig
    run_dir: Path
    components: Components
    earlier: EarlierRollouts
    status: RunStatus
    model: RunModel
    validation: Sequence[HeldOut]
    test: Sequence[HeldOut]
    evaluation_fault: EvaluationFault
    watch: Watch
    loggers: Loggers
    teller: Teller

    def finish(self) -> None:
        """Do all that is not done yet."""
        start = self.components.checkpoint
        order = [*held_out_evaluations(self.config), FINISHED]
        # The stage that was under way: all evaluations before its own had been made.
        reached = order.index(stage) if (stage := self.status.facts["stage"]) in order else 0
        self._test("before", start, 0, expected=reached > 0)
        for number, options in enumerate(self.config.stages):
            directory = stage_directory(self.run_dir, self.config, options)
            if reached > number + 1 and not directory.is_dir():
                gone = Damage(f"stages/{directory.name}", "missing", "this stage is repeated")
                self.teller.tell_all([gone])
            if (before := self.status.lengthened.get(options.name)) is not None:
                self.teller.tell(tell_lengthened(options, self.config, before))
            self.status.note(directory.name)
            start = self._stage(number, options, directory, start)
            self._test(directory.name, start, self._steps_before(number + 1), expected=reached > number + 1)
        self.status.note(FINISHED)

    def _stage(self, number: int, options: StageConfig, directory: Path, start: Path) -> Path:
        """Train one stage from ``start``, or resume it, and return its last checkpoint."""
        final = checkpoint_path(directory, options.step_count)
        record = StageLog(directory)
        best = BestCheckpoint(directory, options.best_by, record.metrics)
        if intact_state(final) is not None:
            best.mark(options.step_count)
            self._tell_done(options, options.step_count)
            return final
        policy = self.model.begin(start, options)
        latest = latest_checkpoint(directory)
        _check_length(options, latest)
        track = curriculum_track(options, self.config)
        if latest.path is not None:
            policy.restore(latest.path)
            state = intact_state(latest.path) or {}
            policy.kl_weight = KLWeight.of(options.kl, state.get("kl_coef"))
            if track is not None:
                track.restore(state["curriculum"])
        if directory.is_dir():
            self._resume(options, latest, record)
            best.mark(latest.step)
        stream, stored = self.earlier.begin(number, policy.family, self.components.strategy)
        done, first = latest.step, self._steps_before(number)
        saver = CheckpointSaver(policy, directory, options, best, latest.path, self.watch.say)

        def save(step: int) -> None:
            state = {
                "stage": options.name,
                "seed": self.config.seed,
                "kl_coef": policy.kl_weight.coefficient,
                "record": record.digests(step),
                **({} if track is None else {"curriculum": track.state()}),
            }
            saver.save(step, state)
            self.status.note()

        def is_best(step: int) -> bool:
            if not options.best_by or not due(self.config.evaluation.every, step):
                return False
            saver.wait()  # it is compared with what is saved
            return best.is_new(step)

        scorer, engine = self.components.scorer, self.model.engine(first + done)
        waiting = Waiting(partial(self._tell_waiting, options), scorer.waiting)
        trace = Trace(record.trace_file, self.config.trace_steps, done) if self.config.trace_steps else None
        timeline = Timeline(engine, scorer.spans, trace, waiting.timings, self.model.sent_bytes)
        stage = build_stage(
            options,
            self.config,
            components=self.components,
            policy=policy,
            engine=engine,
            stream=stream,
            stored=stored,
            first=first,
            record=record,
            evaluate=self._validate,
            on_step=self._on_step(first, saver),
            save=save,
            is_best=is_best,
            timeline=timeline,
            track=track,
            say=self.watch.say,
        )
        try:
            shown = self.watch.stage(options.name, done, options.step_count)
            with shown, waiting.watched(), closing(timeline), saver, closing(stage):
                train(stage, done)
        except KeyboardInterrupt:
            if not self.model.has_lost_a_rank:
                resumed = f"stage {options.name}: run the same command to resume from {saver.last}"
                self.watch.say(unsaved_words(options) if saver.last is None else resumed)
            raise
        if options.best_by:
            self.watch.say(f"stage {options.name}: {best.words()}")
        return final

    def _resume(self, options: StageConfig, latest: Latest, record: StageLog) -> None:
        """Say from where a stage that was begun before resumes, what it does again, and what is lost."""
        self.teller.tell_all(latest.passed_over)
        rewound = record.rewind(latest.step, {} if latest.path is None else record_digests(latest.path))
        words = resumes(options, latest, rewound)
        if rewound.redone:
            self.teller.tell(words)
        else:
            self.watch.say(words)
        self.teller.tell_all(rewound.damage)
        self._tell_done(options, latest.step, reported=[one.where for one in rewound.damage])

    def _tell_done(self, options: StageConfig, done: int, reported: Sequence[str] = ()) -> None:
        benchmarks = _benchmarks_of(self.status.facts)
        self.teller.tell_all(
            done_damage(self.run_dir, self.config, options, done, self.evaluation_fault, reported, benchmarks)
        )

    def _steps_before(self, number: int) -> int:
        """Steps of the run before stage ``number``, counted from 0."""
        return sum(options.step_count for options in self.config.stages[:number])

    def _on_step(self, first: int, saver: CheckpointSaver) -> OnStep:
        """Show a step and hand it to the loggers, whose steps count through all stages.

        It is the last one if a save has failed in the background.
        """

        def on_step(stage: str, step: int, steps: int, metrics: Metrics) -> None:
            self.watch.step(stage, step, steps, metrics)
            self.loggers.log(first + step, {f"{stage}/{name}": value for name, value in metrics.items()})
            saver.check()

        return on_step

    def _tell_waiting(self, options: StageConfig, step: int, what: str, seconds: float) -> None:
        self.watch.waiting(options.name, step, options.step_count, what, seconds)

    def _validate(self, name: str, engine: Engine) -> Metrics:
        found = [one.evaluate(name, engine, self.run_dir) for one in self.validation]
        return {metric: value for metrics in found for metric, value in metrics.items()}

    def _test(self, name: str, checkpoint: Path, version: int, *, expected: bool) -> None:
        """Evaluate a checkpoint on the test questions and benchmarks that have no whole evaluation of it yet.

        That one which is ``expected`` to be there is missing or damaged is reported.
        """
        missing = []
        for one in self.test:
            directory = evaluations_directory(self.run_dir, one.label)
            if not self.evaluation_fault(directory, name):
                continue
            missing.append(one)
            if expected or (directory / f"{name}.json").exists():
                means, fault = "this evaluation is repeated", self.evaluation_fault
                self.teller.tell_all(evaluation_damage(self.run_dir, [name], means, fault, one.label))
        if not missing:
            return
        self.model.at(checkpoint)
        engine = self.model.engine(version)
        for one in missing:
            one.evaluate(name, engine, self.run_dir)
            self.status.note()
