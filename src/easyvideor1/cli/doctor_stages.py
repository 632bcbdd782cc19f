"""``evr1 doctor RUN``: check stages, checkpoints and evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.cli.findings import COPY, CheckedRun, Finding, State

if TYPE_CHECKING:
    from easyvideor1.config import StageConfig


def check_stages(run: CheckedRun) -> Iterator[Finding]:
    """The record and the checkpoints of every stage."""
    from easyvideor1.records.reading import stage_directories
    from easyvideor1.training.run_directory.layout import stage_directory

    if run.config is None:
        for directory in stage_directories(run.directory):
            yield from _record(run, directory, None)
            yield from _checkpoints(run, directory, None, through=False)
        return
    for number, options in enumerate(run.config.stages):
        directory = stage_directory(run.directory, run.config, options)
        later = [stage_directory(run.directory, run.config, stage) for stage in run.config.stages[number + 1 :]]
        through = run.finished or any(path.is_dir() for path in later)
        if directory.is_dir():
            yield from _record(run, directory, options.steps if through else None)
            yield from _checkpoints(run, directory, options, through=through)
            yield from _best(directory)
            yield from _taken(directory)
        elif through:
            words = "missing, although later stages exist: the record of its training is lost"
            yield Finding(f"stages/{directory.name}", "broken", words, COPY)
        else:
            yield Finding(f"stages/{directory.name}", "note", "not started")


def _record(run: CheckedRun, directory: Path, steps: int | None) -> Iterator[Finding]:
    """Metrics, timings, warnings and rollouts; ``steps`` is the required number of steps, if known."""
    from easyvideor1.records.damage import stage_damage, steps_words
    from easyvideor1.records.reading import read_jsonl, read_steps, rollout_files

    where = f"stages/{directory.name}"
    damage = stage_damage(directory, steps)
    hurt = {one.where.removeprefix(f"{where}/").partition("/")[0] for one in damage}
    for name in ("metrics.jsonl", "timings.jsonl"):
        if name not in hurt:
            there = read_steps(directory / name)[0]
            yield Finding(f"{where}/{name}", "ok", f"all steps: {steps_words(there)}" if there else "no step yet")
    if (directory / "canary.jsonl").exists() and "canary.jsonl" not in hurt:
        count = len(read_jsonl(directory / "canary.jsonl").rows)
        yield Finding(f"{where}/canary.jsonl", "note", f"{count} warnings", "read them; see docs/canary.md")
    files = rollout_files(directory)
    if "rollouts" not in hurt:
        yield Finding(f"{where}/rollouts", "ok", f"{len(files)} files, a group on every line")
    for one in damage:
        yield Finding(one.where, "broken", f"{one.what}: {one.means}", one.remedy)
    if steps is not None and (more := [step for step in files if step > steps]):
        yield Finding(
            f"{where}/rollouts",
            "note",
            f"{steps_words(more)} are after the end of the stage",
            "check whether they belong here",
        )


def _checkpoints(run: CheckedRun, directory: Path, options: StageConfig | None, *, through: bool) -> Iterator[Finding]:
    """Every checkpoint of a stage against its checksums."""
    from easyvideor1.records.reading import numbered
    from easyvideor1.training.run_directory.checkpoint import read_state

    found = numbered(directory / "checkpoints")
    states = {step: read_state(path) for step, path in found.items()}
    whole = [step for step, (state, _) in states.items() if state is not None]
    for step, path in found.items():
        where = f"stages/{directory.name}/checkpoints/{path.name}"
        state, fault = states[step]
        if state is None:
            yield Finding(where, "broken", *_damaged_words(step, fault, whole, through=through))
        elif int(state["step"]) != step:
            yield Finding(where, "broken", f"contains step {state['step']}: it was renamed", "rename it back")
        elif fault := _weights_fault(path):
            yield Finding(where, "broken", f"its files are unchanged, but {fault}", COPY)
        elif fault := _family_fault(run, path):
            remedy = "check what else has changed: package versions, your own modules"
            yield Finding(where, "note", f"its files are unchanged, but the model cannot be opened: {fault}", remedy)
        else:
            yield Finding(where, "ok", f"{len(state['files'])} files unchanged (SHA-256) and readable")
    last = f"stages/{directory.name}/checkpoints"
    if options is not None and through and options.steps is not None and options.steps not in found:
        words = f"the last checkpoint, of step {options.steps}, is missing: the result of this stage is lost"
        remedy = f"{COPY}; or run the command of this run again, which repeats the steps after "
        yield Finding(last, "broken", words, f"{remedy}{max(whole, default=0)}")
    elif not found:
        yield Finding(
            last, "note", "none saved yet", "a restart repeats the stage from its first step (see save_every)"
        )


def _taken(directory: Path) -> Iterator[Finding]:
    """What a stage has taken of earlier rollouts, if it takes anything."""
    from easyvideor1.training.from_rollouts import FILE, read_taken

    where = f"stages/{directory.name}/{FILE}"
    if not (directory / FILE).exists():
        return
    taken = read_taken(directory / FILE)
    if taken is None:
        words = "is not what was written: a start of the run that has this stage to do chooses again"
        yield Finding(where, "broken", words, COPY)
    else:
        yield Finding(where, "ok", taken.pair_words() if taken.pairs else f"{len(taken.dropped)} samples are not drawn")


def _best(directory: Path) -> Iterator[Finding]:
    """The mark of the best checkpoint, if there is one."""
    from easyvideor1.training.run_directory.best import BEST, read_best
    from easyvideor1.training.run_directory.layout import checkpoint_path
    from easyvideor1.types import DataError

    where = f"stages/{directory.name}/{BEST}"
    remedy = "remove it; the next start of the run marks the best that is there"
    try:
        best = read_best(directory)
    except DataError:
        yield Finding(where, "broken", "is not what was written", remedy)
        return
    if best is not None and checkpoint_path(directory, best.step).is_dir():
        yield Finding(where, "ok", f"step {best.step} is the best by {best.metric} ({best.value:.4f})")
    elif best is not None:
        yield Finding(where, "broken", f"the checkpoint of step {best.step} is missing", f"{COPY}; or {remedy}")


def _damaged_words(step: int, fault: str, whole: list[int], *, through: bool) -> tuple[str, str]:
    newer = [other for other in whole if other > step]
    if newer:
        return f"{fault}: not needed, because step {newer[-1]} is intact", f"remove it, or {COPY}"
    before = max((other for other in whole if other < step), default=0)
    start = f"after step {before}" if before else "from the start of the stage"
    what = "the result of this stage" if through else "the newest state of this stage"
    remedy = f"{COPY}; or run the command of this run again, which resumes {start} and saves it again"
    return f"{fault}: {what} is lost", remedy


def _weights_fault(checkpoint: Path) -> str:
    """Why the weight files of a checkpoint cannot be opened (headers only); empty if they can."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(checkpoint.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a mapping
                    tensors.get_slice(name).get_shape()
        except (SafetensorError, OSError) as error:
            return f"{file.name} cannot be opened: {error}"
    return ""


