"""Timing several ways to do one thing, in turns, so that what else happens on the machine hits all of them alike."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from easyvideor1.attention.functions import register
from easyvideor1.families.torchvision_import import import_torchvision
from easyvideor1.types import EasyVideoError


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each repetition; the medians are what is reported."""

    walls: tuple[float, ...]
    cpus: tuple[float, ...]

    @property
    def wall(self) -> float:
        """Median seconds by the clock."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """Median seconds of processor time, user and system, of all threads."""
        return statistics.median(self.cpus)


def by_round(first: Timing, second: Timing) -> float:
    """Median of the ratios of clock times, round by round: for works whose rounds differ from one another."""
    return statistics.median(one / other for one, other in zip(first.walls, second.walls, strict=True))


#: Does the work and says what it took, in seconds: ``(clock, processor)``.
Work = Callable[[], tuple[float, float]]


def interleaved(works: Mapping[str, Work], repetitions: int, *, warm_up: int = 0) -> dict[str, Timing]:
    """Every work once, then every work again, and so on; the first ``warm_up`` rounds do not count.

    The order turns round by round, so that none always follows the same other one.
    """
    names = list(works)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(warm_up + repetitions):
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            gc.collect()
            seconds = works[name]()
            if turn >= warm_up:
                taken[name].append(seconds)
    return {
        name: Timing(tuple(wall for wall, _ in rows), tuple(cpu for _, cpu in rows)) for name, rows in taken.items()
    }


def timed(work: Callable[[], object]) -> Work:
    """A function of this process as a ``Work``."""

    def run() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - wall, time.process_time() - cpu

    return run


#: Half a second of arithmetic, in a process that shares nothing with another one.
_SPIN = (sys.executable, "-S", "-c", "sum(i * i for i in range(6_000_000))")


def machine_scaling(repetitions: int) -> float:
    """How much faster two processes are here and now than one, at work that they do not share.

    No division of work can do better: it is 2 on two idle cores, and less when somebody else uses them.
    """

    def one() -> None:
        for _ in range(2):
            subprocess.run(_SPIN, check=True)

    def two() -> None:
        with subprocess.Popen(_SPIN), subprocess.Popen(_SPIN):
            pass

    timings = interleaved({"one": timed(one), "two": timed(two)}, repetitions, warm_up=1)
    return by_round(timings["one"], timings["two"])


@dataclass(frozen=True, slots=True)
class Package:
    """Something that a benchmark uses: its module, its name for pip, and the command that installs it."""

    module: str
    name: str
    command: str = 'pip install -e ".[bench]"'


def check_packages(*, needed: Sequence[Package] = (), compared: Sequence[Package] = (), models: bool = True) -> None:
    """Find out in the first seconds what a benchmark would fail for after minutes; every ``main`` begins with it.

    What it is only ``compared`` with is told on stderr where it is missing, and the benchmark goes on without it.

    Args:
        needed: without these there is no benchmark.
        compared: without these there are fewer columns.
        models: whether a model will be loaded; transformers is imported for that as far as a model needs it.

    Raises:
        SystemExit: with status 2: something needed is missing or broken; all of it is named, with the commands.
    """
    missing = [package for package in needed if importlib.util.find_spec(package.module) is None]
    faults = [f"{package.name} is not installed: {package.command}" for package in missing]
    for package in compared:
        if importlib.util.find_spec(package.module) is None:
            print(f"not compared with {package.name}, which is not installed: {package.command}", file=sys.stderr)
    if models:
        try:
            if done := import_torchvision():
                print(f"{done} (the rest of it is used)", file=sys.stderr)
            register()
        except (EasyVideoError, ImportError) as error:
            faults.append(f"models cannot be loaded: {error}")
    if faults:
        print("\n".join(f"error: {fault}" for fault in faults), file=sys.stderr)
        raise SystemExit(2)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width under a title; the first is flush left, the others flush right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [title]
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
