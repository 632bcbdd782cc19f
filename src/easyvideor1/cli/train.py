"""``evr1 train``: start or resume the run of a configuration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument
from easyvideor1.cli.recipes import prepare_missing
from easyvideor1.types import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from easyvideor1.config import RunConfig
    from easyvideor1.training.ranks.restart import Restart


def train(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: check everything, and show what the run would do.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="With --dry-run: predict for this GPU, such as H100, or cpu.")
    ] = "",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="With --dry-run: memory of the device, such as 80GiB.")
    ] = "",
) -> None:
    """Train a model with the stages of a configuration, and evaluate it.

    With --dry-run nothing is trained and no weights are needed: rows and media are checked, the length of each stage,
    its memory and its time are predicted, the first prompts and one score per task are shown. Every problem is listed,
    and the exit status is 1 if there is one.

    After an interruption, run the same command again: training resumes from the last checkpoint, with the same result
    as an uninterrupted run. With more steps of the last stage, or another stage behind it, the same run gets longer.
    After the loss of a rank it resumes by itself, cluster.max_restarts times. The toy data of a shipped recipe are
    written first where they are missing.
    """
    from rich.console import Console

    from easyvideor1.config import load_config

    settings = load_config(config, overrides or ())  # a mistake in it is told before the seconds that torch takes
    if dry:
        from easyvideor1.cli.dry_run import dry_run

        dry_run(settings, overrides or (), device, memory)
        return
    if device or memory:
        raise ConfigError("--device and --memory are of --dry-run; where a run trains, model.device says")
    if _follows(settings):
        return
    console = Console(stderr=True)
    prepare_missing(config, settings, console)
    summary = _train_with_restarts(settings, console, overrides or ())
    if summary["accuracy_after"] is not None:
        from easyvideor1.evaluation import print_summary

        print_summary(summary, Console())


def _train_with_restarts(config: RunConfig, console: Console, overrides: Sequence[str]) -> dict[str, Any]:
    """``train_and_report``; where a rank is lost, this command begins again, and resumes the run."""
    if config.cluster.ranks == 1:
        return train_and_report(config, console, overrides=overrides)
    from easyvideor1.cli.app import show_error
    from easyvideor1.training.ranks.leader import RankLost
    from easyvideor1.training.ranks.processes import launched
    from easyvideor1.training.ranks.restart import Restart

    restart = Restart.of_this_process(config.cluster.max_restarts if launched(config.cluster) is None else 0)
    try:
        return train_and_report(config, console, overrides=overrides, restart=restart)
    except RankLost as error:
        if not restart.left:
            raise
        show_error(str(error))
        restart.begin(str(error))


def _follows(config: RunConfig) -> bool:
    """Whether this is a further rank of ``torchrun``; it has then followed the first one to the end of the run."""
    from easyvideor1.training.ranks.processes import launched

    place = launched(config.cluster)
    if place is None or place.rank == 0:
        return False
    from easyvideor1.training.ranks.line import Line
    from easyvideor1.training.ranks.member import follow

    line = Line(place.host, place.port, prefix=place.prefix)
    follow(line, place.rank, place.ranks, place.local_rank)
    return True


def train_and_report(
    config: RunConfig,
    console: Console,
    *,
    overrides: Sequence[str] = (),
    begun: float | None = None,
    restart: Restart | None = None,
) -> dict[str, Any]:
    """Start or resume a run, then write its summary, curves and report; returns the summary.

    Args:
        config: the run.
        console: where progress is shown.
        overrides: those of ``config`` that come from the command line, which go before a benchmark's own settings.
        begun: ``time.monotonic()`` at the start of preparations that count as part of the run, if there were any.
        restart: see ``easyvideor1.training.run.run``.

    Raises:
        EasyVideoError: see ``easyvideor1.training.run.run`` and ``write_report``.
    """
    from easyvideor1.cli.evaluation.of_training import TrainingEvaluator
    from easyvideor1.cli.progress import TerminalWatch
    from easyvideor1.evaluation import evaluation_fault, write_curves, write_report, write_summary
    from easyvideor1.training.ranks.restart import NO_RESTART
    from easyvideor1.training.run import run
    from easyvideor1.training.run_directory.layout import last_stage_evaluations
    from easyvideor1.training.run_directory.status import read_status
    from easyvideor1.training.stage_steps import known_steps

    prepared = 0.0 if begun is None else time.monotonic() - begun
    watch = TerminalWatch(console)

    try:
        run_dir = run(
            config,
            evaluator=TrainingEvaluator(watch, overrides),
            evaluation_fault=evaluation_fault,
            watch=watch,
            restart=restart or NO_RESTART,
        )
    finally:
        watch.close()
    before, after = last_stage_evaluations(config)
    status = read_status(run_dir)
    summary = write_summary(
        run_dir,
        seed=config.seed,
        steps=sum(known_steps(config, status).values()),
        seconds=prepared + (status or {"seconds": 0.0})["seconds"],
        before=before,
        after=after,
    )
    write_curves(run_dir, redraw=False)
    page = write_report(run_dir, own_code=True)  # it has just run
    console.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
    return summary