def _family_fault(run: CheckedRun, checkpoint: Path) -> str:
    """Why the family and the tokenizer of a checkpoint cannot be opened; empty if they can."""
    from easyvideor1.config import ModelConfig
    from easyvideor1.families.family import configured_family
    from easyvideor1.types import EasyVideoError

    try:
        configured_family(run.config.model if run.config else ModelConfig(), checkpoint)
    except (EasyVideoError, OSError, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def check_evaluations(run: CheckedRun) -> Iterator[Finding]:
    """Every evaluation that exists or must exist: ``NAME.json`` must match the answers in ``NAME.jsonl``."""
    benchmarks = sorted(path.name for path in (run.directory / "evaluations").glob("*") if path.is_dir())
    kept = (run.facts or {}).get("benchmarks", {})
    for label in dict.fromkeys(["", *kept, *benchmarks]):
        yield from _check_evaluations(run, label, known=label in kept)


def _check_evaluations(run: CheckedRun, label: str, *, known: bool) -> Iterator[Finding]:
    """Those of the run's own questions, or of a benchmark, which is ``known`` if it is one of the run."""
    from easyvideor1.evaluation import evaluation_fault
    from easyvideor1.training.run_directory.layout import evaluations_directory

    directory = evaluations_directory(run.directory, label)
    place = directory.relative_to(run.directory).as_posix()
    there = {path.stem for path in (*directory.glob("*.json"), *directory.glob("*.jsonl"))}
    tests, validations = _wanted(run, benchmark=known) if known or not label else (set(), set())
    names = sorted(there | tests | validations)
    if not names and not label:
        yield Finding(place, "ok", "none yet")
    for name in names:
        where = f"{place}/{name}"
        remedy = "evaluate again (evr1 eval)"
        if name in tests:
            remedy = "run the command of this run again, which repeats it"
        elif name in validations:
            remedy = f"{COPY}; otherwise its answers are lost, but metrics.jsonl still has its accuracies"
        if fault := evaluation_fault(directory, name):
            state: State = "broken" if name in tests | validations or (directory / f"{name}.json").exists() else "note"
            yield Finding(where, state, f"{fault}: its answers are unreadable or not reliable", remedy)
        elif differ := _difference(directory, name):
            forget = f"remove {directory / name}.json, then " if name in tests else ""
            yield Finding(where, "broken", f"{differ}: one of the two files was changed", f"{forget}{remedy}")
        else:
            yield Finding(where, "ok", "its numbers match its answers")


def _wanted(run: CheckedRun, *, benchmark: bool) -> tuple[set[str], set[str]]:
    """Names of the test and validation evaluations that must exist by now, of a benchmark both."""
    from easyvideor1.records.reading import read_steps
    from easyvideor1.training.run_directory.layout import due, stage_directory, validation_name

    tests: set[str] = set()
    validations: set[str] = set()
    if run.config is None:
        return tests, validations
    directories = [stage_directory(run.directory, run.config, stage) for stage in run.config.stages]
    moments = ["before", *(path.name for path in directories)]
    through = [any(path.is_dir() for path in directories[i:]) or run.finished for i in range(len(directories) + 1)]
    if benchmark or run.config.data.test:
        tests = {name for name, after in zip(moments, through, strict=True) if after}
    if benchmark or run.config.data.validation:
        for stage, path, after in zip(run.config.stages, directories, through[1:], strict=True):
            whole = after and stage.steps is not None
            done = range(1, stage.step_count + 1) if whole else read_steps(path / "metrics.jsonl")[0]
            validations |= {validation_name(stage, step) for step in done if due(run.config.evaluation.every, step)}
    return tests, validations


def _difference(directory: Path, name: str) -> str:
    """The first number of ``NAME.json`` that does not match the answers; empty if all match."""
    from easyvideor1.evaluation import Evaluation
    from easyvideor1.files import flat, read_json

    told: Mapping[str, Any] = flat(read_json(directory / f"{name}.json"))
    found: Mapping[str, Any] = flat(Evaluation.load(directory, name).to_json())
    for key, value in told.items():
        if key == "name" or key not in found:
            continue  # renamed by hand, or written by another version
        other = found[key]
        numbers = isinstance(value, float | int) and isinstance(other, float | int)
        if (abs(value - other) > 1e-9) if numbers else (value != other):
            return f"{key} is {value} in {name}.json, but its answers give {other}"
    return ""
