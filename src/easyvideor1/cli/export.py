"""``evr1 export``: write a trained checkpoint as a plain Hugging Face directory."""

from __future__ import annotations

import math
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.completion import complete_runs

if TYPE_CHECKING:
    from easyvideor1.config import ModelConfig, RunConfig
    from easyvideor1.policy.export import Export


class _Type(StrEnum):
    """Types that weights may be exported in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Run directory, or one of its checkpoints; RUN@best, RUN@STAGE.",
            autocompletion=complete_runs,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write; must not exist.")],
    best: Annotated[
        bool, typer.Option("--best", help="The best checkpoint by best_by of a stage, as RUN@best.")
    ] = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Only the adapters of model.lora, for peft; else merged weights.")
    ] = False,
    dtype: Annotated[_Type | None, typer.Option(help="Type of the weights; by default that of the checkpoint.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest file of weights, such as 500M or 5G.")] = "5G",
) -> None:
    """Write the model, tokenizer and processor settings of a run's last checkpoint, without optimiser state."""
    from easyvideor1.cli.cache_plan import parse_size
    from easyvideor1.types import ConfigError

    shard_bytes = parse_size(max_shard_size)
    if shard_bytes < 1:
        raise ConfigError(f"--max-shard-size {max_shard_size}: give at least a byte, such as 5G")
    _refuse_existing(out)
    checkpoint = best_checkpoint(source) if best else find_checkpoint(source)

    import torch  # a mistake is told before the seconds that it takes

    from easyvideor1.policy.export import adapter_export, model_export

    kind = None if dtype is None else getattr(torch, dtype)
    config = _trained_model(checkpoint)
    if adapter:
        found = adapter_export(checkpoint, config, dtype=kind)
    else:
        found = model_export(checkpoint, config, dtype=kind, shard_bytes=shard_bytes)
    _write(found, out)
    typer.echo(f"wrote {out} from {checkpoint}")


def _refuse_existing(out: Path) -> None:
    from easyvideor1.types import ConfigError

    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} exists already; choose another name, or remove it first")


