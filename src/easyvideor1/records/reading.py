"""Read the rows of a stage's files back, as far as they can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.records.trajectories import SampleRecord, record_from_json
from easyvideor1.types import DataError

_NUMBERED = re.compile(r"step_(\d+)")
_STAGE = re.compile(r"([0-9]+)-")
#: Endings of the two files of a step's rollouts: its groups, and the arrays beside them (``trajectory_files``).
ROLLOUT_SUFFIXES = (".jsonl", ".npz")


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows of a JSONL file, ``(line, fault)`` of each unreadable line, and whether its end is torn.

    The end is torn if the last line has no newline and cannot be read, because a process is writing it or was killed.
    That line is not a fault.
    """

    rows: tuple[dict[str, Any], ...]
    faults: tuple[tuple[int, str], ...]
    torn: bool


def read_jsonl(path: Path, check: Callable[[Mapping[str, Any]], str] | None = None) -> ReadRows:
    """All rows of a JSONL file that can be read.

    Args:
        path: the file.
        check: says what is wrong with a row, the empty string if nothing is; such a row is a fault.

    Raises:
        DataError: the file is missing or cannot be opened.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); is this the directory of a run?") from error
    rows: list[dict[str, Any]] = []
    faults: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = parse_row(line)
        if isinstance(row, str):
            if number == len(lines):
                return ReadRows(tuple(rows), tuple(faults), torn=True)
            faults.append((number, row))
        elif check is not None and (fault := check(row)):
            faults.append((number, fault))
        else:
            rows.append(row)
    return ReadRows(tuple(rows), tuple(faults), torn=False)


def parse_row(line: bytes) -> dict[str, Any] | str:
    """The JSON object of a line, or why there is none."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({error})"
    return row if isinstance(row, dict) else f"no JSON object but {type(row).__name__}"


def step_fault(row: Mapping[str, Any]) -> str:
    """Why a row has no step; empty if it has one."""
    step = row.get("step")
    whole = isinstance(step, int) and not isinstance(step, bool)
    return "" if whole else "no row of a step (field 'step' is missing or no whole number)"


def canary_fault(row: Mapping[str, Any]) -> str:
    """Why a row is not a warning of the canary; empty if it is one."""
    examples = row.get("examples")
    whole = isinstance(examples, list) and all(isinstance(one, dict) and "response" in one for one in examples)
    return step_fault(row) or ("" if whole else "no warning of the canary")


def read_steps(path: Path) -> tuple[dict[int, dict[str, Any]], ReadRows]:
    """The rows of a file of a stage by step, in order, and everything that was read; empty for a missing file.

    If a step occurs twice, the last row counts, which is the one that a start keeps.

    Raises:
        DataError: it cannot be opened.
    """
    found = read_jsonl(path, step_fault) if path.exists() else ReadRows((), (), torn=False)
    return dict(sorted(((row["step"], row) for row in found.rows), key=lambda pair: pair[0])), found


def numbered(directory: Path, suffix: str = "") -> dict[int, Path]:
    """What a directory holds for single steps (``step_000050`` and a suffix), by step, in order."""
    named = ((_NUMBERED.fullmatch(path.name.removesuffix(suffix)), path) for path in directory.glob(f"step_*{suffix}"))
    return dict(sorted((int(name[1]), path) for name, path in named if name))


def stage_directories(run: Path) -> list[Path]:
    """The directories of a run's stages (``stages/01-sft``) by their numbers: 100 comes after 99. Others come last."""

    def order(path: Path) -> tuple[bool, int, str]:
        number = _STAGE.match(path.name)
        return number is None, int(number[1]) if number else 0, path.name

    return sorted((path for path in (run / "stages").glob("*") if path.is_dir()), key=order)


def numbered_step(name: str) -> int:
    """The step of a rollout file, or of its arrays, by its name; 0 for other files."""
    path = Path(name)
    found = _NUMBERED.fullmatch(path.stem) if path.suffix in ROLLOUT_SUFFIXES else None
    return int(found[1]) if found else 0


def lines_until(path: Path, step: int) -> bytes:
    """The lines of a file of a stage that belong to the first ``step`` steps; those that cannot be read do not."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        row = parse_row(line) if line.endswith(b"\n") else ""
        if not isinstance(row, str) and not step_fault(row) and row["step"] <= step:
            kept.append(line)
    return b"".join(kept)


def rollout_files(stage: Path) -> dict[int, Path]:
    """The rollout files of a stage by step, in order."""
    return numbered(stage / "rollouts", ROLLOUT_SUFFIXES[0])


def array_files(stage: Path) -> dict[int, Path]:
    """The arrays beside the rollout files of a stage by step, in order; a step may have none."""
    return numbered(stage / "rollouts", ROLLOUT_SUFFIXES[1])


def read_rollouts(path: Path, step: int, groups: int | None = None) -> tuple[list[SampleRecord], str]:
    """The groups of a step's rollout file that can be read, and what is wrong with it (empty if nothing is).

    Args:
        path: the file.
        step: that its rows have to name.
        groups: how many it has to hold; any number but none if left out.
    """
    rows: list[SampleRecord] = []

    def fault(row: Mapping[str, Any]) -> str:
        try:
            record = record_from_json(row)
        except (KeyError, TypeError, ValueError) as error:
            return f"no group ({error!r})"
        if record.step != step:
            return f"no group of step {step}"
        rows.append(record)
        return ""

    try:
        found = read_jsonl(path, fault)
    except DataError as error:
        return [], str(error).removeprefix(f"{path}: ")
    wanted = len(rows) + len(found.faults) + found.torn if groups is None else groups
    share = f"{len(rows)} of {wanted} groups can be read"
    if found.torn:
        return rows, f"truncated; {share}"
    if found.faults:
        return rows, f"{lines_words(found.faults)}; {share}"
    if not rows:
        return rows, "empty"
    return rows, "" if len(rows) == wanted else share


def lines_words(faults: Sequence[tuple[int, str]]) -> str:
    line, fault = faults[0]
    others = len(faults) - 1
    more = f", and {others} more {'is' if others == 1 else 'are'} bad" if others else ""
    return f"line {line} is {fault}{more}"
