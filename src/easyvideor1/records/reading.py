"""Read the files of a stage back: their rows, and their damage.

A resumed run, the report and ``evr1 doctor`` read the same files, and must describe damage in the same words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.files import is_sealed
from easyvideor1.records.trajectories import SampleRecord, record_from_json
from easyvideor1.types import DataError

#: Suffix of the file that keeps unreadable lines, so that users can inspect them.
ASIDE = ".damaged"
_NUMBERED = re.compile(r"step_(\d+)")
#: Endings of the two files of a step's rollouts: its groups, and the arrays beside them (``trajectory_files``).
_ROLLOUTS = (".jsonl", ".npz")
_COPY = "restore it from a backup of the run, if there is one; nothing else needs to be done"


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage in a run directory: where, what is wrong, what it means, and what to do."""

    where: str
    what: str
    means: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.means}"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a JSONL file, ``(line, fault)`` of each unreadable line, and whether its end is torn.

    The end is torn if the last line has no newline and cannot be read, because a process is writing it or was killed.
    That line is not a fault.
    """

    rows: tuple[dict[str, Any], ...]
    faults: tuple[tuple[int, str], ...]
    torn: bool


def read_rows(path: Path, check: Callable[[Mapping[str, Any]], str] | None = None) -> Rows:
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
                return Rows(tuple(rows), tuple(faults), torn=True)
            faults.append((number, row))
        elif check is not None and (fault := check(row)):
            faults.append((number, fault))
        else:
            rows.append(row)
    return Rows(tuple(rows), tuple(faults), torn=False)


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


def read_steps(path: Path) -> tuple[dict[int, dict[str, Any]], Rows]:
    """The rows of a file of a stage by step, in order, and everything that was read; empty for a missing file.

    If a step occurs twice, the last row counts, which is the one that a start keeps.

    Raises:
        DataError: it cannot be opened.
    """
    found = read_rows(path, step_fault) if path.exists() else Rows((), (), torn=False)
    return dict(sorted(((row["step"], row) for row in found.rows), key=lambda pair: pair[0])), found


def numbered(directory: Path, suffix: str = "") -> dict[int, Path]:
    """What a directory holds for single steps (``step_000050`` and a suffix), by step, in order."""
    named = ((_NUMBERED.fullmatch(path.name.removesuffix(suffix)), path) for path in directory.glob(f"step_*{suffix}"))
    return dict(sorted((int(name[1]), path) for name, path in named if name))


def numbered_step(name: str) -> int:
    """The step of a rollout file, or of its arrays, by its name; 0 for other files."""
    path = Path(name)
    found = _NUMBERED.fullmatch(path.stem) if path.suffix in _ROLLOUTS else None
    return int(found[1]) if found else 0


def lines_until(path: Path, step: int) -> bytes:
    """The lines of a file of a stage that belong to the first ``step`` steps; those that cannot be read do not."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        row = parse_row(line) if line.endswith(b"\n") else ""
        if not isinstance(row, str) and not step_fault(row) and row["step"] <= step:
            kept.append(line)
    return b"".join(kept)