def _write(found: Export, out: Path) -> None:
    """Write an export that appears whole or not at all, by one process at a time.

    Raises:
        ConfigError: another process is writing it, or the disk has no room.
        OSError: the disk refused.
    """
    import shutil

    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.cli.progress import progress
    from easyvideor1.files import sweep_beside, write_directory
    from easyvideor1.locks import file_lock, locks_unsupported
    from easyvideor1.types import ConfigError

    out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            ours = stack.enter_context(file_lock(out.with_name(f".{out.name}.lock")))
        except OSError as error:
            if not locks_unsupported(error):
                raise
            ours = True
        if not ours:
            raise ConfigError(f"another process is exporting to {out}; wait for it, or choose another name")
        _refuse_existing(out)
        sweep_beside(out)
        free = shutil.disk_usage(out.parent).free
        if found.nbytes > free:
            raise ConfigError(
                f"{out}: the export needs {size_words(found.nbytes)}, the disk has {size_words(free)} free; free some "
                "space, choose a directory on another disk, or halve it with --dtype bfloat16"
            )
        advance = stack.enter_context(progress("export", unit="MB"))

        def tell(done: int, total: int) -> None:
            whole = math.ceil(total / 10**6)
            advance(whole if done == total else min(done // 10**6, whole - 1), whole)

        write_directory(out, lambda directory: found.write(directory, tell))


def _trained_model(checkpoint: Path) -> ModelConfig:
    """``model`` of the run that a checkpoint lies in; the defaults where there is none, or it cannot be read."""
    import yaml

    from easyvideor1.config import ModelConfig

    for place in checkpoint.absolute().parents[:4]:
        try:
            values = yaml.safe_load((place / "config.yaml").read_text(encoding="utf-8"))
            return ModelConfig.model_validate(values["model"])
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            continue
    return ModelConfig()


def checkpoint_to_use(given: Path, config: RunConfig) -> Path:
    """The checkpoint that ``--checkpoint`` names; for a run directory its last complete one, which is printed, for
    ``RUN@best`` its best one, and for ``RUN@STAGE`` the last complete one of a stage.

    A checkpoint does not say which convention its prompts followed; if the run that it lies in does, and ``config``
    differs, this is printed, too.

    Raises:
        ConfigError: a run directory without a complete checkpoint, ``@best`` of one without a best one, or ``@STAGE``
            of one without that stage.
    """
    given = best_checkpoint(run) if (run := _run_of_best(given)) else given
    if (stage := _named_stage(given)) is not None:
        given = find_checkpoint(given)
        typer.echo(f"checkpoint: {given}, the last complete one of {stage.name}", err=True)
    for place in (given, *given.absolute().parents[:4]):
        trained = trained_conventions(place)
        if trained not in (None, config.model.conventions):
            typer.echo(
                f"WARNING: the run in {place} was trained with model.conventions={trained}, and this command uses "
                f"{config.model.conventions}: prompts with a video differ. Set model.conventions={trained}",
                err=True,
            )
    is_run = (given / "stages").is_dir() or (given / "run.json").is_file()
    if not is_run or (given / "config.json").is_file():
        return given
    checkpoint = find_checkpoint(given)
    typer.echo(f"checkpoint: {checkpoint}, the last complete one of {given}", err=True)
    return checkpoint


def trained_conventions(run_dir: Path) -> str | None:
    """The ``model.conventions`` of a run; ``None`` where there is no run, or its configuration cannot be read."""
    import yaml

    try:
        values = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
        (run_dir / "run.json").stat()
        found = values["model"]["conventions"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def find_checkpoint(source: Path) -> Path:
    """``source`` itself if it is a checkpoint, else the newest complete checkpoint of a run; damaged ones are printed.
    ``RUN@best`` is the best one of a run, ``RUN@STAGE`` the newest of a stage.

    Raises:
        ConfigError: there is no checkpoint, or it is damaged.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.paths import not_found
    from easyvideor1.records.reading import stage_directories
    from easyvideor1.training.run_directory.checkpoint import latest_checkpoint, read_state
    from easyvideor1.types import ConfigError

    if run := _run_of_best(source):
        return best_checkpoint(run)
    stage = _named_stage(source)
    if stage is None and not source.exists():
        raise ConfigError(not_found(RunConfig(), str(source), "run directory"))
    if (source / "state.json").is_file():
        if fault := read_state(source)[1]:
            raise ConfigError(f"{source} is damaged: {fault}; use an earlier checkpoint")
        return source
    for place in reversed(stage_directories(source) if stage is None else [stage]):
        found = latest_checkpoint(place)
        for damage in found.passed_over:
            typer.echo(f"DAMAGED: {place.parents[1]}/{damage}", err=True)
        if found.path is not None:
            return found.path
    raise ConfigError(
        f"{source} has no complete checkpoint; give a run directory that has saved one (see save_every of its "
        "stages), or one of its stages/*/checkpoints/step_*"
    )


def best_checkpoint(run: Path) -> Path:
    """The best checkpoint of the last stage of a run that has one marked (``best_by`` of a stage), which is printed;
    of a directory of ``stages`` that of this stage.

    Raises:
        ConfigError: none is marked, or it is missing or damaged.
        DataError: the mark is damaged.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.paths import not_found
    from easyvideor1.records.reading import stage_directories
    from easyvideor1.training.run_directory.best import BEST, read_best
    from easyvideor1.training.run_directory.checkpoint import read_state
    from easyvideor1.training.run_directory.layout import checkpoint_path
    from easyvideor1.types import ConfigError

    if not run.exists():
        raise ConfigError(not_found(RunConfig(), str(run), "run directory"))
    for stage in [run] if (run / BEST).is_file() else reversed(stage_directories(run)):
        best = read_best(stage)
        if best is None:
            continue
        checkpoint = checkpoint_path(stage, best.step)
        if fault := read_state(checkpoint)[1]:
            raise ConfigError(f"{checkpoint}, the best by {best.metric}, is damaged: {fault}; use another checkpoint")
        typer.echo(f"checkpoint: {checkpoint}, the best by {best.metric} ({best.value:.4f})", err=True)
        return checkpoint
    raise ConfigError(
        f"{run} has no best checkpoint; set best_by of a stage to a metric of its evaluations, such as "
        f"evaluation/greedy, before it is trained, or give the last checkpoint: {run}"
    )


def _run_of_best(given: Path) -> Path | None:
    """The directory that ``DIRECTORY@best`` names; ``None`` for any other path, or where this very path is there."""
    name = given.name.removesuffix("@best")
    return given.with_name(name) if name and name != given.name and not given.exists() else None


def _named_stage(given: Path) -> Path | None:
    """The directory of the stage that ``RUN@STAGE`` names, by its name (``dpo-2``) or its directory's (``04-dpo-2``).

    ``None`` for a path that is there, or without ``@`` behind a run.

    Raises:
        ConfigError: the run has no such stage.
    """
    from easyvideor1.records.reading import stage_directories
    from easyvideor1.types import ConfigError

    head, at, name = given.name.rpartition("@")
    run = given.with_name(head) if head else given
    if not at or not name or given.exists() or not (run / "stages").is_dir():
        return None
    stages = {place.name.partition("-")[2]: place for place in stage_directories(run)}
    found = stages.get(name) or next((place for place in stages.values() if place.name == name), None)
    if found is None:
        raise ConfigError(f"{run} has no stage {name!r} yet; it has {', '.join(stages) or 'none'}")
    return found
