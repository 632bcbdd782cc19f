"""``evr1 train --dry-run``: what can be known of a run before it starts. Nothing is trained; no weights are read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from easyvideor1.cli.dry_run_findings import DryRun
from easyvideor1.types import EasyVideoError

if TYPE_CHECKING:
    from easyvideor1.cli.model_shape import ModelShape
    from easyvideor1.config import RunConfig, StageConfig

#: Rows of a source that a stand-in tokenizer is trained on.
_CORPUS = 4000


def dry_run(config: RunConfig, overrides: Sequence[str], device: str, memory: str) -> None:
    """Look at everything that a run would use, and print it with all problems.

    Rows, headers of media, ``config.json`` and tokenizer of the model are read. What probing and checking have found is
    kept in the cache, where the run will use it; nothing is written into the run directory.

    Args:
        config: of the run.
        overrides: those of the command line.
        device: a GPU by its name, or ``cpu``, for the prediction; this machine's if empty.
        memory: its memory, as ``evr1 fit`` takes it.

    Raises:
        typer.Exit: there are problems; the status is 1.
    """
    from easyvideor1.cli.dry_run_prompts import show_prompts, show_scores
    from easyvideor1.cli.dry_run_sizes import show_media, show_memory
    from easyvideor1.cli.model_shape import open_shape
    from easyvideor1.components import Components
    from easyvideor1.config import located

    config = located(config)
    with tempfile.TemporaryDirectory(prefix="evr1-dry-run.") as scratch:
        shape, fault = None, None
        try:
            shape = open_shape(config, Path(scratch), _corpus(config))
        except EasyVideoError as error:
            fault = error
        with Components.open(config, None if shape is None else shape.stand_in) as components:
            found = DryRun(config, components)
            _tell_model(found, shape, fault)
            _check_names(found, overrides)
            if not device:
                _check_device(found)
            _read_rows(found, renders=shape is not None)
            if shape is not None:
                _plan_stages(found)
                show_media(found)
                show_memory(found, device, memory)
                show_prompts(found, exact=shape.exact)
            show_scores(found)
            _show_writes(found, here=not (device or memory))
    _conclude(found)


def _corpus(config: RunConfig) -> list[str]:
    """Prompts and offline trajectories of the training rows, as far as they can be read."""
    from easyvideor1.data import embedded_media, prompt_text, scan_source

    texts: list[str] = []
    for source in config.data.train:
        try:
            scan = scan_source(source, config.data, check_media=False, embedded=embedded_media(config.cache))
            for sample in scan.samples[:_CORPUS]:
                texts += [prompt_text(sample, config.prompts, config.rewards), *(one.text for one in sample.offline)]
        except EasyVideoError:
            continue  # told where the rows are checked
    return texts


def _tell_model(found: DryRun, shape: ModelShape | None, fault: EasyVideoError | None) -> None:
    path = found.config.model.path
    if shape is None:
        found.problem(str(fault))
        found.unchecked.append("media plans, prompts and their tokens, steps, memory and time: all need the model")
        return
    typer.echo(f"model: {path}" + (f", without {', '.join(shape.missing)}" if shape.missing else ""))
    if "weights" in shape.missing:
        found.unchecked.append(f"weights: there are none in {path}; the run needs them")
    if shape.stand_in is not None:
        parts = [part for part in shape.missing if part != "weights"]
        found.unchecked.append(
            f"{' and '.join(parts)}: not in {path}, so that a stand-in of this package takes their place; numbers of "
            "text tokens are estimates, those of visual tokens are exact; the run needs the model's own"
        )


def _check_names(found: DryRun, overrides: Sequence[str]) -> None:
    """Files, names, and what contradicts each other; benchmarks."""
    from easyvideor1.cli.doctor_benchmarks import check_benchmarks
    from easyvideor1.training.datasets import name_faults

    config = found.config
    if not config.stages:
        found.problem("the configuration has no stages; see `evr1 config show quickstart` for an example")
    for fault in name_faults(config):
        found.problem(str(fault))
    for finding in check_benchmarks(config, overrides):
        words = f"{finding.subject}: {finding.detail}"
        if finding.state == "broken":
            found.problem(f"{words}; {finding.remedy}")
        else:
            typer.echo(f"benchmark: {finding.detail}")


def _check_device(found: DryRun) -> None:
    """Whether ``model.device`` is there, for a run that is to be on this machine."""
    from easyvideor1.families.family import chosen_device

    with found.looking():
        chosen_device(found.config.model)


def _read_rows(found: DryRun, *, renders: bool) -> None:
    """Read and check the rows of all splits, down to the prompts if these can be made."""
    from easyvideor1.cli.progress import progress
    from easyvideor1.data import shared_ids_note

    data = found.config.data
    for split, named in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if not named:
            continue
        with found.looking():
            if renders:
                with progress(f"checking {split} rows", unit="row") as on_progress:
                    found.loaded[split] = found.components.load_sources(named, on_progress)
            else:
                found.loaded[split] = found.components.read_sources(named)
    if found.loaded:
        typer.echo("rows:")
    for split, sources in found.loaded.items():
        for source in sources:
            report = source.report
            tasks = ", ".join(f"{task} {count}" for task, count in report.tasks.items())
            typer.echo(f"  {split}: {source.path}: {report.used} of {report.rows} rows, {report.refused} bad; {tasks}")
        if note := shared_ids_note(sources):
            typer.echo(f"  {split}: {note}")
    with found.looking():
        found.components.scorer.try_out(found.samples())


def _plan_stages(found: DryRun) -> None:
    """How long each stage is, what it draws, and when it evaluates and saves."""
    from easyvideor1.training.datasets import drawn_rows, plan_stage, stage_sources
    from easyvideor1.training.run_directory.layout import run_directory
    from easyvideor1.training.run_directory.status import read_status
    from easyvideor1.training.stage_steps import known_steps

    config = found.config
    with found.looking():
        found.counted = known_steps(config, read_status(run_directory(config)))
    if "train" not in found.loaded:
        found.unchecked.append("stages, memory, time and prompts: the training rows cannot be used")
        return
    typer.echo("stages:")
    for number, options in enumerate(config.stages, 1):
        with found.looking():
            notes: list[str] = []
            usable = stage_sources(options, config, found.components, found.loaded["train"], notes.append)
            planned, stream = plan_stage(options, config, usable, found.counted)
            found.planned.append((planned, stream, usable))
            typer.echo(f"  {number} {options.name}: {_length(planned, drawn_rows(options, config, usable), config)}")
            for note in notes:
                typer.echo(f"    {note}")
    _check_best(found)


def _length(stage: StageConfig, rows: int, config: RunConfig) -> str:
    """A stage in one line."""
    members = {"policy": f" x {stage.group_size} responses", "offline": "", "rollouts": ""}[stage.trajectories]
    words = f"{stage.step_count} steps of {stage.prompts_per_step} prompts{members}"
    if stage.trajectories != "rollouts":
        words += f" from {rows} rows ({stage.step_count * stage.prompts_per_step / max(rows, 1):.3g} epochs)"
    words += {"policy": "", "offline": ", offline trajectories", "rollouts": ", rollouts of an earlier stage"}[
        stage.trajectories
    ]
    words += f"; {stage.advantage.name} advantage, {stage.objective.name} objective"
    every = config.evaluation.every
    evaluates = f"evaluated every {every}" if every and (config.data.validation or config.evaluation.benchmarks) else ""
    saves = f"saved every {stage.save_every}" if stage.save_every else "saved at the end"
    return "; ".join(filter(None, (words, evaluates, saves)))


def _check_best(found: DryRun) -> None:
    """Whether ``best_by`` names something that evaluations between steps give."""
    from rich.console import Console

    from easyvideor1.cli.evaluation.of_training import MeasuredQuestions
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.training.held_out import check_best_by

    config, components = found.config, found.components
    stages = tuple(planned for planned, _, _ in found.planned if not planned.best_by.startswith("benchmark/"))
    if len(stages) < len(found.planned):
        found.unchecked.append("best_by: metrics of benchmarks are known when the run reads them")
    samples = [sample for source in found.loaded.get("validation", ()) for sample in source.samples]
    watch = TerminalWatch(Console(stderr=True))
    measured = [MeasuredQuestions(samples, components, components.scorer, watch)] if samples else []
    with found.looking():
        check_best_by(config.model_copy(update={"stages": stages}), measured)


def _show_writes(found: DryRun, *, here: bool) -> None:
    """What the run would write where, whether it begins or goes on, and whether there is room.

    A full disk is a problem if the run is to be ``here``, and not on another machine.
    """
    from easyvideor1.evaluation import evaluation_fault
    from easyvideor1.locks import is_locked
    from easyvideor1.training.run import is_finished
    from easyvideor1.training.run_directory.identity import compare_configuration
    from easyvideor1.training.run_directory.layout import run_directory

    config = found.config
    try:
        run_dir = run_directory(config)
    except EasyVideoError as error:
        found.problem(str(error))
        return
    with found.looking():
        relation = compare_configuration(run_dir, config)
        begins = {
            "new": "a new run",
            "extended": "the run that is there, which gets longer",
            "same": "the run that is there, which goes on",
            "rewritten": "the run that is there, which goes on with other settings that may change",
        }[relation]
        finished = relation in ("same", "rewritten") and is_finished(run_dir, config, evaluation_fault)
        typer.echo(f"writes: {run_dir}: {'the run that is there, which is finished' if finished else begins}")
        if relation != "new" and not finished:
            _check_start(found, run_dir, extended=relation == "extended")
        if is_locked(run_dir / ".lock"):
            found.problem(f"{run_dir} is in use by another process; wait for it, or give this run another name")
        if relation != "new":
            _tell_place(found, run_dir)
        typer.echo("  config.yaml, run.json, data_report.json, metrics, rollouts, evaluations, summary and report")
    if found.checkpoint_bytes:
        _check_room(found, "checkpoints", run_dir, found.checkpoint_bytes, here=here)
    if found.frame_bytes:
        _check_room(found, "frames", Path(config.cache.dir), found.frame_bytes, here=here)


def _check_start(found: DryRun, run_dir: Path, *, extended: bool) -> None:
    """Whether the run that is there takes these rows and lengths."""
    from easyvideor1.training.run_directory.status import check_start

    if extended and len(found.planned) < len(found.config.stages):
        found.unchecked.append(f"whether {run_dir} can be extended: not all stages could be planned")
        return
    steps = {planned.name: planned.step_count for planned, _, _ in found.planned}
    with found.looking():
        try:
            check_start(run_dir, found.config, steps, extended=extended)
        except OSError as error:  # rows that are gone are a problem that was told
            found.unchecked.append(f"whether {run_dir} goes on with these rows: {error}")


def _tell_place(found: DryRun, run_dir: Path) -> None:
    """Where a run that was begun stands."""
    from easyvideor1.training.run_directory.checkpoint import latest_checkpoint
    from easyvideor1.training.run_directory.layout import stage_directory

    for options in found.config.stages:
        directory = stage_directory(run_dir, found.config, options)
        if directory.is_dir():
            latest = latest_checkpoint(directory)
            steps = found.counted.get(options.name)
            typer.echo(f"  stage {options.name}: step {latest.step}{f' of {steps}' if steps else ''} is saved")


def _check_room(found: DryRun, what: str, place: Path, size: int, *, here: bool) -> None:
    """Whether a directory can be written and its disk has room."""
    import os

    from easyvideor1.cli.cache_plan import size_words

    whole = place.absolute()
    existing = next(parent for parent in (whole, *whole.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        found.problem(f"{existing} cannot be written, and {what} go to {place}; choose another directory")
        return
    free = shutil.disk_usage(existing).free
    typer.echo(f"  {what}: up to {size_words(size)} in {place}; {size_words(free)} are free here")
    if here and size > free:
        found.problem(
            f"{place}: {what} need {size_words(size)}, and {size_words(free)} are free; free some space, or choose "
            "another directory"
        )


def _conclude(found: DryRun) -> None:
    """Print what was not checked, and all problems; the latter fail the command."""
    if found.unchecked:
        typer.echo("not checked:")
        for text in found.unchecked:
            typer.echo(f"  {text}")
    if not found.problems:
        typer.echo("no problem found: start it with the same command without --dry-run")
        return
    count = len(found.problems)
    typer.echo(f"{count} problem{'' if count == 1 else 's'}:", err=True)
    for number, text in enumerate(found.problems, 1):
        first, *more = text.splitlines()
        typer.echo(f"  {number}. {first}", err=True)
        for line in more:
            typer.echo(f"     {line}", err=True)
    raise typer.Exit(1)
