"""The rollout files of a run as the index reads them: which there are, and what can be read of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.records.reading import parse_row, rollout_files, stage_directories
from easyvideor1.records.trajectories import SampleRecord, record_from_json
from easyvideor1.viewer.rollout_filter import words_of
from easyvideor1.viewer.rollout_rows import group_values, member_values

#: Size, time of change and inode of a file: another one is another file.
State = tuple[int, int, int]
#: The largest whole number that SQLite keeps.
_LARGEST = (1 << 63) - 1


def files_of(run: Path) -> dict[tuple[str, int], tuple[Path, State]]:
    """The rollout files of a run with their states, by stage and step, in order."""
    found = {}
    for stage in stage_directories(run):
        for step, path in rollout_files(stage).items():
            try:
                found[stage.name, step] = path, state_of(path.stat())
            except OSError:
                continue  # removed since it was listed
    return found


def state_of(stat: os.stat_result) -> State:
    """The state of a file."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ino & _LARGEST  # some file systems have inodes of 64 bits


@dataclass(frozen=True, slots=True)
class Line:
    """A group as the index keeps it: the values of its columns and of those of its responses, and the texts that are
    searched through, of the question and of each response."""

    group: tuple[Any, ...]
    members: tuple[tuple[Any, ...], ...]
    question: str
    responses: tuple[str, ...]

    @classmethod
    def of(cls, key: tuple[str, int], place: int, record: SampleRecord) -> Line:
        """The line of a record.

        Raises:
            TypeError, ValueError, OverflowError: a value is none of its kind.
        """
        group = group_values(*key, place, record)
        asked = "\n".join((record.sample, record.question, record.answer, *record.options))
        return cls(
            group,
            tuple(member_values(group[0], number, each) for number, each in enumerate(record.trajectories)),
            words_of(asked),
            tuple(words_of(each.response) for each in record.trajectories),
        )


def lines_of(content: bytes, key: tuple[str, int]) -> tuple[list[Line], str]:
    """The groups of a file of rollouts, and what is wrong with it; empty if nothing is.

    Args:
        content: of the file.
        key: its stage and step.
    """
    found: list[Line] = []
    faults: list[str] = []
    lines = content.split(b"\n")
    place = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = parse_row(line)
        if isinstance(row, str):
            faults.append("its last line is cut short" if number == len(lines) else f"line {number} is {row}")
        else:
            try:
                found.append(Line.of(key, place, record_from_json(row)))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                faults.append(f"line {number} is no group ({error!r})")
        place += 1
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return found, f"{faults[0]}{more}" if faults else "" if found else "empty"