def record_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of a stage's record until a checkpoint, as that keeps them; none where it does not."""
    try:
        state = json.loads((checkpoint / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(state.get("record", {})) if is_sealed(state) else {}


def changed_files(stage: Path, step: int, digests: Mapping[str, str]) -> list[Damage]:
    """Metrics, warnings and rollouts of a stage that are not what was written, and token arrays that are missing.

    Args:
        stage: its directory.
        step: of the checkpoint that kept the digests.
        digests: SHA-256 of every file until that step, by its name in the directory.
    """
    found = []
    for name, digest in digests.items():
        path = stage / name
        if not path.exists():
            # Other files that are missing, and steps that lack both of their files, are told by ``stage_damage``.
            if path.suffix == _ROLLOUTS[1] and path.with_suffix(_ROLLOUTS[0]).exists():
                means = "the token arrays of this step are lost; the weights do not depend on them"
                found.append(Damage(f"stages/{stage.name}/{name}", "missing", means, _COPY))
            continue
        content = path.read_bytes() if numbered_step(name) else lines_until(path, step)
        if hashlib.sha256(content).hexdigest() != digest:
            what = f"is not what was written until step {step} (its SHA-256 differs)"
            means = "it was edited, or the disk has changed it; the weights do not depend on it"
            found.append(Damage(f"stages/{stage.name}/{name}", what, means, _COPY))
    return found


def rollout_files(stage: Path) -> dict[int, Path]:
    """The rollout files of a stage by step, in order."""
    return numbered(stage / "rollouts", _ROLLOUTS[0])


def array_files(stage: Path) -> dict[int, Path]:
    """The arrays beside the rollout files of a stage by step, in order; a step may have none."""
    return numbered(stage / "rollouts", _ROLLOUTS[1])


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
        found = read_rows(path, fault)
    except DataError as error:
        return [], str(error).removeprefix(f"{path}: ")
    wanted = len(rows) + len(found.faults) + found.torn if groups is None else groups
    share = f"{len(rows)} of {wanted} groups can be read"
    if found.torn:
        return rows, f"truncated; {share}"
    if found.faults:
        return rows, f"{_lines_words(found.faults)}; {share}"
    if not rows:
        return rows, "empty"
    return rows, "" if len(rows) == wanted else share


def stage_damage(stage: Path, steps: int | None = None, told: Collection[str] = ()) -> list[Damage]:
    """What is damaged among the metrics, clocks, warnings and rollouts of a stage.

    Args:
        stage: its directory.
        steps: steps that it has done; as its files tell, if left out.
        told: places of which something was told already; that they also differ from their digests is left out.
    """
    metrics, read = read_steps(stage / "metrics.jsonl")
    clocks, clocked = read_steps(stage / "timings.jsonl")
    files = rollout_files(stage)
    if steps is None:
        # A checkpoint comes after all else of its step, and the rollouts of a step after all of the step before.
        through = max([0, *numbered(stage / "checkpoints"), *(step - 1 for step in files)])
        done, timed = max([through, *metrics]), max([through, *(step - 1 for step in metrics)])
    else:
        done = timed = steps
    damage = _rows_damage(
        stage / "metrics.jsonl",
        read,
        missing=[step for step in range(1, done + 1) if step not in metrics],
        means="the curves and the canary miss these lines; the weights do not depend on them",
    )
    damage += _rows_damage(
        stage / "timings.jsonl",
        clocked,
        missing=[step for step in range(1, timed + 1) if step not in clocks],
        means="the durations of these steps are lost; nothing depends on them",
    )
    if (stage / "canary.jsonl").exists():
        warnings, means = read_rows(stage / "canary.jsonl", canary_fault), "warnings are lost; nothing depends on them"
        damage += _rows_damage(stage / "canary.jsonl", warnings, missing=[], means=means)
    damage += _rollouts_damage(stage, files, done, metrics)
    checkpoints = {step: path for step, path in numbered(stage / "checkpoints").items() if step <= done}
    kept = [(step, digests) for step, path in checkpoints.items() if (digests := record_digests(path))]
    known = {*told, *(one.where for one in damage)}
    changed = changed_files(stage, *kept[-1]) if kept else []
    return [*damage, *(one for one in changed if one.where not in known)]


def _rollouts_damage(
    stage: Path, files: Mapping[int, Path], done: int, metrics: Mapping[int, Mapping[str, Any]]
) -> list[Damage]:
    where = f"stages/{stage.name}/rollouts"
    damage = []
    if missing := [step for step in range(1, done + 1) if step not in files]:
        means = "the responses of these steps are lost; the weights do not depend on them"
        damage.append(Damage(where, f"no file of {steps_words(missing)}", means, _COPY))
    for step, path in files.items():
        if step > done:
            continue  # under way, or to be done again
        groups = metrics.get(step, {}).get("groups/all")
        _, fault = read_rollouts(path, step, int(groups) if isinstance(groups, int | float) else None)
        if fault:
            means = f"the other responses of step {step} are lost; the weights do not depend on them"
            damage.append(Damage(f"{where}/{path.name}", fault, means, _COPY))
    return damage


def _rows_damage(path: Path, found: Rows, *, missing: list[int], means: str) -> list[Damage]:
    faults = []
    if found.faults:
        faults.append(_lines_words(found.faults))
    if missing:
        aside = path.with_name(f"{path.name}{ASIDE}")
        kept = f" ({aside.name} keeps lines that cannot be read)" if aside.exists() else ""
        faults.append(f"no row of {steps_words(missing)}{kept}")
    if not faults:
        return []
    return [Damage(f"stages/{path.parent.name}/{path.name}", "; ".join(faults), means, _COPY)]


def _lines_words(faults: Sequence[tuple[int, str]]) -> str:
    line, fault = faults[0]
    others = len(faults) - 1
    more = f", and {others} more {'is' if others == 1 else 'are'} bad" if others else ""
    return f"line {line} is {fault}{more}"


def steps_words(steps: Iterable[int]) -> str:
    """``step 3``, or ``steps 1 to 3, 5 and 7 to 9 (7)``: some steps and, where it helps, how many they are."""
    runs: list[list[int]] = []
    for step in sorted(steps):
        if runs and step == runs[-1][-1] + 1:
            runs[-1][1:] = [step]
        else:
            runs.append([step])
    words = [" to ".join(map(str, run)) for run in runs]
    count = sum(run[-1] - run[0] + 1 for run in runs)
    if count == 1:
        return f"step {words[0]}"
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"steps {listed} ({count})" if len(words) > 1 else f"steps {listed}"
