"""``evr1 status``: how far runs are, and what they need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.completion import complete_runs
from easyvideor1.cli.stage_line import SHOWN

if TYPE_CHECKING:
    from easyvideor1.cli.run_state import RunState

#: Columns of a terminal from which on all of the table is shown.
_WIDE = 100


def status(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Run directories, or directories of runs; ./runs by default.",
            autocompletion=complete_runs,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per run.")] = False,
) -> None:
    """Show how far a run is: its state, step, time left, last rewards, alarms, bad media, disk use, and how to resume.

    Several runs are a table. Nothing is changed, and checkpoints are not read: `evr1 doctor RUN` checks every file. The
    exit status is 1 if a run is damaged.
    """
    from dataclasses import asdict

    from easyvideor1.cli.run_state import read_state

    states = [read_state(directory) for directory in run_directories(runs)]
    if as_json:
        for state in states:
            typer.echo(json.dumps(asdict(state), ensure_ascii=False))
    elif len(states) == 1:
        _show(states[0])
    else:
        _show_table(states)
    if any(state.state == "damaged" for state in states):
        raise typer.Exit(1)


def run_directories(given: Sequence[Path] | None) -> list[Path]:
    """The run directories that are meant: those given, and those inside of directories that are given.

    Raises:
        DataError: there is none.
    """
    from easyvideor1.cli.doctor_run import is_run
    from easyvideor1.types import DataError

    found: list[Path] = []
    for place in given or [Path("runs")]:
        if is_run(str(place)):
            found.append(place)
            continue
        inside = sorted(path for path in (*place.glob("*"), *place.glob("*/*")) if is_run(str(path)))
        if not inside:
            what = "no such directory" if not place.is_dir() else "no run in it"
            raise DataError(f"{place}: {what}; give the output_dir of a run, or a directory that holds runs")
        found += [path for path in inside if path.parent not in inside]
    return list(dict.fromkeys(found))


def _show(state: RunState) -> None:
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.cli.durations import clock

    typer.echo(f"{state.directory}: {_state_words(state)}")
    for fault in state.faults:
        _line("fault", fault)
    if state.stage:
        left = "" if state.left is None or state.state == "finished" else f", about {clock(state.left)} of it left"
        of = f"{state.stage_number} of {state.stages}, " if state.stages else ""
        _line("stage", f"{of}{state.stage}: {_step_words(state)}{left}")
    if state.metrics:
        shown = (f"{short} {state.metrics[name]:.3f}" for name, short in SHOWN.items() if name in state.metrics)
        _line("last step", ", ".join(shown))
    if state.evaluation:
        _line("evaluation", _evaluation_words(state))
    alarms = [f"step {alarm['step']} of {alarm['stage']}: {alarm['message']}" for alarm in state.alarms]
    _line("alarms", f"{len(alarms)}, the last at {alarms[-1]}" if alarms else "none")
    _line("bad rows", f"{state.bad_rows} of {state.rows}")
    media = state.bad_media
    _line("bad media", f"{len(media)} files since the run began, such as {media[0]}" if media else "none")
    disk = {name: size_words(size) for name, size in state.disk.items()}
    _line("disk", f"{disk['total']}: checkpoints {disk['checkpoints']}, rollouts {disk['rollouts']}")
    starts = f"{state.starts} start{'' if state.starts == 1 else 's'}"
    count = len(state.damage)
    found = f", which found {count} item{'' if count == 1 else 's'} damaged (evr1 doctor {quote(state.directory)})"
    _line("work", f"{clock(state.seconds)} in {starts}{found if state.damage else ''}")
    if state.resume:
        here = f"cd {quote(state.working_directory)} && " if state.working_directory else ""
        gone = "if that process is gone: " if state.state == "elsewhere" else ""
        _line("resume", f"{gone}{here}{state.resume}")


def _line(name: str, text: str) -> None:
    typer.echo(f"  {name:<11} {text}")


def _state_words(state: RunState) -> str:
    from easyvideor1.cli.durations import clock

    if state.state in ("running", "elsewhere"):
        owner = f"process {state.pid} on {state.host}" if state.pid else "by a process"
        ages = {"begun": state.begun, "last step": state.idle}
        word, unseen = "running", ""
        if state.state == "elsewhere":
            word, unseen = "begun", ", which cannot be seen from this machine"
            ages = {"last file written": state.written}
        elif not state.starts:
            word = "running, preparing data"
        told = ", ".join(f"{what} {clock(age)} ago" for what, age in ages.items() if age is not None)
        return f"{word}, {owner}{unseen}{f'; {told}' if told else ''}"
    if state.state == "interrupted" and state.idle is not None:
        return f"interrupted; last step {clock(state.idle)} ago"
    return state.state


def _step_words(state: RunState) -> str:
    return f"step {state.step}" + (f" of {state.steps}" if state.steps else "")


def _evaluation_words(state: RunState) -> str:
    found = state.evaluation or {}
    greedy = found.get("greedy")
    words = "no response could be scored"
    if greedy is not None:
        words = f"greedy accuracy {greedy['mean']:.3f} [{greedy['low']:.3f}, {greedy['high']:.3f}]"
    return f"{found.get('name')}: {words} on {found.get('questions')} questions"


def _show_table(states: Sequence[RunState]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.cli.durations import clock

    console, table = Console(), Table(box=None, pad_edge=False)
    titles: tuple[str, ...] = ("run", "state", "stage", "step", "left", "reward", "accuracy", "alarms", "disk")
    if console.width < _WIDE:
        titles = tuple(title for title in titles if title not in ("stage", "alarms", "disk"))
    for title in titles:
        left = title in ("run", "state", "stage")
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for state in states:
        greedy = (state.evaluation or {}).get("greedy")
        reward = state.metrics.get("reward/total")
        going = state.left is not None and state.state != "finished"
        cells = {
            "run": state.directory,
            "state": state.state,
            "stage": state.stage,
            "step": f"{state.step}/{state.steps or '?'}" if state.stage else "",
            "left": str(clock(state.left)) if going and state.left is not None else "",
            "reward": "" if reward is None else f"{reward:.3f}",
            "accuracy": "" if greedy is None else f"{greedy['mean']:.3f}",
            "alarms": str(len(state.alarms)) if state.alarms else "",
            "disk": size_words(state.disk["total"]),
        }
        table.add_row(*(escape(cells[title]) for title in titles))
    console.print(table)
